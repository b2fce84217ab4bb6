"""Ops that move, pick or repeat elements, and resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fovea.engines.native.rules.join import copy_ints, pieces, sizes, strides
from fovea.engines.native.rules.rule import IDENTITY, Rule, no_gradient, same_value
from fovea.graph.graph import Ref
from fovea.ops import AdaptiveAvgPool, ChannelShuffle, Pad, Resize, Slice, Split, Transpose
from fovea.ops.base import normal_axis

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.engines.native.program import Operand
    from fovea.graph.graph import Node

__all__ = ["RESHAPES"]

Sizes = tuple[int, ...]


# --- transpose, channel shuffle, slice: one strided copy


class Move(NamedTuple):
    """Output element i (of ``size``) is the input element at ``offset + sum of i * steps``."""

    size: Sizes
    steps: Sizes
    offset: int = 0


def transposed(low: Lowering, node: Node) -> Move:
    """Output axis i is input axis perm[i]."""
    assert isinstance(node.op, Transpose)
    own = sizes(low, node.inputs[0])
    axes = [axis - 1 for axis in node.op.perm[1:]]
    return Move(tuple(own[axis] for axis in axes), tuple(strides(own)[axis] for axis in axes))


def shuffled(low: Lowering, node: Node) -> Move:
    """The channels as a table of groups, read column by column."""
    assert isinstance(node.op, ChannelShuffle)
    *spatial, channels = sizes(low, node.inputs[0])
    each = channels // node.op.groups
    return Move((math.prod(spatial), each, node.op.groups), (channels, 1, each))


def sliced(low: Lowering, node: Node) -> Move:
    """Starts and steps of every axis."""
    assert isinstance(node.op, Slice)
    own = sizes(low, node.inputs[0])
    ranges = [range(size)[one] for size, one in zip(own, node.op.slices(own), strict=True)]
    pairs = list(zip(ranges, strides(own), strict=True))
    return Move(
        tuple(len(one) for one in ranges),
        tuple(one.step * step for one, step in pairs),
        sum(one.start * step for one, step in pairs),
    )


def mover(move_of: Callable[[Lowering, Node], Move], covers: bool) -> Rule:
    """A rule of a strided copy; ``covers``: every input element is read, so that backward writes all of them."""

    def forward(low: Lowering, node: Node) -> None:
        move, y = move_of(low, node), low.output(node)
        samples = (low.size(node.inputs[0]), y.elements)
        low.emit(
            "copy",
            [y],
            [low.input(node)],
            copy_ints(move.size, move.steps, strides(move.size), samples, (move.offset, 0)),
        )

    def backward(low: Lowering, node: Node) -> None:
        move, dx = move_of(low, node), low.grad_input(node)
        samples = (low.size_of_output(node), dx.elements)
        if not covers:
            low.emit("fill", [dx], [], [dx.elements], (0.0,))
        low.emit(
            "copy",
            [dx],
            [low.grad(node)],
            copy_ints(move.size, strides(move.size), move.steps, samples, (0, move.offset)),
        )
        low.add_grad(node, 0, dx)

    return Rule(forward, backward)


# --- split


def split_parts(low: Lowering, node: Node) -> list[tuple[list[int], list[int]]]:
    """The ints that copy every output into the input, and out of it."""
    assert isinstance(node.op, Split)
    whole = sizes(low, node.inputs[0])
    parts = [sizes(low, Ref(node.name, i)) for i in range(node.op.num_outputs)]
    return pieces(low, node, whole, parts, normal_axis(node.op.kind, node.op.axis, whole))


def split_forward(low: Lowering, node: Node) -> None:
    """Every output is copied from its place."""
    for index, (_, out) in enumerate(split_parts(low, node)):
        low.emit("copy", [low.output(node, index)], [low.input(node)], out)


def split_backward(low: Lowering, node: Node) -> None:
    """The pieces joined again."""
    dx = low.grad_input(node)
    for index, (into, _) in enumerate(split_parts(low, node)):
        low.emit("copy", [dx], [low.grad(node, index)], into)
    low.add_grad(node, 0, dx)


# --- constant


def constant_forward(low: Lowering, node: Node) -> None:
    """The same numbers for every sample."""
    y = low.output(node)
    low.emit("copy", [y], [low.stored(node, "value")], copy_ints((y.elements,), (1,), (1,), (0, y.elements), (0, 0)))


# --- resize, adaptive pooling, padding: axis by axis


class Along(NamedTuple):
    """One axis of a chain: a kernel, the sample's shape before it, the axis, its output size, and its tables."""

    kernel: str
    shape: Sizes
    axis: int
    out: int
    ints: Sequence[int]
    reals: Sequence[float] = ()

    @property
    def result(self) -> Sizes:
        """The shape of one sample after the step."""
        return (*self.shape[: self.axis], self.out, *self.shape[self.axis + 1 :])

    @property
    def all_ints(self) -> list[int]:
        """The integers of the kernel: outer, length, output length, inner, then its own."""
        outer, inner = math.prod(self.shape[: self.axis]), math.prod(self.shape[self.axis + 1 :])
        return [outer, self.shape[self.axis], self.out, inner, *self.ints]


