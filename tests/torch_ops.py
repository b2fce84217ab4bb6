"""Every op written with PyTorch's functions: an outside oracle for single ops and for whole graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.ops import window

__all__ = ["TORCH", "first", "last"]

torch = pytest.importorskip("torch", reason="PyTorch is not installed; it is the outside oracle of these tests")
F = torch.nn.functional
Tensor = Any


def first(x: Tensor) -> Tensor:
    """N,*spatial,C -> N,C,*spatial."""
    return x.movedim(-1, 1)


def last(x: Tensor) -> Tensor:
    """N,C,*spatial -> N,*spatial,C."""
    return x.movedim(1, -1)


def padded(x: Tensor, axes: tuple[window.Axis, ...], value: float = 0.0) -> Tensor:
    """N,C,*spatial with what windows reach on both sides, cut where pad_hi is negative: torch then needs no padding."""
    widths = [width for axis in reversed(axes) for width in (axis.pad_lo, axis.pad_hi)]
    grown = F.pad(x, [max(width, 0) for width in widths], value=value)
    return F.pad(grown, [min(width, 0) for width in widths])


def per_axis(axes: tuple[window.Axis, ...], field: str) -> tuple[int, ...]:
    return tuple(getattr(axis, field) for axis in axes)


def conv(op: ops.Conv, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    axes = op.windows(tuple(x.shape[1:]))
    weight = params["weight"].movedim((-1, -2), (0, 1)).contiguous()  # Cout,Cin/groups,*kernel
    function = (F.conv1d, F.conv2d, F.conv3d)[len(axes) - 1]
    stride, dilation = per_axis(axes, "stride"), per_axis(axes, "dilation")
    x = padded(first(x), axes).contiguous()  # torch's own gradients fail on other orders
    return last(function(x, weight, params.get("bias"), stride, 0, dilation, op.groups))


def convtranspose(op: ops.ConvTranspose, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Without torch's padding: the whole reach, then our window of it."""
    axes = op.windows(tuple(x.shape[1:]))
    weight = params["weight"].movedim((-1, -2), (0, 1)).contiguous()  # Cin,Cout/groups,*kernel
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(axes) - 1]
    stride, dilation = per_axis(axes, "stride"), per_axis(axes, "dilation")
    y = function(first(x).contiguous(), weight, None, stride, 0, 0, op.groups, dilation)
    y = last(F.pad(y, [width for axis in reversed(axes) for width in (-axis.pad_lo, -axis.pad_hi)]))
    return y + params["bias"] if op.use_bias else y


def maxpool(op: ops.MaxPool, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    axes = op.windows(tuple(x.shape[1:]))
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(axes) - 1]
    y = padded(first(x), axes, -float("inf"))
    return last(function(y, per_axis(axes, "kernel"), per_axis(axes, "stride"), 0, per_axis(axes, "dilation")))


def avgpool(op: ops.AvgPool, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """torch's own arithmetic of padding, ceil_mode and counting, where it can express ours."""
    axes = op.windows(tuple(x.shape[1:]))
    narrow = any((axis.input or 0) < axis.kernel for axis in axes)  # torch asks for more than it needs
    if op.dilation != 1 or op.padding == "same" or isinstance(op.padding, tuple) or narrow:
        return counted_average(op, first(x), axes)
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(axes) - 1]
    kernel, stride = per_axis(axes, "kernel"), per_axis(axes, "stride")
    return last(function(first(x), kernel, stride, op.padding, op.ceil_mode, op.count_include_pad))


def counted_average(op: ops.AvgPool, x: Tensor, axes: tuple[window.Axis, ...]) -> Tensor:
    """Sums of windows, by a convolution with ones, over how many of their elements count."""
    function = (F.conv1d, F.conv2d, F.conv3d)[len(axes) - 1]
    ones = torch.ones((x.shape[1], 1, *per_axis(axes, "kernel")), dtype=x.dtype)
    counts = torch.zeros_like(padded(x.detach(), axes))
    inside: list[Any] = [slice(None), slice(None)]
    for number, axis in enumerate(axes):
        entry = op.padding[number] if isinstance(op.padding, tuple) else op.padding
        hi = max(axis.pad_hi, 0) if entry == "same" else entry[1] if isinstance(entry, tuple) else entry
        low, high = axis.pad_lo, axis.pad_lo + (axis.input or 0)
        inside.append(slice(0, high + hi) if op.count_include_pad else slice(low, high))
    counts[tuple(inside)] = 1
    geometry = (None, per_axis(axes, "stride"), 0, per_axis(axes, "dilation"), x.shape[1])
    return last(function(padded(x, axes), ones, *geometry) / function(counts, ones, *geometry))


