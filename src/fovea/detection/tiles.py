"""Large images in tiles: where these lie, and which boxes an edge of a tile has cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError

__all__ = ["Tile", "cut_by", "tiles", "without_parts"]

Array = npt.NDArray[Any]
Tile = tuple[int, int, int, int]
"""``top, left, bottom, right`` in pixels of the image."""
_EDGE = 3.0
_INSIDE = 0.7


def tiles(height: int, width: int, tile: int, overlap: float = 0.2) -> list[Tile]:
    """Windows of ``tile`` pixels that cover an image, neighbours sharing at least ``overlap`` of a tile.

    They are spread evenly, so that the last ones end at the image's edge; an image that fits into one is one window.
    Raises ConfigError for a tile below 32 or an overlap outside [0, 0.9].
    """
    if isinstance(tile, bool) or not isinstance(tile, int) or tile < 32:
        raise ConfigError("tile", f"expected pixels as an integer of at least 32, got {tile!r}; 640 is usual")
    if isinstance(overlap, bool) or not isinstance(overlap, (int, float)) or not 0 <= overlap <= 0.9:
        raise ConfigError("overlap", f"expected a share of a tile from 0 to 0.9, got {overlap!r}; 0.2 is usual")
    rows, columns = (_starts(size, tile, overlap) for size in (height, width))
    return [(top, left, min(height, top + tile), min(width, left + tile)) for top in rows for left in columns]


def _starts(size: int, tile: int, overlap: float) -> list[int]:
    if size <= tile:
        return [0]
    step = max(1.0, tile * (1 - overlap))
    count = int(np.ceil((size - tile) / step)) + 1
    return [round(start) for start in np.linspace(0, size - tile, count).tolist()]


def cut_by(boxes: Array, tile: Tile, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Which boxes ``(n, 4)`` xyxy, in pixels of the image, end at an edge of their tile that is no edge of the image:
    they may be parts of objects."""
    top, left, bottom, right = tile
    return np.asarray(
        ((boxes[:, 0] <= left + _EDGE) & (left > 0))
        | ((boxes[:, 1] <= top + _EDGE) & (top > 0))
        | ((boxes[:, 2] >= right - _EDGE) & (right < width))
        | ((boxes[:, 3] >= bottom - _EDGE) & (bottom < height))
    )


def without_parts(boxes: Array, labels: Array, is_cut: Array) -> npt.NDArray[np.bool_]:
    """Which boxes stay: all but those cut boxes that lie, to seven tenths, in a larger box of their class.

    An overlap of union cannot see it: a part of an object covers little of the whole. Of two cut boxes the larger one
    stays.
    """
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    stays = np.ones(len(boxes), bool)
    for index in np.flatnonzero(is_cut):
        corners = np.maximum(boxes[index, :2], boxes[:, :2]), np.minimum(boxes[index, 2:], boxes[:, 2:])
        common = np.clip(corners[1] - corners[0], 0, None).prod(axis=1)
        holds = (labels == labels[index]) & (area > area[index]) & (common >= _INSIDE * area[index])
        stays[index] = not holds.any()
    return stays
