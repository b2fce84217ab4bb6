"""How joining, cutting and moving ops are written: their axes are renumbered to the order that values have."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.graph.graph import Node
from fovea.interop.onnx.write_rules import rule
from fovea.interop.onnx.writer import Writer

__all__: list[str] = []

FAR = (1 << 63) - 1


@rule("constant")
def _constant(write: Writer, node: Node) -> None:
    array = write.array(node, "value")
    write.give(node, write.constant(node.name, array.reshape(1, *array.shape)), False)


@rule("add", "sub", "multiply", "div")
def _arithmetic(write: Writer, node: Node) -> None:
    """Broadcast per sample: operands get as many axes as the result, ones in front of their own."""
    operator = {"add": "Add", "sub": "Sub", "multiply": "Mul", "div": "Div"}[node.op.kind]
    ndim = len(node.output_shapes[0]) + 1
    largest = max(range(len(node.inputs)), key=lambda i: len(node.input_shapes[i]))
    first = write.input(node, largest).first and ndim > 2
    names = [_aligned(write, node, index, ndim, first) for index in range(len(node.inputs))]
    total = names[0]
    for position, name in enumerate(names[1:], 1):
        total = write.emit(operator, [total, name], node.name if position == len(names) - 1 else "")
    write.give(node, total, first)


def _aligned(write: Writer, node: Node, index: int, ndim: int, first: bool) -> str:
    shape = node.input_shapes[index]
    if len(shape) + 1 == ndim:
        return write.first(node, index) if first else write.plain(node, index)
    missing = ndim - len(shape) - 1
    widened = write.emit("Unsqueeze", [write.plain(node, index), write.integers(*range(1, 1 + missing))])
    if not first:
        return widened
    return write.emit("Transpose", [widened], perm=[0, ndim - 1, *range(1, ndim - 1)])


@rule("concat")
def _concat(write: Writer, node: Node) -> None:
    op: Any = node.op
    ndim, first = len(node.output_shapes[0]) + 1, write.input(node).first
    names = [write.first(node, i) if first else write.plain(node, i) for i in range(len(node.inputs))]
    write.give(node, write.emit("Concat", names, node.name, axis=write.axis(op.axis, ndim, first)), first)


@rule("softmax")
def _softmax(write: Writer, node: Node) -> None:
    op: Any = node.op
    x = write.input(node)
    axis = write.axis(op.axis, len(node.input_shapes[0]) + 1, x.first)
    write.give(node, write.emit("Softmax", [x.name], node.name, axis=axis), x.first)


@rule("flatten")
def _flatten(write: Writer, node: Node) -> None:
    write.give(node, write.emit("Flatten", [write.plain(node)], node.name, axis=1), False)


@rule("reshape")
def _reshape(write: Writer, node: Node) -> None:
    shape = write.integers(0, *(size or 0 for size in node.output_shapes[0]))
    write.give(node, write.emit("Reshape", [write.plain(node), shape], node.name), False)


@rule("transpose")
def _transpose(write: Writer, node: Node) -> None:
    op: Any = node.op
    write.give(node, write.emit("Transpose", [write.plain(node)], node.name, perm=list(op.perm)), False)


@rule("slice")
def _slice(write: Writer, node: Node) -> None:
    op: Any = node.op
    x, shape = write.input(node), node.input_shapes[0]
    starts, stops, axes = [], [], []
    for start, stop, axis, step in zip(op.starts, op.stops, op.axes, op.steps, strict=True):
        starts.append((0 if step > 0 else FAR) if start is None else start)
        stops.append((FAR if step > 0 else -FAR) if stop is None else stop)
        axes.append(write.axis(axis, len(shape) + 1, x.first))
    numbers = [write.integers(*values) for values in (starts, stops, axes, op.steps)]
    write.give(node, write.emit("Slice", [x.name, *numbers], node.name), x.first)


@rule("split")
def _split(write: Writer, node: Node) -> None:
    op: Any = node.op
    x = write.input(node)
    axis = write.axis(op.axis, len(node.input_shapes[0]) + 1, x.first)
    name = write.emit("Split", [x.name, write.integers(*op.sizes)], node.name, outputs=len(op.sizes), axis=axis)
    for index in range(len(op.sizes)):
        write.give(node, name if index == 0 else f"{name}.{index}", x.first, index)


@rule("channelshuffle")
def _channel_shuffle(write: Writer, node: Node) -> None:
    op: Any = node.op
    *spatial, channels = (size or 0 for size in node.input_shapes[0])
    groups = write.emit("Reshape", [write.first(node), write.integers(0, op.groups, channels // op.groups, -1)])
    swapped = write.emit("Transpose", [groups], perm=[0, 2, 1, 3])
    write.give(node, write.emit("Reshape", [swapped, write.integers(0, channels, *spatial)], node.name), True)


@rule("pad")
def _pad(write: Writer, node: Node) -> None:
    op: Any = node.op
    x, shape = write.input(node), node.input_shapes[0]
    ndim = len(shape) + 1
    los, his = [0] * ndim, [0] * ndim
    for axis, (lo, hi) in enumerate(op.pairs(shape), 1):
        los[write.axis(axis, ndim, x.first)], his[write.axis(axis, ndim, x.first)] = lo, hi
    mode = {"zero": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}[op.mode]
    if mode == "wrap":
        raise write.refuse(node, "circular padding came with a later opset; pad with zeros")
    fill = [write.constant(f"{node.name}.value", np.array(op.value, np.float32))] if mode == "constant" else []
    write.give(node, write.emit("Pad", [x.name, write.integers(*los, *his), *fill], node.name, mode=mode), x.first)


@rule("reduce")
def _reduce(write: Writer, node: Node) -> None:
    op: Any = node.op
    x, ndim = write.input(node), len(node.input_shapes[0]) + 1
    axes = write.integers(*(write.axis(axis + 1, ndim, x.first) for axis in op.sample_axes(node.input_shapes[0])))
    first, name = x.first, x.name
    if not op.keepdims and first:  # what is left must lie in a known order
        name, first = write.plain(node), False
        axes = write.integers(*(axis + 1 for axis in op.sample_axes(node.input_shapes[0])))
    operator = {"mean": "ReduceMean", "sum": "ReduceSum", "max": "ReduceMax"}[op.reduction]
    write.give(node, write.emit(operator, [name, axes], node.name, keepdims=int(op.keepdims)), first)
