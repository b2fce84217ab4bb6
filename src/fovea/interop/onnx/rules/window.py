"""Convolution, pooling, padding: operators that slide windows over channels-last feature maps."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fovea.graph.graph import Ref
from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.rules.rule import rule
from fovea.interop.onnx.values import BATCH, Tensor, Traced, channels_last_order
from fovea.ops import (
    Abs,
    AvgPool,
    Constant,
    Conv,
    ConvTranspose,
    Exp,
    GlobalAvgPool,
    GlobalMaxPool,
    Log,
    MaxPool,
    Multiply,
    Pad,
    Reduce,
    Slice,
    Sqrt,
)

__all__ = ["feature_map"]

LARGEST_NORM = 16
"""Of LpPool: powers are products."""


def _padding(into: Importer, x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Any:
    """Padding of a window: ONNX's pads are all begins, then all ends; auto_pad takes their place."""
    rule_name, count = into.attribute("auto_pad", "NOTSET") or "NOTSET", len(kernel)
    pads = into.attribute("pads") or [0] * (2 * count)
    if rule_name == "VALID":
        return 0
    if rule_name == "NOTSET":
        if len(pads) != 2 * count:
            raise into.refuse(f"expected {2 * count} pads, got {len(pads)}", "the file is damaged")
        if min(pads) < 0:
            raise into.refuse(f"expected padding of at least 0, got {list(pads)}")
        return tuple(zip(pads[:count], pads[count:], strict=True))
    if rule_name == "SAME_UPPER":
        return "same"
    if rule_name != "SAME_LOWER":
        raise into.refuse(f"expected a known auto_pad, got {rule_name!r}", "the file is damaged")
    pairs = []
    for size, k, s, d in zip(into.closed_sizes(x)[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pairs.append((total - total // 2, total // 2))
    return tuple(pairs)


def feature_map(into: Importer, ref: Ref, like: Tensor) -> Tensor:
    """A channels-last feature map as an ONNX value N,C,*spatial."""
    *spatial, channels = into.shapes[ref]
    return into.fresh(ref, (BATCH, channels, *spatial), channels_last_order(like.ndim))


def _numbers(into: Importer, name: str, count: int, default: int = 1) -> tuple[int, ...]:
    given = into.attribute(name) or [default] * count
    if len(given) != count:
        raise into.refuse(f"expected {count} {name}, got {list(given)}", "the file is damaged")
    return tuple(given)


@rule("Conv")
def _conv(into: Importer) -> list[Traced]:
    x, weight = into.channels_last(into.tensor(0)), into.constant(1, "weights")
    count = x.ndim - 2
    if weight.ndim != x.ndim or count < 1:
        raise into.refuse(f"expected weights with {x.ndim} axes, got {weight.shape}", "the file is damaged")
    kernel = weight.shape[2:]
    strides, dilations = _numbers(into, "strides", count), _numbers(into, "dilations", count)
    padding = _padding(into, x, kernel, strides, dilations)
    bias = into.constant_or_none(2, "a bias")
    groups = into.attribute("group", 1)
    op = Conv(weight.shape[0], kernel, strides, padding, dilations, groups, bias is not None)
    arrays = {"weight": np.moveaxis(weight, (0, 1), (-1, -2))} | ({} if bias is None else {"bias": bias})
    return [feature_map(into, into.emit(op, x.ref, arrays=arrays), x)]


@rule("ConvTranspose")
def _conv_transpose(into: Importer) -> list[Traced]:
    x, weight = into.channels_last(into.tensor(0)), into.constant(1, "weights")  # C_in, out / groups, *kernel
    count, groups = x.ndim - 2, into.attribute("group", 1)
    if weight.ndim != x.ndim or count < 1:
        raise into.refuse(f"expected weights with {x.ndim} axes, got {weight.shape}", "the file is damaged")
    kernel = weight.shape[2:]
    strides, dilations = _numbers(into, "strides", count), _numbers(into, "dilations", count)
    extra, padding = _transposed_padding(into, x, kernel, strides, dilations)
    bias = into.constant_or_none(2, "a bias")
    op = ConvTranspose(
        weight.shape[1] * groups, kernel, strides, padding, dilations, groups, bias is not None, tuple(extra)
    )
    arrays = {"weight": np.moveaxis(weight, (0, 1), (-1, -2))} | ({} if bias is None else {"bias": bias})
    return [feature_map(into, into.emit(op, x.ref, arrays=arrays), x)]


def _transposed_padding(
    into: Importer, x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], Any]:
    """output_padding and padding; a wanted output_shape is reached by padding, or by less than none of it."""
    count = len(kernel)
    extra, shape = list(_numbers(into, "output_padding", count, 0)), into.attribute("output_shape")
    automatic = into.attribute("auto_pad", "NOTSET") or "NOTSET"
    if shape is None and automatic in ("NOTSET", "VALID"):
        return extra, _padding(into, x, kernel, strides, dilations)
    sizes = into.closed_sizes(x)[2:]
    wanted = list(shape[-count:]) if shape else [size * s for size, s in zip(sizes, strides, strict=True)]
    pairs = []
    for i, (size, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        total = s * (size - 1) + extra[i] + (k - 1) * d + 1 - wanted[i]
        if total < 0:  # a larger output than the windows reach
            extra[i], total = extra[i] - total, 0
        pairs.append(
            (total // 2, total - total // 2) if automatic != "SAME_LOWER" else (total - total // 2, total // 2)
        )
    return extra, tuple(pairs)


@rule("MaxPool", "AveragePool")
def _pool(into: Importer) -> list[Traced]:
    into.leave_out("the position of the maxima")
    x = into.channels_last(into.tensor(0))
    count = x.ndim - 2
    kernel, strides = _numbers(into, "kernel_shape", count), _numbers(into, "strides", count)
    dilations, ceil_mode = _numbers(into, "dilations", count), bool(into.attribute("ceil_mode", 0))
    padding = _padding(into, x, kernel, strides, dilations)
    if into.node.op_type == "MaxPool":
        return [feature_map(into, into.emit(MaxPool(kernel, strides, padding, dilations, ceil_mode), x.ref), x)]
    counted = bool(into.attribute("count_include_pad", 0))
    return [feature_map(into, into.emit(AvgPool(kernel, strides, padding, dilations, ceil_mode, counted), x.ref), x)]


@rule("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(into: Importer) -> list[Traced]:
    x = into.channels_last(into.tensor(0))
    kind = GlobalAvgPool if into.node.op_type == "GlobalAveragePool" else GlobalMaxPool
    return [feature_map(into, into.emit(kind(keepdims=True), x.ref), x)]


@rule("LpPool", "GlobalLpPool")
def _lp_pool(into: Importer) -> list[Traced]:
    """The p-norm of a window: mean of |x|^p, times the number of elements, to the power 1 / p."""
    x, p = into.channels_last(into.tensor(0)), into.attribute("p", 2)
    if not 1 <= p <= LARGEST_NORM:
        raise into.refuse(f"expected p from 1 to {LARGEST_NORM}, got {p}")
    size = x.ref if p % 2 == 0 else into.emit(Abs(), x.ref, hint="abs")
    powers = size
    for _ in range(p - 1):
        powers = into.emit(Multiply(), powers, size, hint="power")
    if into.node.op_type == "GlobalLpPool":
        summed = into.emit(Reduce(tuple(range(1, x.ndim - 1)), "sum", True), powers, hint="sum")
    else:
        summed = _window_sum(into, x, powers)
    while p % 2 == 0:
        summed, p = into.emit(Sqrt(), summed, hint="root"), p // 2
    if p > 1:
        inverse = into.emit(Constant([1 / p]), hint="inverse")
        summed = into.emit(Exp(), into.emit(Multiply(), into.emit(Log(), summed, hint="log"), inverse), hint="root")
    return [feature_map(into, summed, x)]


def _window_sum(into: Importer, x: Tensor, ref: Ref) -> Ref:
    """The sum over every window: its mean, times how many elements the mean counted."""
    kernel, strides = _numbers(into, "kernel_shape", x.ndim - 2), _numbers(into, "strides", x.ndim - 2)
    dilations, ceil_mode = _numbers(into, "dilations", x.ndim - 2), bool(into.attribute("ceil_mode", 0))
    pool = AvgPool(kernel, strides, _padding(into, x, kernel, strides, dilations), dilations, ceil_mode)
    mean = into.emit(pool, ref, hint="mean")
    count = np.array([float(np.prod(kernel))])
    if ceil_mode:
        into.closed_sizes(x)
        into.allow(math.prod(size or 0 for size in into.shapes[mean][:-1]))
        per_axis = pool.counts(into.shapes[ref])
        count = np.asarray(functools.reduce(np.multiply.outer, map(np.asarray, per_axis)), float)[..., None]
    return into.emit(Multiply(), mean, into.emit(Constant(count), hint="count"), hint="sum")


@rule("Pad")
def _pad(into: Importer) -> list[Traced]:
    x, modes = into.tensor(0), {"constant": "zero", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}
    mode = into.attribute("mode", "constant")
    if into.opset < 11:
        pads, fill = into.attribute("pads") or into.attribute("paddings") or [], into.attribute("value", 0.0)
    else:
        pads = into.constant(1, "the pads").reshape(-1).tolist()
        filling = into.constant_or_none(2, "the filling value")
        fill = 0.0 if filling is None else float(filling.reshape(-1)[0])
    axes = into.constant_or_none(3, "the axes")
    named = list(range(x.ndim)) if axes is None else [int(axis) % x.ndim for axis in axes.reshape(-1)]
    if len(pads) != 2 * len(named) or mode not in modes:
        raise into.refuse(f"expected 2 pads for each of {len(named)} axes and a known mode, got {list(pads)}, {mode!r}")
    pairs = {axis: (int(lo), int(hi)) for axis, lo, hi in zip(named, pads, pads[len(named) :], strict=False)}
    if pairs.get(0, (0, 0)) != (0, 0):
        raise into.refuse("padding would change the number of samples")
    x, order = into.in_place(x)
    own = [pairs.get(axis, (0, 0)) for axis in order[1:]]
    ref = x.ref
    if any(lo < 0 or hi < 0 for lo, hi in own):  # negative: elements are cut off
        starts, stops = tuple(max(-lo, 0) for lo, _ in own), tuple(-max(-hi, 0) or None for _, hi in own)
        ref = into.emit(Slice(starts, stops, tuple(range(1, x.ndim))), ref)
        own = [(max(lo, 0), max(hi, 0)) for lo, hi in own]
    if any(pair != (0, 0) for pair in own):
        ref = into.emit(Pad(tuple(own), modes[mode], fill), ref)
    return [into.fresh_like(ref, order)]