def chain(steps_of: Callable[[Lowering, Node], list[Along]]) -> Rule:
    """A rule of one kernel per axis; without an axis to change the output is the input."""

    def forward(low: Lowering, node: Node) -> None:
        value: Operand = low.input(node)
        steps = steps_of(low, node)
        for one in steps:
            result = low.output(node) if one is steps[-1] else low.buffer(math.prod(one.result))
            low.emit(one.kernel, [result], [value], one.all_ints, one.reals)
            value = result
        if not steps:
            low.values[Ref(node.name)] = value

    def backward(low: Lowering, node: Node) -> None:
        gradient = low.grad(node)
        for one in reversed(steps_of(low, node)):
            before = low.buffer(math.prod(one.shape))
            low.emit(f"{one.kernel}_backward", [before], [gradient], one.all_ints, one.reals)
            gradient = before
        low.add_grad(node, 0, gradient)

    return Rule(forward, backward)


def resize_steps(low: Lowering, node: Node) -> list[Along]:
    """One, two or four taps along every spatial axis."""
    assert isinstance(node.op, Resize)
    shape, target = sizes(low, node.inputs[0]), sizes(low, Ref(node.name))
    steps = []
    for axis in range(len(shape) - 1):
        index, weight = node.op.taps(axis, shape[axis], target[axis])
        ints = [index.shape[1], *index.ravel().tolist()]
        steps.append(Along("taps", shape, axis, target[axis], ints, weight.ravel().tolist()))
        shape = steps[-1].result
    return steps


def bin_steps(low: Lowering, node: Node) -> list[Along]:
    """The mean over a box is the mean of means along each axis."""
    assert isinstance(node.op, AdaptiveAvgPool)
    shape = sizes(low, node.inputs[0])
    steps = []
    for axis, bins in enumerate(node.op.bins(shape)):
        table = [start for start, _ in bins] + [stop for _, stop in bins]
        steps.append(Along("bins", shape, axis, len(bins), table))
        shape = steps[-1].result
    return steps


_SOURCES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad_steps(low: Lowering, node: Node) -> list[Along]:
    """Every position of a padded axis has one source."""
    assert isinstance(node.op, Pad)
    shape = sizes(low, node.inputs[0])
    steps = []
    for axis, (before, behind) in enumerate(node.op.pairs(shape)):
        if before or behind:
            index = np.arange(shape[axis])
            source = np.pad(index, (before, behind), _SOURCES[node.op.mode]).tolist()  # type: ignore[call-overload]
            steps.append(Along("taps", shape, axis, len(source), [1, *source], [1.0] * len(source)))
            shape = steps[-1].result
    return steps


_PAD_SOURCES = chain(pad_steps)


def pad_offset(low: Lowering, node: Node) -> int:
    """Where the first element of the input lies in the padded sample."""
    assert isinstance(node.op, Pad)
    shape, target = sizes(low, node.inputs[0]), sizes(low, Ref(node.name))
    return sum(before * step for (before, _), step in zip(node.op.pairs(shape), strides(target), strict=True))


def pad_forward(low: Lowering, node: Node) -> None:
    """A constant border: fill, then copy the inside."""
    assert isinstance(node.op, Pad)
    if node.op.mode != "zero":
        return _PAD_SOURCES.forward(low, node)
    shape, target = sizes(low, node.inputs[0]), sizes(low, Ref(node.name))
    y = low.output(node)
    low.emit("fill", [y], [], [y.elements], (node.op.value,))
    samples, offset = (math.prod(shape), y.elements), pad_offset(low, node)
    low.emit("copy", [y], [low.input(node)], copy_ints(shape, strides(shape), strides(target), samples, (0, offset)))
    return None


def pad_backward(low: Lowering, node: Node) -> None:
    """The inside of the gradient, or all that came from one source added up."""
    assert isinstance(node.op, Pad)
    if node.op.mode != "zero":
        return _PAD_SOURCES.backward(low, node)
    shape, target = sizes(low, node.inputs[0]), sizes(low, Ref(node.name))
    dx = low.grad_input(node)
    samples, offset = (math.prod(target), dx.elements), pad_offset(low, node)
    low.emit("copy", [dx], [low.grad(node)], copy_ints(shape, strides(target), strides(shape), samples, (offset, 0)))
    low.add_grad(node, 0, dx)
    return None


RESHAPES = {
    "flatten": IDENTITY,
    "reshape": IDENTITY,
    "stopgradient": Rule(same_value, no_gradient),
    "transpose": mover(transposed, covers=True),
    "channelshuffle": mover(shuffled, covers=True),
    "slice": mover(sliced, covers=False),
    "split": Rule(split_forward, split_backward),
    "constant": Rule(constant_forward, no_gradient),
    "resize": chain(resize_steps),
    "adaptiveavgpool": chain(bin_steps),
    "pad": Rule(pad_forward, pad_backward),
}