def adaptiveavgpool(op: ops.AdaptiveAvgPool, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    size = window.per_axis("", "", op.output_size, x.ndim - 2)
    function = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[x.ndim - 3]
    return last(function(first(x), size if x.ndim > 3 else size[0]))


def groupnorm(op: ops.GroupNorm, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    if x.numel() == op.groups:  # single values, each its own mean: torch refuses them
        return x * 0 * params["weight"] + params["bias"]
    return last(F.group_norm(first(x), op.groups, params["weight"], params["bias"], op.eps))


def lrn(op: ops.LRN, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """torch centres an even window on the other side, so channels run backwards there and back."""
    if x.ndim == 2:  # torch wants a spatial axis
        return lrn(op, x[:, None], params)[:, 0]
    flipped = first(x).flip(1) if op.size % 2 == 0 else first(x)
    y = F.local_response_norm(flipped, op.size, op.alpha, op.beta, op.k)
    return last(y.flip(1) if op.size % 2 == 0 else y)


def pad(op: ops.Pad, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Channels are padded in torch by giving them a spatial axis of their own."""
    pairs = op.pairs(tuple(x.shape[1:]))
    widths = [width for pair in reversed(pairs) for width in pair]
    if op.mode == "zero":
        return F.pad(x, widths, value=op.value)
    if x.ndim <= 4:
        return F.pad(x[:, None], widths, op.mode)[:, 0]
    for axis, pair in enumerate(pairs, 1):  # torch pads three axes at most
        modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        taken = np.pad(np.arange(x.shape[axis]), pair, mode=modes[op.mode])  # type: ignore[call-overload]
        x = x.index_select(axis, torch.from_numpy(taken))
    return x


def resize(op: ops.Resize, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    exact = op.rounding == "half_up" and op.coordinates == "half_pixel"
    whole = op.mode == "bicubic" and (x.ndim != 4 or op.coordinates == "asymmetric" or op.cubic != -0.75)
    if (op.rounding is not None and not exact) or op.coordinates == "pytorch_half_pixel" or whole:
        pytest.skip("torch has no such coordinates, rounding or kernel")
    if op.mode == "bilinear" and op.coordinates == "asymmetric":  # torch has no such coordinates
        return asymmetric(x, tuple(op.output_shapes(tuple(x.shape[1:]))[0][:-1]))
    how: dict[str, Any] = {"size": op.size, "scale_factor": op.scale}
    if op.mode == "nearest":
        return last(F.interpolate(first(x), **how, mode="nearest-exact" if exact else "nearest"))
    mode = op.mode if op.mode == "bicubic" else ("linear", "bilinear", "trilinear")[x.ndim - 3]
    return last(F.interpolate(first(x), **how, mode=mode, align_corners=op.coordinates == "align_corners"))


def asymmetric(x: Tensor, size: tuple[int | None, ...]) -> Tensor:
    """Output o lies at ``o in / out`` between its two neighbours, axis by axis."""
    for axis, wanted in enumerate(size, 1):
        there = torch.arange(wanted, dtype=x.dtype) * x.shape[axis] / wanted
        low = there.floor().long()
        share = (there - low).reshape(-1, *(1 for _ in x.shape[axis + 1 :]))
        above = x.index_select(axis, (low + 1).clamp(max=x.shape[axis] - 1))
        x = x.index_select(axis, low) * (1 - share) + above * share
    return x


def cross_entropy(op: ops.SoftmaxCrossEntropy, logits: Tensor, targets: Tensor) -> Tensor:
    weight = None if op.class_weights is None else torch.tensor(op.class_weights, dtype=logits.dtype)
    if not op.soft_targets:
        if (targets < 0).all() or (weight is not None and not weight[targets].any()):
            pytest.skip("torch's mean over no target is not a number")
        return F.cross_entropy(first(logits), targets, weight, ignore_index=-1, label_smoothing=op.label_smoothing)
    mean = F.cross_entropy(first(logits), first(targets), weight, label_smoothing=op.label_smoothing)
    total = targets[..., 0].numel()  # torch divides by N, fovea by the sum of weights
    return mean if weight is None else mean * total / (targets @ weight).sum()


def focal(op: ops.FocalLoss, x: Tensor, t: Tensor) -> Tensor:
    """From probabilities, as the paper writes it."""
    p = torch.sigmoid(x)
    p_t = p * t + (1 - p) * (1 - t)
    alpha = op.alpha * t + (1 - op.alpha) * (1 - t) if op.alpha >= 0 else 1.0
    return (alpha * (1 - p_t) ** op.gamma * F.binary_cross_entropy_with_logits(x, t, reduction="none")).sum() / len(x)


def quality_focal(op: ops.QualityFocalLoss, x: Tensor, t: Tensor) -> Tensor:
    ce = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    return ((t - torch.sigmoid(x)).abs() ** op.beta * ce).sum() / len(x)


def box_overlap(op: ops.IoULoss, distances: Tensor, targets: Tensor) -> Tensor:
    """From corners around the origin, as the papers write it."""
    p, q = (torch.cat([-sides[..., :2], sides[..., 2:4]], dim=-1) for sides in (distances, targets))

    def area(box: Tensor) -> Tensor:
        return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])

    common = area(torch.cat([torch.maximum(p, q)[..., :2], torch.minimum(p, q)[..., 2:]], dim=-1))
    around = torch.cat([torch.minimum(p, q)[..., :2], torch.maximum(p, q)[..., 2:]], dim=-1)
    union = area(p) + area(q) - common
    each = 1 - common / union
    if op.variant == "giou":
        each = each + (area(around) - union) / area(around)
    if op.variant == "diou":
        middle = (p[..., :2] + p[..., 2:] - q[..., :2] - q[..., 2:]) / 2
        each = each + middle.square().sum(-1) / (around[..., 2:] - around[..., :2]).square().sum(-1)
    return (targets[..., 4] * each).sum() / len(distances)


TORCH: dict[str, Callable[..., Tensor]] = {
    "conv": conv,
    "convtranspose": convtranspose,
    "dense": lambda op, x, p: F.linear(x, p["weight"].T, p.get("bias")),
    "matmul": lambda op, x, p, y: torch.matmul(x, y),
    "maxpool": maxpool,
    "avgpool": avgpool,
    "adaptiveavgpool": adaptiveavgpool,
    "layernorm": lambda op, x, p: F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"], op.eps),
    "groupnorm": groupnorm,
    "lrn": lrn,
    "relu6": lambda op, x, p: F.relu6(x),
    "leakyrelu": lambda op, x, p: F.leaky_relu(x, op.negative_slope),
    "prelu": lambda op, x, p: last(F.prelu(first(x), p["weight"])),
    "sigmoid": lambda op, x, p: torch.sigmoid(x),
    "tanh": lambda op, x, p: torch.tanh(x),
    "silu": lambda op, x, p: F.silu(x),
    "gelu": lambda op, x, p: F.gelu(x, approximate=op.approximate),
    "hardswish": lambda op, x, p: F.hardswish(x),
    "elu": lambda op, x, p: F.elu(x, op.alpha),
    "selu": lambda op, x, p: F.selu(x),
    "softplus": lambda op, x, p: F.softplus(x, threshold=100),
    "mish": lambda op, x, p: F.mish(x),
    "clip": lambda op, x, p: x.clamp(op.low, op.high),
    "exp": lambda op, x, p: x.exp(),
    "log": lambda op, x, p: x.log(),
    "sqrt": lambda op, x, p: x.sqrt(),
    "abs": lambda op, x, p: x.abs(),
    "softmax": lambda op, x, p: F.softmax(x, op.axis),
    "pad": pad,
    "channelshuffle": lambda op, x, p: last(F.channel_shuffle(first(x)[..., None], op.groups)[..., 0]),
    "resize": resize,
    "softmaxcrossentropy": lambda op, x, p, t: cross_entropy(op, x, t),
    "binarycrossentropy": lambda op, x, p, t: F.binary_cross_entropy_with_logits(x, t),
    "focalloss": lambda op, x, p, t: focal(op, x, t),
    "qualityfocalloss": lambda op, x, p, t: quality_focal(op, x, t),
    "iouloss": lambda op, x, p, t: box_overlap(op, x, t),
    "meansquarederror": lambda op, x, p, t: F.mse_loss(x, t),
    "smoothl1": lambda op, x, p, t: F.smooth_l1_loss(x, t, beta=op.beta),
}
