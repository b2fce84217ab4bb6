"""Shifted views: how every windowed op of this engine looks at its input.

A window at output position i reads, for kernel offset m, the input at ``i * stride + m * dilation - pad_lo``. For ONE
offset m and all positions i together that is a strided slice of the padded input. So a windowed op is a loop over the
few kernel offsets, with whole arrays inside.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fovea.engines.reference.pair import Array
from fovea.ops.window import Axis

__all__ = ["crop", "offsets", "pad", "shifted"]


def offsets(axes: tuple[Axis, ...]) -> Iterator[tuple[int, ...]]:
    """All kernel offsets m in row-major order: (0, 0), (0, 1), ... for two axes."""
    return iter(np.ndindex(*(axis.kernel for axis in axes)))


def shifted(axes: tuple[Axis, ...], m: tuple[int, ...]) -> tuple[slice, ...]:
    """The index that picks, from a PADDED array N,*padded,C, what offset m meets at every output position."""
    spatial = (
        slice(offset * axis.dilation, offset * axis.dilation + ((axis.output or 0) - 1) * axis.stride + 1, axis.stride)
        for axis, offset in zip(axes, m, strict=True)
    )
    return (slice(None), *spatial)


def pad(x: Array, axes: tuple[Axis, ...], value: float = 0.0) -> Array:
    """x with the padding that the windows reach; where they end before the input does (pad_hi < 0) nothing is added."""
    widths = [(0, 0), *((axis.pad_lo, max(axis.pad_hi, 0)) for axis in axes), (0, 0)]
    return np.pad(x, widths, constant_values=value)  # N,*padded,C


def crop(padded: Array, axes: tuple[Axis, ...]) -> Array:
    """The input's part of a padded array: what ``pad`` added is dropped."""
    spatial = (slice(axis.pad_lo, axis.pad_lo + (axis.input or 0)) for axis in axes)
    return padded[(slice(None), *spatial)]  # N,*spatial,C
