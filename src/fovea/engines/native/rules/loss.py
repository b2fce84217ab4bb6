"""Losses: values and targets -> one number for the batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engines.native.program import Buffer, Operand
from fovea.engines.native.rules.rule import Rule
from fovea.graph.graph import Ref
from fovea.ops import FocalLoss, IoULoss, QualityFocalLoss, SmoothL1, SoftmaxCrossEntropy
from fovea.ops.loss import VARIANTS

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.graph.graph import Node

__all__ = ["LOSSES"]


def loss_output(low: Lowering, node: Node) -> Buffer:
    """One float for the batch."""
    result = Buffer(1, per_sample=False)
    low.values[Ref(node.name)] = result
    return result


# --- softmax cross-entropy


def softmax_ints(low: Lowering, node: Node) -> list[int]:
    """Rows of one sample, C, whether targets are probabilities, rows of a full batch."""
    assert isinstance(node.op, SoftmaxCrossEntropy)
    *spatial, classes = node.input_shapes[0]
    rows = math.prod(size or 0 for size in spatial)
    return [rows, classes or 0, int(node.op.soft_targets), rows * low.spec.batch_size]


def class_weights(low: Lowering, node: Node) -> Operand:
    """The weights of the classes as a constant of the plan, or None."""
    assert isinstance(node.op, SoftmaxCrossEntropy)
    return None if node.op.class_weights is None else low.constant(node.op.class_weights)


def softmax_target(low: Lowering, node: Node) -> Operand:
    """Probabilities as float32; integers as int64, also when they were computed as floats."""
    assert isinstance(node.op, SoftmaxCrossEntropy)
    target = low.raw_input(node, 1)
    if node.op.soft_targets:
        return low.input(node, 1)
    if target is not None and target.dtype != "int64":
        index = low.buffer(low.size(node.inputs[1]), "int64")
        low.emit("cast_index", [index], [low.input(node, 1)], [index.elements])
        return index
    return target


def softmax_forward(low: Lowering, node: Node) -> None:
    """The loss; log-sum-exp of every row and the sum of weights stay for backward."""
    assert isinstance(node.op, SoftmaxCrossEntropy)
    ints = softmax_ints(low, node)
    saved = Buffer(2 * ints[3] + 2, per_sample=False)
    low.saved[node.name] = saved
    target = softmax_target(low, node)
    low.saved[f"{node.name} target"] = target
    ins = [low.input(node), target, class_weights(low, node)]
    low.emit("softmaxcrossentropy", [loss_output(low, node), saved], ins, ints, (node.op.label_smoothing,))


def softmax_backward(low: Lowering, node: Node) -> None:
    """dlogits = (softmax - target) / rows, scaled by the gradient of the loss."""
    assert isinstance(node.op, SoftmaxCrossEntropy)
    saved, target, weights = low.saved[node.name], low.saved[f"{node.name} target"], class_weights(low, node)
    dx = low.grad_input(node) if low.needs(node) else None
    soft = node.op.soft_targets and low.needs(node, 1)
    dt = low.grad_input(node, 1) if soft else None
    ins = [low.grad(node), saved, low.input(node), target, weights]
    low.emit("softmaxcrossentropy_backward", [dx, dt], ins, softmax_ints(low, node), (node.op.label_smoothing,))
    hand_on(low, node, dx, dt)


def hand_on(low: Lowering, node: Node, dx: Operand, dt: Operand) -> None:
    """The gradients of values and targets, where they are wanted."""
    if dx is not None:
        low.add_grad(node, 0, dx)
    if dt is not None:
        low.add_grad(node, 1, dt)


# --- element by element


def value_numbers(low: Lowering, node: Node) -> tuple[list[int], tuple[float, float]]:
    """Floats of one sample and whether the mean is over samples; the op's numbers."""
    size = low.size(node.inputs[0])
    if isinstance(node.op, FocalLoss):
        return [size, 1], (node.op.gamma, node.op.alpha)
    if isinstance(node.op, QualityFocalLoss):
        return [size, 1], (node.op.beta, 0.0)
    return [size, 0], (node.op.beta if isinstance(node.op, SmoothL1) else 0.0, 0.0)


def overlap_ints(low: Lowering, node: Node) -> list[int]:
    """Points of one sample, and which overlap is taken."""
    assert isinstance(node.op, IoULoss)
    return [low.size(node.inputs[0]) // 4, VARIANTS.index(node.op.variant)]


def loss_numbers(low: Lowering, node: Node) -> tuple[list[int], tuple[float, ...]]:
    """The integers and reals of a loss's kernel."""
    return (overlap_ints(low, node), ()) if isinstance(node.op, IoULoss) else value_numbers(low, node)


def value_forward(low: Lowering, node: Node) -> None:
    """Mean of the losses of all elements (focal and overlap: their sum over the samples)."""
    low.emit(node.op.kind, [loss_output(low, node)], [low.input(node), low.input(node, 1)], *loss_numbers(low, node))


def value_backward(low: Lowering, node: Node) -> None:
    """Gradients of values and, where wanted, targets."""
    dx = low.grad_input(node) if low.needs(node) else None
    dt = low.grad_input(node, 1) if low.needs(node, 1) else None
    ins = [low.grad(node), low.input(node), low.input(node, 1)]
    low.emit(f"{node.op.kind}_backward", [dx, dt], ins, *loss_numbers(low, node))
    hand_on(low, node, dx, dt)


_BY_VALUE = ("binarycrossentropy", "focalloss", "iouloss", "meansquarederror", "qualityfocalloss", "smoothl1")
LOSSES = {
    "softmaxcrossentropy": Rule(softmax_forward, softmax_backward),
    **dict.fromkeys(_BY_VALUE, Rule(value_forward, value_backward)),
}
