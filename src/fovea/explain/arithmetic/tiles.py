"""How large rounding errors may be where the engine computes 3x3 convolutions in tiles, by Winograd's algorithm.

A tile of up to 4x4 outputs reads 6x6 inputs, transforms them, and takes differences of the products: what cancels
leaves errors of the size of the tile's largest numbers, whatever an output's own size. The bounds here hold for every
tile that may contain a position, since where tiles begin is the engine's business.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import Array, Index

__all__ = ["PLAIN", "Bound", "tile_bound", "weight_bound"]

_REACH = 5  # inputs that may share a tile with a position: 6 along an axis
_K = 16.0  # of the transforms, which multiply by up to 11.4 before they cancel


class Bound(NamedTuple):
    """A magnitude for ``Check`` (None: the sum of the absolute terms) and what is added to its k."""

    magnitude: float | None = None
    extra: float = 0.0


PLAIN = Bound()


def tile_bound(live: Live, which: str, values: Array, filter_sums: Array, at: Index) -> Bound:
    """Of one output at ``at``: for each channel the largest value around it times the sum of the filter's weights.

    ``values``: *spatial,K; ``filter_sums``: K, sums of absolute weights over the kernel.
    """
    if not live.by_winograd(which):
        return PLAIN
    around = values[tuple(slice(max(0, q - _REACH), q + _REACH + 1) for q in at)]
    largest = np.abs(around.astype(np.float64)).max(axis=tuple(range(len(at))), initial=0)  # K
    return Bound(float(largest @ filter_sums.astype(np.float64)), _K)


def weight_bound(live: Live, wide: Array, narrow: Array) -> Bound:
    """Of one weight's gradient: the sum over samples and positions of the largest values around, N,*spatial each."""
    if not live.by_winograd("backward weight"):
        return PLAIN
    sizes = tuple(slice(0, min(a, b)) for a, b in zip(wide.shape[1:], narrow.shape[1:], strict=True))
    pair = [_largest_around(one)[(slice(None), *sizes)] for one in (wide, narrow)]
    return Bound(float((pair[0] * pair[1]).sum()), _K)


def _largest_around(values: Array) -> Array:
    """N,*spatial -> the largest absolute value within reach, axis by axis."""
    result = np.abs(values.astype(np.float64))
    for axis in range(1, values.ndim):
        size = result.shape[axis]
        widths = [(_REACH, _REACH) if one == axis else (0, 0) for one in range(values.ndim)]
        padded = np.pad(result, widths)
        moved = (padded.take(range(start, start + size), axis) for start in range(2 * _REACH + 1))
        result = np.maximum.reduce(list(moved))
    return result
