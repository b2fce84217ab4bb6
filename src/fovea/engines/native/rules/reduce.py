"""Reductions: Reduce, global pooling, softmax, and random masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fovea.engines.native.rules.join import sizes
from fovea.engines.native.rules.rule import Rule, same_gradient, same_value
from fovea.ops import Dropout, Reduce, Softmax, StochasticDepth
from fovea.ops.base import normal_axis

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.engines.native.program import Operand
    from fovea.graph.graph import Node

__all__ = ["REDUCTIONS"]

Run = tuple[int, int, int]
"""One reduction: what lies outside the axis, the axis, what lies inside."""


def runs(shape: tuple[int, ...], axes: tuple[int, ...]) -> list[Run]:
    """Reductions from the innermost axes outwards; neighbouring axes are one."""
    result: list[Run] = []
    current = list(shape)
    axis = len(shape) - 1
    while axis >= 0:
        last = axis
        while axis in axes:
            axis -= 1
        if axis < last:
            size = math.prod(current[axis + 1 : last + 1])
            result.append((math.prod(current[: axis + 1]), size, math.prod(current[last + 1 :])))
            current[axis + 1 : last + 1] = [1] * (last - axis)
        else:
            axis -= 1
    return result


def reduction(low: Lowering, node: Node) -> tuple[str, list[Run]]:
    """ "mean", "sum" or "max", and what is reduced."""
    shape = sizes(low, node.inputs[0])
    if isinstance(node.op, Reduce):
        return node.op.reduction, runs(shape, node.op.sample_axes(shape))
    return "max" if node.op.kind == "globalmaxpool" else "mean", runs(shape, tuple(range(len(shape) - 1)))


def factor_of(kind: str, run: Run) -> tuple[float, ...]:
    """What a sum is multiplied by: 1 / elements for the mean; a maximum has no factor."""
    return () if kind == "max" else (1.0 / run[1] if kind == "mean" else 1.0,)


def reduce_forward(low: Lowering, node: Node) -> None:
    """One kernel per run of neighbouring axes; for the maximum every intermediate value stays for backward."""
    kind, steps = reduction(low, node)
    kernel = "reduce_max" if kind == "max" else "reduce_sum"
    value: Operand = low.input(node)
    for index, run in enumerate(steps):
        result = low.output(node) if index == len(steps) - 1 else low.buffer(run[0] * run[2])
        low.saved[f"{node.name} {index}"] = value
        low.emit(kernel, [result], [value], run, factor_of(kind, run))
        value = result
    low.saved[f"{node.name} {len(steps)}"] = value


def reduce_backward(low: Lowering, node: Node) -> None:
    """Spread evenly, or to the first maximum."""
    kind, steps = reduction(low, node)
    gradient = low.grad(node)
    for index, run in reversed(list(enumerate(steps))):
        before = low.buffer(math.prod(run))
        if kind == "max":
            seen = [low.saved[f"{node.name} {i}"] for i in (index, index + 1)]
            low.emit("reduce_max_backward", [before], [gradient, *seen], run)
        else:
            low.emit("reduce_sum_backward", [before], [gradient], run, factor_of(kind, run))
        gradient = before
    low.add_grad(node, 0, gradient)


# --- softmax


def softmax_run(low: Lowering, node: Node) -> Run:
    """The axis of a softmax as outer, length and inner elements."""
    assert isinstance(node.op, Softmax)
    shape = sizes(low, node.inputs[0])
    axis = normal_axis(node.op.kind, node.op.axis, shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def softmax_forward(low: Lowering, node: Node) -> None:
    """Along one axis."""
    run = softmax_run(low, node)
    low.emit("softmax_rows" if run[2] == 1 else "softmax", [low.output(node)], [low.input(node)], run)


def softmax_backward(low: Lowering, node: Node) -> None:
    """dx = y (dy - sum dy y)."""
    dx = low.grad_input(node)
    low.emit("softmax_backward", [dx], [low.grad(node), low.value(node)], softmax_run(low, node))
    low.add_grad(node, 0, dx)


# --- random masks


def mask_numbers(node: Node) -> tuple[int, float]:
    """The threshold on 32-bit words, and 1 / (1 - rate)."""
    assert isinstance(node.op, (Dropout, StochasticDepth))
    return math.ceil(node.op.rate * 2**32), float(np.float32(1) / np.float32(1 - node.op.rate))


def masks(low: Lowering, node: Node) -> bool:
    """Whether the node draws a mask in this plan."""
    return low.spec.trains(node) and node.op.has_randomness


def mask_forward(low: Lowering, node: Node) -> None:
    """y = x mask / (1 - rate) in training, else x."""
    if not masks(low, node):
        return same_value(low, node)
    threshold, scale = mask_numbers(node)
    y, key = low.output(node), low.key(node)
    low.saved[node.name] = key
    low.emit(node.op.kind, [y], [low.input(node), key], [y.elements, threshold], (scale,), inplace=((0, 0),))
    return None


def mask_backward(low: Lowering, node: Node) -> None:
    """The same mask, drawn again."""
    if not masks(low, node):
        return same_gradient(low, node)
    threshold, scale = mask_numbers(node)
    dx, key = low.grad_input(node), low.saved[node.name]
    low.emit(node.op.kind, [dx], [low.grad(node), key], [dx.elements, threshold], (scale,), inplace=((0, 0),))
    low.add_grad(node, 0, dx)
    return None


REDUCTIONS = {
    "reduce": Rule(reduce_forward, reduce_backward),
    "globalavgpool": Rule(reduce_forward, reduce_backward),
    "globalmaxpool": Rule(reduce_forward, reduce_backward),
    "softmax": Rule(softmax_forward, softmax_backward),
    "dropout": Rule(mask_forward, mask_backward),
    "stochasticdepth": Rule(mask_forward, mask_backward),
}
