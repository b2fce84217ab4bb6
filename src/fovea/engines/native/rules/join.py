"""Sums and products of several activations, with broadcasting, and joining along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fovea.engines.native.rules.rule import Rule
from fovea.graph.graph import Ref
from fovea.ops import Concat
from fovea.ops.base import normal_axis

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.engines.native.program import Buffer, Operand
    from fovea.graph.graph import Node

__all__ = ["JOINS", "copy_ints", "sizes"]

Sizes = tuple[int, ...]
SHORT_ROW = 8
"""Elements of a row that are copied in the time of its divisions, more or less."""
LONG_ROW, CUT_ROWS = 1 << 14, 16
"""Elements that are worth a second thread, and into how many rows at most they are cut."""


def sizes(low: Lowering, ref: Ref) -> Sizes:
    """The closed shape of one sample."""
    return tuple(size or 0 for size in low.spec.graph.shape(ref))


def strides(shape: Sizes) -> Sizes:
    """Floats between neighbours along every axis of a contiguous array."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def repeated_strides(shape: Sizes, full: Sizes) -> Sizes:
    """Strides of an array that is read in the larger shape: 0 along axes in which it is repeated."""
    padded = (1,) * (len(full) - len(shape)) + shape
    return tuple(0 if size == 1 else step for size, step in zip(padded, strides(padded), strict=True))


def merged(full: Sizes, *steps: Sizes) -> tuple[list[int], list[list[int]]]:
    """Neighbouring axes made one where every operand allows it: fewer, longer rows."""
    shape, result = [1], [[0] for _ in steps]
    for size, *step in reversed(list(zip(full, *steps, strict=True))):
        if size == 1:
            continue
        if shape[0] == 1:
            shape[0] = size
            for own, value in zip(result, step, strict=True):
                own[0] = value
        elif all(value == own[0] * shape[0] for own, value in zip(result, step, strict=True)):
            shape[0] *= size
        else:
            shape.insert(0, size)
            for own, value in zip(result, step, strict=True):
                own.insert(0, value)
    return shape, result


