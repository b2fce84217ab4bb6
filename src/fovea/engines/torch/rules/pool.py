"""Pooling: the maximum or mean of windows, of bins, of whole feature maps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fovea.engines.torch.layout import channels_first, channels_last
from fovea.engines.torch.rules.rule import Fixed, Layer, Mode, Rule, Run
from fovea.engines.torch.rules.window import Windows
from fovea.errors import EngineError
from fovea.graph.graph import Node
from fovea.ops.window import Axis, per_axis

__all__ = ["RULES", "first_maximum", "torch_counts"]


def _half(axis: Axis) -> int:
    """PyTorch's pooling takes at most half a window of padding."""
    return axis.kernel // 2


def maxpool(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> N,*out,C; PyTorch gives the gradient to the first maximum of a window, as we do."""
    op: Any = node.op
    windows = Windows.of(node.name, op.windows(node.input_shapes[0]), -math.inf, _half)
    function, kernel = windows.function("max_pool"), windows.field("kernel")
    stride, dilation = windows.field("stride"), windows.field("dilation")

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        return windows.leave(function(windows.enter(x), kernel, stride, windows.padding, dilation))

    return run


def avgpool(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> N,*out,C. PyTorch's function where it counts as we do, else sums over counts."""
    op: Any = node.op
    shape = node.input_shapes[0]
    windows = Windows.of(node.name, op.windows(shape), 0.0, _half)
    counts = op.counts(shape)
    refused = any(axis.dilation > 1 or axis.kernel > (axis.input or 0) for axis in windows.axes)
    if windows.widths or refused or counts != torch_counts(op, shape):
        return _summed(op, shape, counts)
    function, kernel, stride = windows.function("avg_pool"), windows.field("kernel"), windows.field("stride")

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        y = function(windows.enter(x), kernel, stride, windows.padding, False, op.count_include_pad)
        return windows.leave(y)

    return run


def torch_counts(op: Any, shape: tuple[int | None, ...]) -> tuple[tuple[int, ...], ...]:
    """The elements that PyTorch counts in each window when both sides are padded alike and sizes rounded down."""
    result = []
    for axis in op.windows(shape):
        size = axis.input or 0
        low, high = (-axis.pad_lo, size + axis.pad_lo) if op.count_include_pad else (0, size)
        starts = [o * axis.stride - axis.pad_lo for o in range(axis.output or 0)]
        result.append(tuple(min(start + axis.kernel, high) - max(start, low) for start in starts))
    return tuple(result)


def _summed(op: Any, shape: tuple[int | None, ...], counts: tuple[tuple[int, ...], ...]) -> Run:
    """The input, padded and shifted by every kernel offset, added up: any geometry."""
    axes = op.windows(shape)
    widths = (0, 0, *(width for axis in reversed(axes) for width in (axis.pad_lo, max(axis.pad_hi, 0))))
    divisor = np.ones(())
    for one_axis in counts:
        divisor = divisor[..., None] * np.asarray(one_axis, np.float64)
    fixed = Fixed(divisor[..., None])  # *out,1
    offsets = list(itertools.product(*(range(axis.kernel) for axis in axes)))

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x, widths)
        total = sum(padded[(slice(None), *_shifted(axes, m))] for m in offsets)
        result: torch.Tensor = total / fixed.like(x)
        return result

    return run


def _shifted(axes: tuple[Axis, ...], m: tuple[int, ...]) -> list[slice]:
    """What offset m meets at every output position of the padded input."""
    return [
        slice(offset * axis.dilation, offset * axis.dilation + ((axis.output or 0) - 1) * axis.stride + 1, axis.stride)
        for axis, offset in zip(axes, m, strict=True)
    ]


def adaptiveavgpool(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> N,*output_size,C: PyTorch's bins are ours."""
    op: Any = node.op
    count = len(node.input_shapes[0]) - 1
    if count > 3:
        raise EngineError(node.name, f"expected at most 3 spatial axes, got {count}; use the reference engine")
    size = per_axis(op.kind, "output_size", op.output_size, count)
    function = getattr(F, f"adaptive_avg_pool{count}d")
    return lambda layer, x: channels_last(function(channels_first(x), size))


def globalavgpool(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> N,C (keepdims: N,1..,C)."""
    op: Any = node.op
    axes = tuple(range(1, len(node.input_shapes[0])))
    return lambda layer, x: x.mean(axes, keepdim=op.keepdims)


def globalmaxpool(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> N,C (keepdims: N,1..,C)."""
    op: Any = node.op
    axes = tuple(range(1, len(node.input_shapes[0])))
    return lambda layer, x: first_maximum(x, axes, op.keepdims)


def first_maximum(x: torch.Tensor, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The maximum over some axes; the gradient goes to the first in row-major order (``amax`` would share it)."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    y = x.permute(*kept, *axes).flatten(len(kept)).max(-1).values
    return y.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)]) if keepdims else y


RULES: dict[str, Rule] = {
    "maxpool": maxpool,
    "avgpool": avgpool,
    "adaptiveavgpool": adaptiveavgpool,
    "globalavgpool": globalavgpool,
    "globalmaxpool": globalmaxpool,
}
