"""The one layout of annotated boxes: an array ``float32 (N, M, 9)``, a row for each box of each image.

``x1, y1, x2, y2`` are pixels, ``x2`` and ``y2`` exclusive; ``label`` is the class index, -1 in a row that only fills
up; ``flags`` are CROWD and DIFFICULT; ``scale_x, scale_y`` are how much larger the image is drawn than its file holds
it (in all rows of an image, so that an image without boxes has them too); ``area`` is that of the object in pixels of
the file. M is at least 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.spatial import Placement

__all__ = [
    "AREA", "BOX", "COLUMNS", "CROWD", "DIFFICULT", "FLAGS", "LABEL", "SCALE", "box_iou", "is_box", "padded", "placed",
    "rows_of",
]  # fmt: skip

Array = npt.NDArray[Any]

COLUMNS = ("x1", "y1", "x2", "y2", "label", "flags", "scale_x", "scale_y", "area")
BOX, SCALE = slice(0, 4), slice(6, 8)
LABEL, FLAGS, AREA = 4, 5, 8
CROWD, DIFFICULT = 1, 2
"""Bits of ``flags``: a region that holds many objects (COCO's iscrowd), and an object too hard to demand (VOC)."""
_LEAST_VISIBLE = 0.1


def is_box(targets: Array) -> npt.NDArray[np.bool_]:
    """Which rows ``(..., 9)`` hold a box and do not only fill up."""
    return np.asarray(targets[..., LABEL] >= 0)


def rows_of(
    boxes: Array, labels: Array | Sequence[int], flags: Array | Sequence[int] | None = None, area: Any = None
) -> Array:
    """Boxes ``(m, 4)`` of one image, in its own pixels, with their labels -> rows ``float32 (m, 9)``; ``area`` None is
    that of the boxes."""
    corners = np.asarray(boxes, np.float32).reshape(-1, 4)
    rows = np.ones((len(corners), len(COLUMNS)), np.float32)
    rows[:, BOX], rows[:, LABEL] = corners, labels
    rows[:, FLAGS] = 0 if flags is None else flags
    sides = corners[:, 2:] - corners[:, :2]
    rows[:, AREA] = sides.prod(axis=1) if area is None else area
    return rows


def padded(images: Sequence[Array], scales: Array | None = None) -> Array:
    """Rows ``(m_i, 9)`` of N images -> one array ``float32 (N, M, 9)``, M the largest m and at least 1.

    ``scales`` ``(N, 2)``: of images that may have no rows (None: 1).
    """
    most = max([1, *(len(rows) for rows in images)])
    result = np.zeros((len(images), most, len(COLUMNS)), np.float32)
    result[..., LABEL] = -1
    result[..., SCALE] = 1 if scales is None else np.asarray(scales, np.float32)[:, None]
    for whole, rows in zip(result, images, strict=True):
        whole[: len(rows)] = rows
    return result


def placed(targets: Array, places: Sequence[Placement]) -> Array:
    """Boxes of images as their files hold them -> boxes of the images as they are drawn, cut at the edges.

    A box of which less than a tenth is left to see is taken out.
    """
    result = targets.copy()
    corners = result[..., BOX].reshape(len(result), -1, 2).astype(np.float64)
    for moved, rows, place in zip(corners, result, places, strict=True):
        moved[:] = place.to_output(moved)
        rows[:, SCALE] = place.width / place.source[1], place.height / place.source[0]
    whole = corners.reshape(*result.shape[:2], 4)
    limits = np.array([[place.output[1], place.output[0]] * 2 for place in places])[:, None]
    cut = np.clip(whole, 0, limits)
    before, after = _areas(whole), _areas(cut)
    hidden = is_box(result) & ((after <= 0) | (after < _LEAST_VISIBLE * before))
    result[..., BOX] = np.where(is_box(result)[..., None], cut, 0)
    result[hidden, LABEL] = -1
    return result


def box_iou(first: Array, second: Array) -> Array:
    """Intersection over union of boxes xyxy ``(..., n, 4)`` and ``(..., m, 4)`` -> ``(..., n, m)``; empty: 0."""
    a, b = first[..., :, None, :], second[..., None, :, :]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.clip(sides, 0, None).prod(axis=-1)
    union = _areas(a) + _areas(b) - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def _areas(boxes: Array) -> Array:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))
