"""Convolution in any number of spatial dimensions, and its transpose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fovea.errors import OpError, ShapeError
from fovea.ops import window
from fovea.ops.base import Op, ParamSpec, Shape, positive_int

__all__ = ["Conv", "ConvTranspose"]


@dataclass(frozen=True)
class _Convolution(Op):
    """What a convolution and its transpose share: the fields, and the sizes of their parameters."""

    out_channels: int
    kernel_size: Any
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    use_bias: bool = True

    def __post_init__(self) -> None:
        positive_int(self.kind, "out_channels", self.out_channels)
        positive_int(self.kind, "groups", self.groups)
        for field in ("kernel_size", "stride", "dilation"):
            object.__setattr__(self, field, window.canonical_sizes(self.kind, field, getattr(self, field)))
        object.__setattr__(self, "padding", window.canonical_padding(self.kind, self.padding))
        if self.out_channels % self.groups:
            raise OpError(
                self.kind,
                f"out_channels={self.out_channels} is not divisible by groups={self.groups}; "
                f"choose groups from {divisors(self.out_channels)}",
            )

    def windows(self, shape: Shape) -> tuple[window.Axis, ...]:
        """The resolved geometry for one input shape."""
        spatial, _ = spatial_and_channels(self.kind, shape)
        return window.resolve(self.kind, spatial, self.kernel_size, self.stride, self.padding, self.dilation)

    def _weight_channels(self, channels: int) -> tuple[int, int]:
        """The last two axes of the weight."""
        return channels // self.groups, self.out_channels

    def parameters(self, *inputs: Shape) -> dict[str, ParamSpec]:
        kernel = tuple(axis.kernel for axis in self.windows(inputs[0]))
        _, channels = spatial_and_channels(self.kind, inputs[0])
        fan_in = math.prod(kernel) * (channels // self.groups)
        fan_out = math.prod(kernel) * (self.out_channels // self.groups)
        specs = {"weight": ParamSpec((*kernel, *self._weight_channels(channels)), "weight", fan_in, fan_out)}
        if self.use_bias:
            specs["bias"] = ParamSpec((self.out_channels,), "zeros", fan_in, decay=False)
        return specs


@dataclass(frozen=True)
class Conv(_Convolution):
    """Convolution: N,*spatial,C_in -> N,*out,out_channels; weight ``*kernel,C_in/groups,out_channels``, bias
    ``out_channels``.

    Cross-correlation, as everywhere in the field: with stride s, dilation d and padding p, and for each kernel offset m

        output[n, i, :] = bias + sum_m  input[n, i s + m d - p, :] @ weight[m]              (input is 0 outside)

    The number of spatial axes comes from the input: the same op is 1-D, 2-D and 3-D convolution; ``kernel_size=1`` is
    the
    1x1 convolution, a matrix product at every position; ``groups=C_in`` is depthwise. ``kernel_size``, ``stride`` and
    ``dilation`` are an integer or one per axis; ``padding`` is "same", "valid", an integer, or an integer or (lo, hi)
    per
    axis. Output size: see fovea.ops.window.

    Raises OpError for impossible arguments, ShapeError when channels or sizes do not fit.
    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", II.A.

    >>> Conv(32, 3, padding="same").output_shapes((28, 28, 1))
    ((28, 28, 32),)
    """

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        _check_groups(self.kind, inputs[0], self.groups)
        return ((*(axis.output for axis in self.windows(inputs[0])), self.out_channels),)

    def macs(self, *inputs: Shape) -> int:
        positions = math.prod(axis.output or 0 for axis in self.windows(inputs[0]))
        return positions * self.parameters(*inputs)["weight"].size


@dataclass(frozen=True)
class ConvTranspose(_Convolution):
    """Transposed convolution: N,*spatial,C_in -> N,*out,out_channels; weight ``*kernel,out_channels/groups,C_in``.

    The adjoint of ``Conv`` with the same geometry: what Conv's backward pass does to a gradient, done forward,

        output[n, i s + m d - p, :] += input[n, i, :] @ weight[m]^T            for every position i and kernel offset m

    so each axis grows to ``(i - 1) stride + (kernel_size - 1) dilation + 1 - lo - hi + output_padding``; "same" gives
    ``i * stride``. Source: Zeiler et al. 2010, "Deconvolutional networks"; Dumoulin and Visin 2016, section 4.
    """

    output_padding: Any = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(
            self, "output_padding", window.canonical_sizes(self.kind, "output_padding", self.output_padding, 0)
        )

    def windows(self, shape: Shape) -> tuple[window.Axis, ...]:
        """Geometry of the convolution that this op transposes: ``input`` is OUR output size, ``output`` our input
        size."""
        spatial, _ = spatial_and_channels(self.kind, shape)
        count = len(spatial)
        fields = [
            window.per_axis(self.kind, name, getattr(self, name), count)
            for name in ("kernel_size", "stride", "dilation", "padding", "output_padding")
        ]
        return tuple(self._axis(size, *one) for size, *one in zip(spatial, *fields, strict=True))

    def _axis(self, size: int | None, kernel: int, stride: int, dilation: int, padding: Any, extra: int) -> window.Axis:
        if padding == "same":
            surplus = (kernel - 1) * dilation + 1 - stride
            padding, extra = ((max(surplus, 0) // 2, max(surplus, 0) - max(surplus, 0) // 2), max(-surplus, 0))
        lo, hi = padding if isinstance(padding, tuple) else (padding, padding)
        if extra >= max(stride, dilation):
            raise ShapeError(
                self.kind,
                f"expected output_padding below stride={stride} or dilation={dilation}, got {extra}; lower it",
            )
        output = window.transposed_size(size, kernel, stride, dilation, lo, hi, extra)
        if output is not None and output < 1:
            raise ShapeError(
                self.kind,
                f"expected an output of at least 1, got {output} from input {size} with padding ({lo}, {hi}); "
                "use less padding",
            )
        return window.Axis(output, size, kernel, stride, dilation, lo, hi - extra)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        _check_groups(self.kind, inputs[0], self.groups)
        return ((*(axis.input for axis in self.windows(inputs[0])), self.out_channels),)

    def _weight_channels(self, channels: int) -> tuple[int, int]:
        return self.out_channels // self.groups, channels

    def macs(self, *inputs: Shape) -> int:
        spatial, _ = spatial_and_channels(self.kind, inputs[0])
        return math.prod(size or 0 for size in spatial) * self.parameters(*inputs)["weight"].size


def divisors(n: int) -> str:
    """The divisors of n as text, for messages: "1, 2, 3, 6"; of a number with very many only the small ones."""
    small = [d for d in range(1, min(math.isqrt(n), 10_000) + 1) if n % d == 0]
    large = [n // d for d in reversed(small) if d * d < n]
    return ", ".join(map(str, small + large if len(small) <= 50 else small[:50]))


def spatial_and_channels(op: str, shape: Shape) -> tuple[Shape, int]:
    """Split ``(*spatial, C)``. Raises ShapeError without a spatial axis or with open channels."""
    if len(shape) < 2:
        raise ShapeError(
            op,
            f"expected input N,*spatial,C with at least one spatial axis, got {('N', *shape)}; place it before "
            "Flatten or Dense",
        )
    channels = shape[-1]
    if channels is None:
        raise ShapeError(
            op, f"expected a known number of channels, got {('N', *shape)}; only spatial sizes may stay open"
        )
    return shape[:-1], channels


def _check_groups(op: str, shape: Shape, groups: int) -> None:
    _, channels = spatial_and_channels(op, shape)
    if channels % groups:
        raise ShapeError(
            op, f"in_channels={channels} is not divisible by groups={groups}; choose groups from {divisors(channels)}"
        )
