"""Rules of several nodes at once; fusion.py says where they apply."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engines.native.program import Buffer, Section
from fovea.engines.native.rules.norm import rows_and_channels
from fovea.engines.native.rules.rule import Rule
from fovea.engines.native.rules.window import conv_ints
from fovea.graph.graph import Ref
from fovea.ops import BatchNorm

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.engines.native.program import Operand
    from fovea.graph.graph import Node

__all__ = [
    "BATCHNORM",
    "added_and_clamped",
    "clamped",
    "folded",
    "folded_backward",
    "folded_forward",
    "highest",
    "norm_backward",
    "norm_forward",
]


def highest(clamp: Node | None) -> float:
    """Where the clamp ends: 6, or nowhere."""
    return 6.0 if clamp is not None and clamp.op.kind == "relu6" else math.inf


# --- convolution and what its tiles do as well


def clamped(conv: Node, low: Lowering, node: Node) -> None:
    """y = clamp(x * weight + bias); backward the nodes stand alone: the clamp's mask follows from y."""
    ins = [low.input(conv), low.parameter(conv, "weight"), low.parameter(conv, "bias")]
    low.emit("conv_forward", [low.output(node)], ins, [*conv_ints(conv), 1], (0.0, highest(node)))


def folded_forward(conv: Node, norm: Node, clamp: Node | None, low: Lowering, node: Node) -> None:
    """y = clamp(x * weight' + bias') with weight' = weight gamma / sigma, which ``saved`` keeps for backward."""
    weight, bias = folded(conv, norm, low, Section.FORWARD if low.spec.lean else Section.PREPARE)
    low.saved[conv.name] = weight
    ints = [*conv_ints(conv), int(clamp is not None)]
    low.emit("conv_forward", [low.output(node)], [low.input(conv), weight, bias], ints, (0.0, highest(clamp)))


def folded(conv: Node, norm: Node, low: Lowering, section: Section = Section.PREPARE) -> tuple[Buffer, Buffer]:
    """weight' and bias' of a convolution that applies the normalisation behind it, in a section: PREPARE renews them
    when the weights change, FORWARD in every run, in memory that other layers use as well."""
    assert isinstance(norm.op, BatchNorm)
    size, channels = conv.parameters[f"{conv.name}.weight"].size, conv_ints(conv)[2]
    weight, bias = Buffer(size, per_sample=False), Buffer(channels, per_sample=False)
    ins: list[Operand] = [low.parameter(conv, "weight"), low.parameter(conv, "bias")]
    ins += [low.parameter(norm, "weight"), low.parameter(norm, "bias")]
    ins += [low.stored(norm, "running_mean"), low.stored(norm, "running_var")]
    low.section, section = section, low.section
    low.emit("batchnorm_fold", [weight, bias], ins, [size // channels, channels], (norm.op.eps,))
    low.section = section
    return weight, bias


def folded_backward(low: Lowering, node: Node) -> None:
    """dx through the folded weight; it has no trained parameters."""
    dx = low.grad_input(node)
    ins = [low.grad(node), low.saved[node.name], None]
    low.emit("conv_backward_data", [dx], ins, [*conv_ints(node), 0], (0.0, 0.0))
    low.add_grad(node, 0, dx)


# --- batch norm, addition, clamp


def other_input(norm: Node, add: Node) -> int:
    """Which input of the addition is not the normalised one."""
    return 1 if add.inputs[0].node == norm.name else 0


def norm_forward(norm: Node, add: Node | None, clamp: Node | None, low: Lowering, node: Node) -> None:
    """y = clamp(z + residual): batch statistics in training, running ones else; they stay for backward."""
    assert isinstance(norm.op, BatchNorm)
    ints = [*rows_and_channels(norm), int(clamp is not None)]
    residual = None if add is None else low.input(add, other_input(norm, add))
    x, y = low.input(norm), low.output(node)
    if norm.name in low.fusions.measured:
        low.emit("batchnorm_apply", [y], [x, low.saved[norm.name], residual], ints, (highest(clamp),))
        return
    saved = Buffer(4 * ints[1], per_sample=False)
    low.saved[norm.name] = saved
    affine = [low.parameter(norm, "weight"), low.parameter(norm, "bias")]
    running = [low.stored(norm, "running_mean"), low.stored(norm, "running_var")]
    if low.spec.trains(norm):
        reals = (highest(clamp), norm.op.eps, norm.op.momentum)
        low.emit("batchnorm", [y, saved, *running], [x, *affine, residual], ints, reals)
    else:
        reals_ = (highest(clamp), norm.op.eps)
        low.emit("batchnorm_inference", [y, saved], [x, *affine, *running, residual], ints, reals_, inplace=((0, 0),))


_OPEN, _BY_OUTPUT, _BY_INPUT = 0, 1, 2


def norm_backward(norm: Node, add: Node | None, clamp: Node | None, low: Lowering, node: Node) -> None:
    """The masked gradient goes to the residual, and through the statistics to the input."""
    masked = clamp is not None and clamp.name not in low.fusions.gated
    by_output = add is not None or not low.spec.trains(norm)  # constant statistics: the input is not read again
    kind = _OPEN if not masked else _BY_OUTPUT if by_output else _BY_INPUT
    other = None if add is None else other_input(norm, add)
    to_residual = add is not None and other is not None and low.needs(add, other)
    # Where the masked gradient is stored, the first pass adds what two readers of the output sent.
    stored = to_residual and masked and low.spec.trains(norm)
    dy, *more = low.grad_terms(Ref(node.name), 2 if stored else 1)
    saved = low.saved[norm.name]
    dskip = low.grad_input(norm) if to_residual and masked else None
    dx = low.grad_input(norm) if low.needs(norm) or dskip is not None else None
    x = low.input(norm) if low.spec.trains(norm) else None
    ins = [dy, x, low.value(node) if kind == _BY_OUTPUT else None, saved]
    ints, reals = [*rows_and_channels(norm), kind], (highest(clamp),)
    if low.spec.trains(norm):
        grads = [low.grad_parameter(norm, "weight"), low.grad_parameter(norm, "bias")]
        term = more[0] if more else None
        # The first pass turns dy into the masked gradient, in its place; the second has no more use for the other term.
        inplace = ((3, 0), (0, 4)) if stored else ((0, 0),)
        low.emit("batchnorm_backward", [dx, *grads, dskip], [*ins, term], ints, reals, inplace)
    elif dx is not None:
        low.emit("batchnorm_inference_backward", [dx, dskip], ins, ints, reals, inplace=((0, 0),))
    if add is not None and other is not None and to_residual:
        low.add_grad(add, other, dskip if masked else dy)
    if low.needs(norm):
        low.add_grad(norm, 0, dx)


def batchnorm_forward(low: Lowering, node: Node) -> None:
    """Batch norm alone."""
    norm_forward(node, None, None, low, node)


def batchnorm_backward(low: Lowering, node: Node) -> None:
    """Batch norm alone."""
    norm_backward(node, None, None, low, node)


BATCHNORM = {"batchnorm": Rule(batchnorm_forward, batchnorm_backward)}


# --- addition and ReLU


def added_and_clamped(add: Node, low: Lowering, node: Node) -> None:
    """y = max(a + b, 0)."""
    y = low.output(node)
    low.emit("add", [y], [low.input(add, 0), low.input(add, 1)], [y.elements, 1], inplace=((0, 0),))
