"""Sliding windows: the only home of output size, SAME padding and receptive field arithmetic.

One axis with input size ``i``, kernel ``k``, stride ``s``, dilation ``d`` and padding ``(lo, hi)`` has windows of
extent
``e = (k - 1) d + 1``, and

    output = floor((i + lo + hi - e) / s) + 1                       (Dumoulin and Visin 2016, "A guide to convolution
    arithmetic")

"same" is TensorFlow's rule: ``output = ceil(i / s)``, total padding ``max((output - 1) s + e - i, 0)``, the odd
element at
the end. ``ceil_mode`` rounds up, but the last window must begin inside the input or its leading padding (PyTorch's
rule).
Going back, an output interval that starts at ``start`` with step ``jump`` and sees ``size`` input elements becomes, one
window earlier, ``size + (e - 1) jump``, ``jump s`` and ``start - lo jump`` (Araujo et al. 2019, "Computing receptive
fields").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fovea.errors import OpError, ShapeError
from fovea.ops.base import Shape

__all__ = [
    "Axis",
    "Padding",
    "ReceptiveField",
    "canonical_padding",
    "canonical_sizes",
    "per_axis",
    "resolve",
    "transposed_size",
]

_LARGEST = (1 << 31) - 1  # engines compute with 32 bits
Padding = str | int | tuple[Any, ...]


@dataclass(frozen=True)
class Axis:
    """Resolved geometry of one spatial axis. ``pad_hi`` is what the windows really reach beyond the end (may be
    negative)."""

    input: int | None
    output: int | None
    kernel: int
    stride: int
    dilation: int
    pad_lo: int
    pad_hi: int

    @property
    def extent(self) -> int:
        """Elements that the dilated kernel spans: ``(kernel - 1) * dilation + 1``."""
        return (self.kernel - 1) * self.dilation + 1


@dataclass(frozen=True)
class ReceptiveField:
    """What one element of a feature map sees along one axis, in input elements: ``[start + i jump, start + i jump +
    size)``."""

    size: int = 1
    jump: int = 1
    start: int = 0

    def through(self, axis: Axis) -> ReceptiveField:
        """The receptive field after one more window."""
        return ReceptiveField(
            self.size + (axis.extent - 1) * self.jump, self.jump * axis.stride, self.start - axis.pad_lo * self.jump
        )

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """The smallest field that covers both branches."""
        start = min(self.start, other.start)
        return ReceptiveField(
            max(self.start + self.size, other.start + other.size) - start, max(self.jump, other.jump), start
        )


def canonical_sizes(op: str, field: str, value: Any, minimum: int = 1) -> Any:
    """An int, or a tuple of ints one per axis: made canonical once, at the door."""
    items = value if isinstance(value, (tuple, list)) else (value,)
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int) or not minimum <= item <= _LARGEST:
            raise OpError(
                op,
                f"expected {field} to be integers of at least {minimum}, got {str(value)[:60]}; give one below 2^31, "
                "or one per spatial axis",
            )
    if not items:
        raise OpError(op, f"expected {field} to hold one integer per spatial axis, got {value!r}; give at least one")
    return tuple(items) if isinstance(value, (tuple, list)) else value


def canonical_padding(op: str, padding: Any) -> Padding:
    """ "same", "valid" (becomes 0), an int, a tuple with an int or a (lo, hi) pair per axis."""
    if padding == "valid":
        return 0
    if padding == "same" or (isinstance(padding, int) and not isinstance(padding, bool) and 0 <= padding <= _LARGEST):
        return padding  # type: ignore[no-any-return]
    if isinstance(padding, (tuple, list)) and padding:
        items = tuple(tuple(item) if isinstance(item, (tuple, list)) else item for item in padding)
        flat = [n for item in items for n in (item if isinstance(item, tuple) else (item,))]
        pairs = all(not isinstance(item, tuple) or len(item) == 2 for item in items)
        if pairs and all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= _LARGEST for n in flat):
            return items
    raise OpError(
        op,
        'expected padding as "same", "valid", an integer of at least 0, or one integer or (lo, hi) pair per '
        f"axis, got {padding!r}; use one of these",
    )


def per_axis(op: str, field: str, value: Any, num_spatial_dims: int) -> tuple[Any, ...]:
    """One entry per spatial axis. Raises ShapeError when a tuple has another length."""
    if not isinstance(value, tuple):
        return (value,) * num_spatial_dims
    if len(value) != num_spatial_dims:
        raise ShapeError(
            op,
            f"expected {field} with {num_spatial_dims} entries for {num_spatial_dims} spatial axes, got "
            f"{value}; give one integer for all axes or one each",
        )
    return value


def resolve(
    op: str, spatial: Shape, kernel_size: Any, stride: Any, padding: Padding, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Axis, ...]:
    """The geometry of every axis. Raises ShapeError when a window does not fit into the padded input."""
    count = len(spatial)
    kernels = per_axis(op, "kernel_size", kernel_size, count)
    strides = per_axis(op, "stride", stride, count)
    dilations = per_axis(op, "dilation", dilation, count)
    paddings = per_axis(op, "padding", padding, count)
    return tuple(
        _resolve_axis(op, *one, ceil_mode) for one in zip(spatial, kernels, strides, dilations, paddings, strict=True)
    )


def _resolve_axis(
    op: str, size: int | None, kernel: int, stride: int, dilation: int, padding: Any, ceil_mode: bool
) -> Axis:
    extent = (kernel - 1) * dilation + 1
    if padding == "same":
        if size is None:
            return Axis(None, None, kernel, stride, dilation, max(extent - stride, 0) // 2, 0)
        output = -(-size // stride)
        total = max((output - 1) * stride + extent - size, 0)
        return Axis(
            size, output, kernel, stride, dilation, total // 2, (output - 1) * stride + extent - size - total // 2
        )
    lo, hi = padding if isinstance(padding, tuple) else (padding, padding)
    if size is None:
        return Axis(None, None, kernel, stride, dilation, lo, hi)
    room = size + lo + hi - extent
    if room < 0:
        raise ShapeError(
            op,
            f"expected a padded input of at least {extent} (kernel_size={kernel}, dilation={dilation}), got "
            f"{size} + {lo} + {hi}; use a larger input, more padding or a smaller kernel_size",
        )
    output = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (output - 1) * stride >= size + lo:
        output -= 1
    return Axis(size, output, kernel, stride, dilation, lo, (output - 1) * stride + extent - size - lo)


def transposed_size(
    axis_input: int | None, kernel: int, stride: int, dilation: int, lo: int, hi: int, extra: int
) -> int | None:
    """Output size of a transposed convolution: ``(i - 1) s + e - lo - hi + output_padding``."""
    return None if axis_input is None else (axis_input - 1) * stride + (kernel - 1) * dilation + 1 - lo - hi + extra
