"""Localisation: whether a map points into the boxes of the objects, and how much of it lies there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fovea.data import spatial
from fovea.data.preprocess import Preprocessing
from fovea.errors import ConfigError

__all__ = ["Localisation", "box_mask", "localisation"]

Array = npt.NDArray[Any]


class Localisation(NamedTuple):
    """``pointing``: 1 where the highest value lies inside. ``mass``: share of the positive values inside. ``rank``:
    share of the K highest pixels inside, K the number of pixels inside. Of pixels with equal values each counts by the
    share of them inside: a map that is the same everywhere points nowhere. ``area``: share of pixels inside, which is
    what a map that knows nothing has of all three on average."""

    pointing: float
    mass: float
    rank: float
    area: float


def localisation(values: Array, mask: Array) -> Localisation:
    """Of a map H,W and what is inside of the boxes, H,W.

    Sources: pointing game, Zhang et al. 2016, "Top-down neural attention by excitation backprop", 4.1; relevance mass
    and rank accuracy, Arras et al. 2022, "CLEVR-XAI", section 3.2.
    """
    positive = np.maximum(values.astype(np.float64), 0)
    total, inside = float(positive.sum()), int(mask.sum())
    flat, within = np.ravel(values), np.ravel(mask)
    return Localisation(
        _share_inside(flat, within, 1),
        float(positive[mask].sum()) / total if total > 0 else 0.0,
        _share_inside(flat, within, inside) if inside else 0.0,
        float(within.mean()),
    )


def _share_inside(flat: Array, within: Array, count: int) -> float:
    """Share of the ``count`` highest values inside; of those equal to the last of them their mean."""
    last = np.partition(flat, len(flat) - count)[len(flat) - count]
    sure, equal = flat > last, flat == last
    return float(within[sure].sum() + (count - sure.sum()) * within[equal].mean()) / count


def box_mask(
    boxes: Sequence[Sequence[float]], source: tuple[int, int], seen: tuple[int, int], known: Preprocessing | None
) -> npt.NDArray[np.bool_]:
    """Pixels of the image as the network sees it whose centres lie in one of the boxes x1, y1, x2, y2.

    Boxes count pixels of the source image of ``source`` height and width; preprocessing moves them as it moves the
    image. Raises ConfigError for boxes that are none, or of which nothing is left.
    """
    try:
        corners = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 4 or not np.isfinite(corners).all():
        raise ConfigError("boxes", f"expected boxes x1,y1,x2,y2 in pixels, got {str(boxes)[:60]}; give one or more")
    if (corners[:, :2] >= corners[:, 2:]).any():
        raise ConfigError("boxes", f"expected x1 < x2 and y1 < y2, got {str(boxes)[:60]}; order the corners")
    if known is not None:
        size = None if known.size is None else (known.size[0], known.size[1])
        placed = spatial.place(*source, size, known.resize, known.resize_to)
        corners = placed.to_output(corners.reshape(-1, 2)).reshape(-1, 4)
    rows, columns = (np.arange(side) + 0.5 for side in seen)
    mask = np.zeros(seen, bool)
    for x1, y1, x2, y2 in corners:
        mask |= ((rows >= y1) & (rows < y2))[:, None] & ((columns >= x1) & (columns < x2))
    if not mask.any():
        raise ConfigError(
            "boxes", f"expected a box inside of what the network sees, got {str(boxes)[:60]} of an image of "
            f"{source[1]}x{source[0]}; check the order x1,y1,x2,y2",
        )  # fmt: skip
    return mask
