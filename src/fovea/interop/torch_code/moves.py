"""How joining, cutting and moving ops are written: their axes are renumbered to the order that values have."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.engines.torch.rules.resize import lies_as_torch, reads_as_torch
from fovea.graph.graph import Node
from fovea.interop.torch_code.layers import rule
from fovea.interop.torch_code.writer import Writer, number

__all__: list[str] = []

_SIGNS = {"add": "+", "sub": "-", "multiply": "*", "div": "/"}
_NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@rule("constant")
def _constant(write: Writer, node: Node) -> None:
    value = write.buffer(node, "", write.array(node, "value"))
    write.give(node, f"{value}.expand({', '.join(['n', *['-1'] * len(node.output_shapes[0])])})", False)


@rule(*_SIGNS)
def _arithmetic(write: Writer, node: Node) -> None:
    """Shapes are aligned at the channels: N,C beside N,C,H,W becomes N,C,1,1."""
    ndim = max(len(shape) for shape in node.input_shapes)
    missing = [ndim - len(shape) for shape in node.input_shapes]
    largest = missing.index(0)
    first = write.input(node, largest).first and all(len(s) in (1, ndim) for s in node.input_shapes)
    parts = []
    for index, more in enumerate(missing):
        x = write.first(node, index) if first else write.plain(node, index)
        if more and first:
            x += f"[:, :{', None' * more}]"
        elif more:
            x += f"[:{', None' * more}]"
        parts.append(x)
    write.give(node, f" {_SIGNS[node.op.kind]} ".join(parts), first)


@rule("concat")
def _concat(write: Writer, node: Node) -> None:
    op: Any = node.op
    first = write.input(node).first
    parts = [write.first(node, i) if first else write.plain(node, i) for i in range(len(node.inputs))]
    axis = write.axis(op.axis, len(node.output_shapes[0]) + 1, first)
    write.give(node, f"torch.cat(({', '.join(parts)},), {axis})", first)


@rule("softmax")
def _softmax(write: Writer, node: Node) -> None:
    op: Any = node.op
    x = write.input(node)
    axis = write.axis(op.axis, len(node.input_shapes[0]) + 1, x.first)
    write.give(node, f"torch.softmax({x.name}, {axis})", x.first)


@rule("flatten")
def _flatten(write: Writer, node: Node) -> None:
    write.give(node, f"{write.plain(node)}.flatten(1)" if node.input_shapes[0] else write.plain(node), False)


@rule("reshape")
def _reshape(write: Writer, node: Node) -> None:
    sizes = ", ".join(str(size) for size in node.output_shapes[0])
    x = write.plain(node)
    write.give(node, f"{x}.reshape({write.input(node).name}.shape[0], {sizes})", False)


@rule("transpose")
def _transpose(write: Writer, node: Node) -> None:
    op: Any = node.op
    write.give(node, f"{write.plain(node)}.permute({', '.join(map(str, op.perm))})", False)


@rule("slice")
def _slice(write: Writer, node: Node) -> None:
    """Steps backwards are steps forwards, then turned round."""
    op: Any = node.op
    x, shape = write.input(node), node.input_shapes[0]
    parts, turned = [":"] * (len(shape) + 1), []
    for axis, (one, size) in enumerate(zip(op.slices(shape), shape, strict=True), 1):
        if one == slice(None):
            continue
        places, where = range(size or 0)[one], write.axis(axis, len(shape) + 1, x.first)
        if places.step < 0:
            turned.append(where)
            places = places[::-1]
        step = f":{places.step}" if places.step != 1 else ""
        parts[where] = f"{places.start}:{places[-1] + 1}{step}"
    flipped = f".flip({tuple(turned)})" if turned else ""
    write.give(node, f"{x.name}[{', '.join(parts)}]{flipped}", x.first)


@rule("split")
def _split(write: Writer, node: Node) -> None:
    op: Any = node.op
    x = write.input(node)
    axis = write.axis(op.axis, len(node.input_shapes[0]) + 1, x.first)
    single = "[0]" if len(op.sizes) == 1 else ""
    write.give(node, f"torch.split({x.name}, {list(op.sizes)}, {axis}){single}", x.first)


@rule("channelshuffle")
def _channel_shuffle(write: Writer, node: Node) -> None:
    op: Any = node.op
    x = write.first(node)
    write.give(node, f"{x}.unflatten(1, ({op.groups}, -1)).transpose(1, 2).flatten(1, 2)", True)


@rule("pad")
def _pad(write: Writer, node: Node) -> None:
    """Zeros by PyTorch's function; what repeats elements is an index along each axis."""
    op: Any = node.op
    x, shape = write.input(node), node.input_shapes[0]
    pairs = {
        write.axis(axis, len(shape) + 1, x.first): (pair, size or 0)
        for axis, (pair, size) in enumerate(zip(op.pairs(shape), shape, strict=True), 1)
    }
    if op.mode == "zero":
        widths = tuple(width for axis in sorted(pairs, reverse=True) for width in pairs[axis][0])
        fill = "" if op.value == 0 else f", value={number(float(op.value))}"
        write.give(node, f"F.pad({x.name}, {widths}{fill})", x.first)
        return
    y = x.name
    for axis in sorted(pairs):
        pair, size = pairs[axis]
        if pair != (0, 0):
            taken = np.pad(np.arange(size, dtype=np.int64), pair, _NUMPY_MODES[op.mode])
            y = f"{y}.index_select({axis}, {write.buffer(node, f'axis{axis}', taken)})"
    write.give(node, y, x.first)


@rule("reduce")
def _reduce(write: Writer, node: Node) -> None:
    op: Any = node.op
    x, ndim = write.input(node), len(node.input_shapes[0]) + 1
    first = x.first and op.keepdims  # what is left must lie in a known order
    name = x.name if first or not x.first else write.plain(node)
    axes = tuple(write.axis(axis + 1, ndim, first) for axis in op.sample_axes(node.input_shapes[0]))
    function = {"mean": "mean", "sum": "sum", "max": "amax"}[op.reduction]
    keep = ", keepdim=True" if op.keepdims else ""
    write.give(node, f"{name}.{function}({axes}{keep})" if axes else name, first)


@rule("resize")
def _resize(write: Writer, node: Node) -> None:
    """PyTorch's interpolation where it reads the same positions; else a matrix along each axis."""
    op: Any = node.op
    given = [size or 0 for size in node.input_shapes[0][:-1]]
    size = [size or 0 for size in node.output_shapes[0][:-1]]
    x, few = write.first(node), len(size) <= 3
    if few and op.mode == "nearest" and reads_as_torch(op, given, size):
        write.give(node, f"F.interpolate({x}, {tuple(size)})", True)
        return
    if few and op.mode == "bilinear" and lies_as_torch(op, size):
        mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
        corners = ", align_corners=True" if op.coordinates == "align_corners" else ""
        write.give(node, f"F.interpolate({x}, {tuple(size)}, mode={mode!r}{corners})", True)
        return
    for axis, (held, wanted) in enumerate(zip(given, size, strict=True)):
        index, weight = op.taps(axis, held, wanted)  # out,taps
        matrix = np.zeros((wanted, held))
        np.add.at(matrix, (np.arange(wanted)[:, None], index), weight)
        if wanted != held or not np.array_equal(matrix, np.eye(held)):
            rows = write.buffer(node, f"axis{axis}", matrix.astype(np.float32))
            x = f"({x}.movedim({axis + 2}, -1) @ {rows}.T).movedim(-1, {axis + 2})"
    write.give(node, x, True)
