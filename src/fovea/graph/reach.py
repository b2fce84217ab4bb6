"""Which part of the input single elements of a feature map depend on, exactly: one walk from them back to the input.

``receptive_fields`` says of a whole feature map how far an element sees, by a size and a step; that is a formula for
networks whose positions are all alike. Here every layer is asked what the given positions read, so that the answer also
holds behind resizing, slices and reflected borders, and ends where the image ends. The answer is the smallest box that
covers what is read on all branches; padding is no part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ShapeError
from fovea.graph.graph import Graph, Node, Ref
from fovea.ops.base import Shape, normal_axis

__all__ = ["Boxes", "reach"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Boxes:
    """``low``, ``high``: int64 K,axes, half open; a box with nothing in it has ``low >= high`` along some axis."""

    low: Ints
    high: Ints

    @property
    def empty(self) -> npt.NDArray[np.bool_]:
        """K: which boxes hold nothing."""
        return np.asarray((self.low >= self.high).any(axis=1))

    def joined(self, other: Boxes) -> Boxes:
        """The smallest boxes that cover both."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        for one, empty in ((self, other.empty), (other, self.empty)):  # nothing joined with a box is the box
            low, high = np.where(empty[:, None], one.low, low), np.where(empty[:, None], one.high, high)
        return Boxes(low, high)

    def within(self, sizes: Shape) -> Boxes:
        """Cut at the borders."""
        limit = np.array([size or 0 for size in sizes], np.int64)
        return Boxes(np.maximum(self.low, 0), np.minimum(self.high, limit))


def reach(graph: Graph, name: str, positions: Any, *, gates: bool = True) -> Boxes:
    """Boxes of the first graph input, one for each of the ``positions`` (integers K,axes) in the output of a node.

    Outside its box nothing can change the element; all channels are taken together. ``gates`` False leaves out what
    reaches an element through a statistic of the whole image that only scales it, squeeze-and-excitation's factor and
    group norm's moments: what remains is where the element looks.

    The graph's sizes must be closed. Raises ShapeError for open sizes or positions outside of the feature map.
    """
    node = graph.node(name)
    shape = _closed(node.output_shapes[0])
    given = np.asarray(positions, np.int64)
    axes = len(shape) - 1
    if given.ndim != 2 or given.shape[1] != axes or (given < 0).any() or (given >= np.array(shape[:-1])).any():
        raise ShapeError(name, f"expected positions K,{axes} inside of the feature map {shape}, got {given.shape}")
    found: dict[Ref, Boxes] = {Ref(name): Boxes(given, given + 1)}
    for node in reversed(list(graph.nodes.values())):
        outputs = {index: found[Ref(node.name, index)] for index in range(len(node.output_shapes))
                   if Ref(node.name, index) in found}  # fmt: skip
        for index, boxes in outputs.items():
            for place, ref in enumerate(node.inputs):
                if not gates and _is_gate(node, place):
                    continue
                local = not gates and node.op.kind == "groupnorm"
                read = boxes if local else _read(node, index, place, boxes)
                inner = read.within(_closed(graph.shape(ref))[:-1])
                found[ref] = inner if ref not in found else found[ref].joined(inner)
    source = Ref(graph.inputs[0])
    nothing = np.zeros((len(given), len(_closed(graph.shape(source))) - 1), np.int64)
    return found.get(source, Boxes(nothing, nothing))


def _closed(shape: Shape) -> tuple[int, ...]:
    if any(size is None for size in shape):
        raise ShapeError("reach", f"expected closed sizes, got {shape}; give the graph an input size")
    return tuple(size or 0 for size in shape)


def _is_gate(node: Node, place: int) -> bool:
    """Whether this input of a product has no positions while the output has some."""
    if node.op.kind != "multiply":
        return False
    own, whole = node.input_shapes[place][:-1], node.output_shapes[0][:-1]
    return all(size == 1 for size in own) and any(size != 1 for size in whole)


