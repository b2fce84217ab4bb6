"""Convolution, pooling, resizing: operators that slide windows over channels-last feature maps."""

from __future__ import annotations

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
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Multiply,
    Pad,
    Reduce,
    Resize,
    Slice,
    Sqrt,
)

__all__: list[str] = []


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


def _map(into: Importer, ref: Ref, like: Tensor) -> Tensor:
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
    return [_map(into, into.emit(op, x.ref, arrays=arrays), x)]


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
    return [_map(into, into.emit(op, x.ref, arrays=arrays), x)]


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
    if len(into.node.output) > 1 and into.node.output[1]:
        raise into.refuse("the positions of the maxima are wanted as well; that output is not there")
    x = into.channels_last(into.tensor(0))
    count = x.ndim - 2
    kernel, strides = _numbers(into, "kernel_shape", count), _numbers(into, "strides", count)
    dilations, ceil_mode = _numbers(into, "dilations", count), bool(into.attribute("ceil_mode", 0))
    padding = _padding(into, x, kernel, strides, dilations)
    if into.node.op_type == "MaxPool":
        return [_map(into, into.emit(MaxPool(kernel, strides, padding, dilations, ceil_mode), x.ref), x)]
    counted = bool(into.attribute("count_include_pad", 0))
    return [_map(into, into.emit(AvgPool(kernel, strides, padding, dilations, ceil_mode, counted), x.ref), x)]


@rule("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(into: Importer) -> list[Traced]:
    x = into.channels_last(into.tensor(0))
    kind = GlobalAvgPool if into.node.op_type == "GlobalAveragePool" else GlobalMaxPool
    return [_map(into, into.emit(kind(keepdims=True), x.ref), x)]


@rule("LpPool", "GlobalLpPool")
def _lp_pool(into: Importer) -> list[Traced]:
    """The p-norm of a window: mean of |x|^p, times the number of elements, to the power 1 / p."""
    x, p = into.channels_last(into.tensor(0)), into.attribute("p", 2)
    if p not in (1, 2) or into.attribute("ceil_mode", 0):
        raise into.refuse(f"expected p = 1 or 2 without ceil_mode, got p = {p}")
    powers = into.emit(Multiply(), x.ref, x.ref, hint="square") if p == 2 else into.emit(Abs(), x.ref, hint="abs")
    if into.node.op_type == "GlobalLpPool":
        summed = into.emit(Reduce(tuple(range(1, x.ndim - 1)), "sum", True), powers, hint="sum")
    else:
        kernel, strides = _numbers(into, "kernel_shape", x.ndim - 2), _numbers(into, "strides", x.ndim - 2)
        dilations = _numbers(into, "dilations", x.ndim - 2)
        mean = into.emit(AvgPool(kernel, strides, _padding(into, x, kernel, strides, dilations), dilations), powers)
        count = into.emit(Constant([float(np.prod(kernel))]), hint="count")
        summed = into.emit(Multiply(), mean, count, hint="sum")
    return [_map(into, into.emit(Sqrt(), summed, hint="root") if p == 2 else summed, x)]


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


@rule("Resize", "Upsample")
def _resize(into: Importer) -> list[Traced]:
    x = into.channels_last(into.tensor(0))
    sizes = into.closed_sizes(x)
    wanted = _wanted_sizes(into, sizes)
    if wanted[:2] != sizes[:2]:
        raise into.refuse("expected only spatial axes to be resized")
    old = into.node.op_type == "Upsample" or into.opset < 11
    mode, nearest = into.attribute("mode", "nearest"), into.attribute("nearest_mode", "round_prefer_floor")
    coordinates = "asymmetric" if old else into.attribute("coordinate_transformation_mode", "half_pixel")
    if old:
        nearest = "floor"
    spatial, target = sizes[2:], wanted[2:]
    if mode == "linear" and coordinates == "pytorch_half_pixel" and 1 not in target:
        coordinates = "half_pixel"
    if mode == "linear" and not into.attribute("antialias", 0):
        names = {"half_pixel": "half_pixel", "align_corners": "align_corners", "asymmetric": "asymmetric"}
        if coordinates in names:
            return [_map(into, into.emit(Resize(tuple(target), None, "bilinear", names[coordinates]), x.ref), x)]
    if mode == "nearest" and _is_floor(spatial, target, coordinates, nearest):
        return [_map(into, into.emit(Resize(tuple(target)), x.ref), x)]
    raise into.refuse(f"the combination {mode}, {coordinates}, {nearest} is not there for {spatial} to {target}")


def _wanted_sizes(into: Importer, sizes: list[int]) -> list[int]:
    """Output sizes of all axes."""
    if into.node.op_type == "Upsample":
        scales = into.attribute("scales") if into.opset < 9 else into.constant(1, "the scales").tolist()
        return [int(np.floor(size * scale)) for size, scale in zip(sizes, scales, strict=True)]
    first = 1 if into.opset < 11 else 2
    axes = into.attribute("axes") or list(range(len(sizes)))
    scale_array = into.constant_or_none(first, "the scales")
    wanted = list(sizes)
    if scale_array is not None and scale_array.size:
        for axis, scale in zip(axes, scale_array.tolist(), strict=True):
            wanted[axis] = sizes[axis] if scale == 1 else int(np.floor(sizes[axis] * np.float32(scale)))
            if abs(wanted[axis] - sizes[axis] * scale) > 1e-3:  # positions would follow the scale, not the sizes
                raise into.refuse(f"expected a scale that gives a whole size, got {sizes[axis]} times {scale:g}")
        return wanted
    if into.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise into.refuse("expected the policy 'stretch'")
    given = into.constant(3, "the sizes").tolist()
    for axis, size in zip(axes, given, strict=True):
        wanted[axis] = sizes[0] if axis == 0 and size in (sizes[0], into.fixed_batch) else int(size)
    return wanted


def _is_floor(spatial: Sequence[int], target: Sequence[int], coordinates: str, nearest: str) -> bool:
    """Whether the file's rule picks the element ``floor(o * in / out)`` everywhere, which is ours."""
    for size, out in zip(spatial, target, strict=True):
        o = np.arange(out)
        if coordinates in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
            x = (o + 0.5) * size / out - 0.5
        elif coordinates == "align_corners":
            x = o * (size - 1) / max(out - 1, 1)
        elif coordinates == "asymmetric":
            x = o * size / out
        else:
            return False
        rounded = {
            "round_prefer_floor": np.ceil(x - 0.5),
            "round_prefer_ceil": np.floor(x + 0.5),
            "floor": np.floor(x),
            "ceil": np.ceil(x),
        }.get(nearest)
        if rounded is None or not np.array_equal(np.clip(rounded, 0, size - 1), o * size // out):
            return False
    return True
