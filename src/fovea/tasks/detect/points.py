"""Where a detector looks from: one point in the middle of each cell of each of its maps, and boxes around points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["around", "distances_to", "flat", "points_of"]

Array = npt.NDArray[Any]


def points_of(sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> tuple[Array, Array]:
    """Points ``float32 (A, 2)`` as x, y pixels of the input, and the stride of each, ``float32 (A,)``.

    The cell in row i and column j of a map of stride s is seen from ``((j + 1/2) s, (i + 1/2) s)``; maps in the order
    of ``strides``, rows first.
    """
    points, steps = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        points.append((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * stride)
        steps.append(np.full(height * width, stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(steps).astype(np.float32)


def flat(maps: Sequence[Array]) -> Array:
    """Maps ``N,h,w,C`` of every stride -> ``N,A,C``."""
    return np.concatenate([one.reshape(len(one), -1, one.shape[-1]) for one in maps], axis=1)


def around(points: Array, steps: Array, distances: Array) -> Array:
    """Boxes xyxy ``(..., A, 4)`` from distances to the left, top, right and bottom side in units of the stride."""
    reach = distances * steps[:, None]
    return np.concatenate([points - reach[..., :2], points + reach[..., 2:]], axis=-1)


def distances_to(points: Array, steps: Array, boxes: Array) -> Array:
    """``around`` backwards: boxes ``(A, 4)`` -> distances ``(A, 4)``, negative where a point lies outside."""
    return np.concatenate([points - boxes[:, :2], boxes[:, 2:] - points], axis=-1) / steps[:, None]
