"""Pooling: windows and whole feature maps. No parameters; it shrinks activations, and so the dense layers behind
them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fovea.errors import ShapeError
from fovea.ops import window
from fovea.ops.base import Op, Shape
from fovea.ops.conv import spatial_and_channels

__all__ = ["AdaptiveAvgPool", "AvgPool", "GlobalAvgPool", "GlobalMaxPool", "MaxPool"]


@dataclass(frozen=True)
class _Pool(Op):
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        for field in ("kernel_size", "dilation"):
            object.__setattr__(self, field, window.canonical_sizes(self.kind, field, getattr(self, field)))
        stride = self.kernel_size if self.stride is None else window.canonical_sizes(self.kind, "stride", self.stride)
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "padding", window.canonical_padding(self.kind, self.padding))

    def windows(self, shape: Shape) -> tuple[window.Axis, ...]:
        """The resolved geometry for one input shape; every window must hold at least one input element."""
        spatial, _ = spatial_and_channels(self.kind, shape)
        axes = window.resolve(
            self.kind, spatial, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )
        for axis in axes:
            if axis.input is not None and (axis.pad_lo >= axis.extent or axis.pad_hi >= axis.extent):
                raise ShapeError(
                    self.kind,
                    f"expected padding below the window extent {axis.extent}, got ({axis.pad_lo}, "
                    f"{axis.pad_hi}); a window must not lie in the padding alone",
                )
            if axis.input is not None and axis.dilation > axis.input and _steps_over(axis):
                raise ShapeError(
                    self.kind,
                    f"expected dilation of at most the input {axis.input}, got {axis.dilation}; a window steps over it",
                )
        return axes

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((*(axis.output for axis in self.windows(inputs[0])), inputs[0][-1]),)


def _steps_over(axis: window.Axis) -> bool:
    """Whether a window that begins in the padding has no tap inside the input: its first at or after 0 lies beyond."""
    begun_before = min(-(-axis.pad_lo // axis.stride), axis.output or 0, 4096)
    return any((o * axis.stride - axis.pad_lo) % axis.dilation >= (axis.input or 0) for o in range(begun_before))


@dataclass(frozen=True)
class MaxPool(_Pool):
    """Maximum of each window and channel: N,*spatial,C -> N,*out,C. stride defaults to kernel_size; padding never wins.

    Backward gives grad_output to the FIRST maximum of a window in row-major order, a valid subgradient; an indicator
    "X = max" would hand it to every tie. Output size: see fovea.ops.window. Source: Ranzato et al. 2007.

    >>> MaxPool(2).output_shapes((256, 256, 64))
    ((128, 128, 64),)
    """


@dataclass(frozen=True)
class AvgPool(_Pool):
    """Mean of each window and channel: N,*spatial,C -> N,*out,C. stride defaults to kernel_size.

    ``count_include_pad``: whether the divisor counts declared padding (as PyTorch and ONNX do by default) or only input
    elements; what ``ceil_mode`` adds beyond the declared padding is never counted. Source: LeCun et al. 1998, II.B.
    """

    count_include_pad: bool = True

    def counts(self, shape: Shape) -> tuple[tuple[int, ...], ...]:
        """For every axis the number of elements that each window counts: the divisor is their product over the axes."""
        axes = self.windows(shape)
        paddings = window.per_axis(self.kind, "padding", self.padding, len(axes))
        result = []
        for axis, padding in zip(axes, paddings, strict=True):
            hi = axis.pad_hi if padding == "same" else padding[1] if isinstance(padding, tuple) else padding
            low, high = 0, axis.input or 0
            if self.count_include_pad:
                low, high = -axis.pad_lo, high + max(hi, 0)
            starts = (o * axis.stride - axis.pad_lo for o in range(axis.output or 0))
            windows = (range(start, start + axis.extent, axis.dilation) for start in starts)
            result.append(tuple(sum(low <= position < high for position in one) for one in windows))
        return tuple(result)


@dataclass(frozen=True)
class AdaptiveAvgPool(Op):
    """Average pooling to a given output size: N,*spatial,C -> N,*output_size,C.

    Output i averages input ``floor(i I / O) .. ceil((i + 1) I / O)`` (PyTorch's bins, which may overlap).
    """

    output_size: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_size", window.canonical_sizes(self.kind, "output_size", self.output_size))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        spatial, channels = spatial_and_channels(self.kind, inputs[0])
        return ((*window.per_axis(self.kind, "output_size", self.output_size, len(spatial)), channels),)

    def bins(self, shape: Shape) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For every axis the (start, stop) of each bin; the shape must be closed."""
        sizes = window.per_axis(self.kind, "output_size", self.output_size, len(shape) - 1)
        return tuple(
            tuple((i * (size or 0) // out, -(-(i + 1) * (size or 0) // out)) for i in range(out))
            for size, out in zip(shape[:-1], sizes, strict=True)
        )


@dataclass(frozen=True)
class _GlobalPool(Op):
    keepdims: bool = False

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        spatial, channels = spatial_and_channels(self.kind, inputs[0])
        return ((*((1,) * len(spatial) if self.keepdims else ()), channels),)


@dataclass(frozen=True)
class GlobalAvgPool(_GlobalPool):
    """Mean over all positions: N,*spatial,C -> N,C (``keepdims``: N,1..,C). Source: Lin et al. 2013, "Network in
    network", 3.2."""


@dataclass(frozen=True)
class GlobalMaxPool(_GlobalPool):
    """Maximum over all positions: N,*spatial,C -> N,C (``keepdims``: N,1..,C); the gradient goes to the first
    maximum."""