def _read(node: Node, index: int, place: int, boxes: Boxes) -> Boxes:
    """What the boxes of one output read of one input of the node (before it is cut at the borders)."""
    shape = _closed(node.input_shapes[place])
    rule = _RULES.get(node.op.kind)
    if hasattr(node.op, "windows") and node.op.kind != "convtranspose":
        rule = _windows
    if rule is not None:
        return rule(node, index, place, boxes, shape)
    out = _closed(node.output_shapes[index])
    if len(shape) > len(out):
        return _everything(boxes, shape)
    # element by element, or broadcast: sizes are aligned at the channels, an axis of size 1 is read by all
    low, high = boxes.low[:, len(out) - len(shape) :], boxes.high[:, len(out) - len(shape) :]
    same = np.array([a == b for a, b in zip(shape[:-1], out[len(out) - len(shape) : -1], strict=True)], bool)
    return _kept(boxes, Boxes(np.where(same, low, 0), np.where(same, high, 1)))


def _kept(before: Boxes, after: Boxes) -> Boxes:
    """Boxes with nothing in them stay so."""
    if after.low.shape[1] == 0:
        return after
    empty = before.empty[:, None]
    return Boxes(np.where(empty, 1, after.low), np.where(empty, 0, after.high))


def _everything(boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    low = np.zeros((len(boxes.low), len(shape) - 1), np.int64)
    return _kept(boxes, Boxes(low, low + np.array(shape[:-1], np.int64)))


def _windows(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    """Windows that touch read an interval; those with holes in them, or between them, are listed tap by tap."""
    op: Any = node.op
    axes = op.windows(shape)
    if any(axis.dilation > 1 or axis.stride > axis.extent for axis in axes):
        taps = [np.arange(a.output)[:, None] * a.stride - a.pad_lo + np.arange(a.kernel) * a.dilation for a in axes]
        return _by_table(boxes, [np.where(one < axis.input, one, -1) for one, axis in zip(taps, axes, strict=True)])
    stride, lo, extent = (
        np.array(values, np.int64) for values in zip(*((a.stride, a.pad_lo, a.extent) for a in axes), strict=True)
    )
    return _kept(boxes, Boxes(boxes.low * stride - lo, (boxes.high - 1) * stride - lo + extent))


def _transposed(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    """Output o takes from input i where ``o = i stride + m dilation - lo`` for some m."""
    op: Any = node.op
    tables: list[Any] = []
    for axis in op.windows(shape):  # the windows of the convolution that this op transposes: its input is our output
        moved = np.arange(axis.input)[:, None] + axis.pad_lo - np.arange(axis.kernel) * axis.dilation
        source, rest = np.divmod(moved, axis.stride)
        tables.append(np.where((rest == 0) & (source < axis.output), source, -1))
    return _by_table(boxes, tables)


def _by_table(boxes: Boxes, tables: list[npt.NDArray[Any] | None]) -> Boxes:
    """Along every axis a table: which inputs each output reads, outputs,taps (-1: none); None: its own position."""
    low, high = boxes.low.copy(), boxes.high.copy()
    for axis, table in enumerate(tables):
        if table is None:
            continue
        for row in range(len(low)):
            read = table[boxes.low[row, axis] : boxes.high[row, axis]].reshape(-1)
            read = read[read >= 0]
            low[row, axis], high[row, axis] = (read.min(), read.max() + 1) if len(read) else (1, 0)
    return _kept(boxes, Boxes(low, high))


def _resize(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    op: Any = node.op
    out = _closed(node.output_shapes[0])
    tables: list[Any] = []
    for axis, (before, after) in enumerate(zip(shape[:-1], out[:-1], strict=True)):
        taps, weights = op.taps(axis, before, after)
        tables.append(np.where(weights == 0, -1, taps))
    return _by_table(boxes, tables)


def _bins(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    op: Any = node.op
    return _by_table(boxes, [np.array([(a, b - 1) for a, b in bins]) for bins in op.bins(shape)])


def _slice(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    op: Any = node.op
    cuts = op.slices(shape)[:-1]
    return _by_table(boxes, [np.arange(size)[cut] for size, cut in zip(shape, cuts, strict=False)])


def _pad(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    op: Any = node.op
    how: Any = {"zero": {"mode": "constant", "constant_values": -1}, "replicate": {"mode": "edge"},
                "circular": {"mode": "wrap"}, "reflect": {"mode": "reflect"}}[op.mode]  # fmt: skip
    pairs = op.pairs(shape)[:-1]
    return _by_table(boxes, [np.pad(np.arange(size), pair, **how) for size, pair in zip(shape, pairs, strict=False)])


def _concat(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    op: Any = node.op
    axis = normal_axis(op.kind, op.axis, shape)
    if axis == len(shape) - 1:
        return boxes
    before = sum(_closed(other)[axis] for other in node.input_shapes[:place])
    total = _closed(node.output_shapes[0])[axis]
    table = np.full(total, -1)
    table[before : before + shape[axis]] = np.arange(shape[axis])
    return _by_table(boxes, [table if one == axis else None for one in range(len(shape) - 1)])


def _split(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    op: Any = node.op
    axis = normal_axis(op.kind, op.axis, shape)
    if axis == len(shape) - 1:
        return boxes
    shift = np.zeros(len(shape) - 1, np.int64)
    shift[axis] = sum(op.sizes[:index])
    return _kept(boxes, Boxes(boxes.low + shift, boxes.high + shift))


def _transpose(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    op: Any = node.op
    result = _everything(boxes, shape)
    for output, source in enumerate(axis - 1 for axis in op.perm[1:-1]):
        if source < len(shape) - 1:
            result.low[:, source], result.high[:, source] = boxes.low[:, output], boxes.high[:, output]
    return _kept(boxes, result)


def _reduce(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    """The last axis that remains has the part of the channels, whichever it was."""
    op: Any = node.op
    gone = op.sample_axes(shape)
    remaining = [axis for axis in range(len(shape)) if op.keepdims or axis not in gone]
    result = _everything(boxes, shape)
    for output, source in enumerate(remaining[:-1]):
        if source not in gone and source < len(shape) - 1:
            result.low[:, source], result.high[:, source] = boxes.low[:, output], boxes.high[:, output]
    return _kept(boxes, result)


def _reshape(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    """Leading axes that keep their sizes keep their positions; of the rest everything is taken."""
    out = _closed(node.output_shapes[0])
    result = _everything(boxes, shape)
    for axis, (a, b) in enumerate(zip(shape[:-1], out[:-1], strict=False)):
        if a != b:
            break
        result.low[:, axis], result.high[:, axis] = boxes.low[:, axis], boxes.high[:, axis]
    return _kept(boxes, result)


def _softmax(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    op: Any = node.op
    axis = normal_axis(op.kind, op.axis, shape)
    low, high = boxes.low.copy(), boxes.high.copy()
    if axis < len(shape) - 1:
        low[:, axis], high[:, axis] = 0, shape[axis]
    return _kept(boxes, Boxes(low, high))


def _matmul(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    """Row m of the first factor, all of the second; leading axes pair up."""
    result = _everything(boxes, shape)
    kept = len(shape) - 1 if place == 0 else len(shape) - 2
    result.low[:, :kept], result.high[:, :kept] = boxes.low[:, :kept], boxes.high[:, :kept]
    return _kept(boxes, result)


def _whole(node: Node, index: int, place: int, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    return _everything(boxes, shape)


_Rule = Callable[[Node, int, int, Boxes, "tuple[int, ...]"], Boxes]
_RULES: dict[str, _Rule] = {
    "convtranspose": _transposed, "resize": _resize, "adaptiveavgpool": _bins, "slice": _slice, "pad": _pad,
    "concat": _concat, "split": _split, "transpose": _transpose, "reduce": _reduce, "reshape": _reshape,
    "flatten": _whole, "globalavgpool": _whole, "globalmaxpool": _whole, "groupnorm": _whole, "softmax": _softmax,
    "matmul": _matmul,
}  # fmt: skip