def copy_ints(
    size: Sizes, from_strides: Sizes, to_strides: Sizes, samples: tuple[int, int], offsets: tuple[int, int]
) -> list[int]:
    """The ints of a strided copy: floats between samples, offsets (source, destination), then the axes.

    A row costs some divisions, so rows lie along the longer of the two inner axes (a channel shuffle's groups are few);
    threads share rows, so a single long one is cut.
    """
    shape, (source, target) = merged(size, from_strides, to_strides)
    if len(shape) > 1 and shape[-1] < SHORT_ROW <= shape[-2]:
        for one in (shape, source, target):
            one[-2:] = one[-1], one[-2]
    rows = math.gcd(shape[0], CUT_ROWS) if len(shape) == 1 and shape[0] >= LONG_ROW else 1
    if rows > 1:
        shape = [rows, shape[0] // rows]
        source, target = ([shape[1] * step, step] for (step,) in (source, target))
    return [*samples, *offsets, len(shape), *shape, *source, *target]


def binary(
    low: Lowering, kernel: str, result: Buffer, full: Sizes, a: Operand, a_shape: Sizes, b: Operand, b_shape: Sizes
) -> None:
    """result = a kernel b, of the broadcast shape ``full``."""
    shape, (a_step, b_step) = merged(full, repeated_strides(a_shape, full), repeated_strides(b_shape, full))
    samples = [math.prod(a_shape), math.prod(b_shape)]
    inplace = ((0, 0),) if a_shape == full == b_shape else ()
    low.emit(kernel, [result], [a, b], [*samples, len(shape), *shape, *a_step, *b_step], inplace=inplace)


def summed_to(low: Lowering, value: Operand, full: Sizes, shape: Sizes, factor: float = 1.0) -> Operand:
    """factor times the sum over the axes in which an array of this shape was repeated to the full shape."""
    padded = (1,) * (len(full) - len(shape)) + shape
    axis = len(full) - 1
    while axis >= 0:
        last = axis
        while axis >= 0 and padded[axis] == 1 and full[axis] != 1:
            axis -= 1
        if (
            axis < last
        ):  # axes axis + 1 .. last were repeated; those behind them are summed already or were not repeated
            inner = math.prod(padded[last + 1 :])
            outer = math.prod(full[: axis + 1])
            total = low.buffer(outer * inner)
            low.emit("reduce_sum", [total], [value], [outer, math.prod(full[axis + 1 : last + 1]), inner], (factor,))
            value, factor = total, 1.0
        axis = min(axis, last - 1)
    if factor != 1.0:
        scaled = low.buffer(math.prod(shape))
        low.emit("scale", [scaled], [value], [scaled.elements], (factor, 0.0), inplace=((0, 0),))
        value = scaled
    return value


def operand_shapes(low: Lowering, node: Node) -> tuple[Sizes, list[Sizes]]:
    """The shape of one sample of the output, and of every input."""
    return sizes(low, Ref(node.name)), [sizes(low, ref) for ref in node.inputs]


# --- add


def add_forward(low: Lowering, node: Node) -> None:
    """Pairwise, from the left."""
    full, shapes = operand_shapes(low, node)
    total, shape = low.input(node, 0), shapes[0]
    for index in range(1, len(node.inputs)):
        last = index == len(node.inputs) - 1
        partial = full if last else common(shape, shapes[index])
        result = low.output(node) if last else low.buffer(math.prod(partial))
        if shape == partial == shapes[index]:
            size = math.prod(full)
            low.emit("add", [result], [total, low.input(node, index)], [size, 0], inplace=((0, 0),))
        else:
            binary(low, "add_broadcast", result, partial, total, shape, low.input(node, index), shapes[index])
        total, shape = result, partial


def common(a: Sizes, b: Sizes) -> Sizes:
    """The shape that both broadcast to."""
    ndim = max(len(a), len(b))
    pairs = zip((1,) * (ndim - len(a)) + a, (1,) * (ndim - len(b)) + b, strict=True)
    return tuple(max(x, y) for x, y in pairs)


def add_backward(low: Lowering, node: Node) -> None:
    """Every input gets the gradient itself, summed where it was repeated."""
    full, shapes = operand_shapes(low, node)
    for index, shape in enumerate(shapes):
        if low.needs(node, index):
            low.add_grad(node, index, summed_to(low, low.grad(node), full, shape))


# --- sub, multiply, div


def pair_forward(low: Lowering, node: Node) -> None:
    """y = a op b."""
    full, (a, b) = operand_shapes(low, node)
    binary(low, node.op.kind, low.output(node), full, low.input(node, 0), a, low.input(node, 1), b)


def sub_backward(low: Lowering, node: Node) -> None:
    """da = dy, db = -dy."""
    full, shapes = operand_shapes(low, node)
    for index, factor in ((0, 1.0), (1, -1.0)):
        if low.needs(node, index):
            low.add_grad(node, index, summed_to(low, low.grad(node), full, shapes[index], factor))


def times(low: Lowering, kernel: str, value: Operand, full: Sizes, other: Operand, shape: Sizes) -> Buffer:
    """A full-sized value times or divided by an operand that is repeated to its shape."""
    result = low.buffer(math.prod(full))
    binary(low, kernel, result, full, value, full, other, shape)
    return result


def multiply_backward(low: Lowering, node: Node) -> None:
    """da = dy b, db = dy a."""
    full, shapes = operand_shapes(low, node)
    for index in (0, 1):
        if low.needs(node, index):
            product = times(low, "multiply", low.grad(node), full, low.input(node, 1 - index), shapes[1 - index])
            low.add_grad(node, index, summed_to(low, product, full, shapes[index]))


def div_backward(low: Lowering, node: Node) -> None:
    """da = dy / b, db = -dy a / b^2."""
    full, shapes = operand_shapes(low, node)
    share = times(low, "div", low.grad(node), full, low.input(node, 1), shapes[1])
    if low.needs(node, 0):
        low.add_grad(node, 0, summed_to(low, share, full, shapes[0]))
    if low.needs(node, 1):
        product = times(low, "multiply", share, full, low.input(node, 0), shapes[0])
        quotient = times(low, "div", product, full, low.input(node, 1), shapes[1])
        low.add_grad(node, 1, summed_to(low, quotient, full, shapes[1], -1.0))


# --- concat


def pieces(
    low: Lowering, node: Node, whole: Sizes, parts: Sequence[Sizes], axis: int
) -> list[tuple[list[int], list[int]]]:
    """For every part the ints that copy it into the whole, and those that copy it out again."""
    result, first = [], 0
    for part in parts:
        samples, offset = (math.prod(part), math.prod(whole)), first * strides(whole)[axis]
        into = copy_ints(part, strides(part), strides(whole), samples, (0, offset))
        out = copy_ints(part, strides(whole), strides(part), samples[::-1], (offset, 0))
        result.append((into, out))
        first += part[axis]
    return result


def concat_forward(low: Lowering, node: Node) -> None:
    """Every input is copied to its place."""
    assert isinstance(node.op, Concat)
    full, shapes = operand_shapes(low, node)
    result = low.output(node)
    axis = normal_axis(node.op.kind, node.op.axis, full)
    for index, (into, _) in enumerate(pieces(low, node, full, shapes, axis)):
        low.emit("copy", [result], [low.input(node, index)], into)


def concat_backward(low: Lowering, node: Node) -> None:
    """Every input gets its piece of the gradient."""
    assert isinstance(node.op, Concat)
    full, shapes = operand_shapes(low, node)
    axis = normal_axis(node.op.kind, node.op.axis, full)
    for index, (_, out) in enumerate(pieces(low, node, full, shapes, axis)):
        if low.needs(node, index):
            gradient = low.grad_input(node, index)
            low.emit("copy", [gradient], [low.grad(node)], out)
            low.add_grad(node, index, gradient)


# --- matmul


def matmul_forward(low: Lowering, node: Node) -> None:
    """y = a b, sample by sample."""
    (*batch, rows, depth), (*_, columns) = (sizes(low, ref) for ref in node.inputs)
    ints = [math.prod(batch), rows, depth, columns, depth, 1, columns, 1]
    low.emit("matmul", [low.output(node)], [low.input(node, 0), low.input(node, 1)], ints)


def matmul_backward(low: Lowering, node: Node) -> None:
    """da = dy b^T, db = a^T dy."""
    (*batch, rows, depth), (*_, columns) = (sizes(low, ref) for ref in node.inputs)
    count, dy = math.prod(batch), low.grad(node)
    if low.needs(node, 0):
        da = low.grad_input(node, 0)
        low.emit("matmul", [da], [dy, low.input(node, 1)], [count, rows, columns, depth, columns, 1, 1, columns])
        low.add_grad(node, 0, da)
    if low.needs(node, 1):
        db = low.grad_input(node, 1)
        low.emit("matmul", [db], [low.input(node, 0), dy], [count, depth, rows, columns, 1, depth, columns, 1])
        low.add_grad(node, 1, db)


JOINS = {
    "add": Rule(add_forward, add_backward),
    "sub": Rule(pair_forward, sub_backward),
    "multiply": Rule(pair_forward, multiply_backward),
    "div": Rule(pair_forward, div_backward),
    "concat": Rule(concat_forward, concat_backward),
    "matmul": Rule(matmul_forward, matmul_backward),
}
