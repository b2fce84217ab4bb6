"""Operators that pick, join and reduce: their axes are renumbered to where memory has them."""

from __future__ import annotations

import itertools

import numpy as np

from fovea.interop.onnx.fold import array_of
from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.rules.rule import rule
from fovea.interop.onnx.values import BATCH, Const, Tensor, Traced
from fovea.ops import Concat, Multiply, Reduce, Slice, Split, Sqrt

__all__: list[str] = []

FAR = 1 << 30
"""Bounds of slices beyond this mean "to the end"."""


@rule("Concat")
def _concat(into: Importer) -> list[Traced]:
    values = [into.value(index) for index in range(len(into.node.input))]
    if len(values) == 1:
        return values
    tensors = [value if isinstance(value, Tensor) else into.as_tensor(value.array) for value in values]
    axis = into.attribute("axis", 1) % tensors[0].ndim
    _, order = into.in_place(max(tensors, key=_channel_like))
    if axis == order[0]:
        raise into.refuse("expected an axis of the sample, got the batch axis")
    placed = [into.arranged(tensor, order) for tensor in tensors]
    ref = into.emit(Concat(order.index(axis)), *(tensor.ref for tensor in placed))
    return [into.fresh_like(ref, order)]


def _channel_like(value: Tensor) -> int:
    """How many elements a sample has: the largest operand decides about the order."""
    return int(np.prod([float(size or 1 << 20) for size in value.sizes if size != BATCH]))


@rule("Split")
def _split(into: Importer) -> list[Traced]:
    x, order = into.in_place(into.tensor(0))
    axis, count = into.attribute("axis", 0) % x.ndim, len(into.node.output)
    total = into.closed_sizes(x)[axis]
    given = into.attribute("split") if into.opset < 13 else into.constant_or_none(1, "the sizes")
    if given is None:
        each = -(-total // count)
        sizes = [each] * (count - 1) + [total - each * (count - 1)]
    else:
        sizes = [int(size) for size in np.asarray(given).reshape(-1)]
    if axis == order[0]:
        raise into.refuse("expected an axis of the sample, got the batch axis")
    if len(sizes) == 1:
        return [x]
    ref = into.emit(Split(tuple(sizes), order.index(axis)), x.ref)
    return [into.fresh_like(type(ref)(ref.node, index), order) for index in range(len(sizes))]


@rule("Slice")
def _slice(into: Importer) -> list[Traced]:
    x, order = into.in_place(into.tensor(0))
    if into.opset < 10:
        starts, stops = into.attribute("starts"), into.attribute("ends")
        axes, steps = into.attribute("axes") or list(range(len(starts))), [1] * len(starts)
    else:
        starts, stops = (into.constant(i, "the bounds").reshape(-1).tolist() for i in (1, 2))
        named, stepped = into.constant_or_none(3, "the axes"), into.constant_or_none(4, "the steps")
        axes = list(range(len(starts))) if named is None else named.reshape(-1).tolist()
        steps = [1] * len(starts) if stepped is None else stepped.reshape(-1).tolist()
    chosen: dict[int, tuple[int | None, int | None, int]] = {}
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        one = (None if abs(start) > FAR else int(start), None if abs(stop) > FAR else int(stop), int(step))
        size = x.sizes[axis % x.ndim]
        whole = step == 1 and one[0] in (0, None) and (one[1] is None or (size is not None and one[1] >= size))
        if not whole:
            chosen[axis % x.ndim] = one
    if order[0] in chosen:
        raise into.refuse("expected an axis of the sample, got the batch axis")
    if not chosen:
        return [x]
    own = [order.index(axis) for axis in chosen]
    columns = list(zip(*chosen.values(), strict=True))
    ref = into.emit(Slice(columns[0], columns[1], tuple(own), columns[2]), x.ref)
    return [into.fresh_like(ref, order)]


@rule("Gather")
def _gather(into: Importer) -> list[Traced]:
    """A single index (the axis goes), or indices with equal steps (a slice)."""
    x = into.tensor(0)
    indices, axis = into.constant(1, "the indices"), into.attribute("axis", 0) % x.ndim
    x, order = into.in_place(x)
    size = into.closed_sizes(x)[axis]
    if axis == order[0]:
        raise into.refuse("expected an axis of the sample, got the batch axis")
    flat = [int(i) + (size if i < 0 else 0) for i in indices.reshape(-1)]
    steps = {b - a for a, b in itertools.pairwise(flat)} or {1}
    if len(steps) > 1 or 0 in steps or not flat or not all(0 <= i < size for i in flat) or indices.ndim > 1:
        raise into.refuse("expected one index, or indices with equal steps inside the axis")
    step = steps.pop()
    stop: int | None = flat[-1] + (1 if step > 0 else -1)
    ref = into.emit(Slice((flat[0],), (None if stop == -1 else stop,), (order.index(axis),), (step,)), x.ref)
    picked = into.fresh_like(ref, order)
    if indices.ndim == 1:
        return [picked]
    kept = tuple(one for i, one in enumerate(picked.factors) if i != axis)
    return [Tensor(picked.ref, kept, picked.memory)]


@rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2")
def _reduce(into: Importer) -> list[Traced]:
    """The Euclidean norm, by which other systems divide, is the root of a sum of squares."""
    x, order = into.in_place(into.tensor(0))
    kind = into.node.op_type
    by_input = into.opset >= (13 if kind == "ReduceSum" else 18)
    given = into.constant_or_none(1, "the axes") if by_input else into.attribute("axes")
    axes = [int(axis) % x.ndim for axis in np.asarray([] if given is None else given).reshape(-1)]
    if not axes:
        if into.attribute("noop_with_empty_axes", 0):
            return [x]
        axes = list(range(x.ndim))
    if order[0] in axes:
        raise into.refuse("expected axes of the sample, got the batch axis")
    norm, ref = kind == "ReduceL2", x.ref
    if norm:
        ref = into.emit(Multiply(), ref, ref, hint="square")
    ref = into.emit(Reduce(tuple(order.index(axis) for axis in axes), "sum" if norm else kind[6:].lower(), True), ref)
    if norm:
        ref = into.emit(Sqrt(), ref, hint="root")
    result = into.fresh_like(ref, order)
    if into.attribute("keepdims", 1):
        return [result]
    kept = tuple(one for axis, one in enumerate(result.factors) if axis not in axes)
    return [Tensor(result.ref, kept, result.memory)]


@rule("Constant")
def _constant(into: Importer) -> list[Traced]:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in into.attributes:
            value = into.attributes[name]
            if name == "value":
                return [Const(array_of(into.where, value))]
            dtype = np.float32 if "float" in name else np.int64
            return [Const(np.array(value, dtype))]
    raise into.refuse("expected numbers")
