"""What is taken for what: found boxes paired with objects, and the counts of the pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import BOX, CROWD, DIFFICULT, FLAGS, LABEL, box_iou

__all__ = ["confusion_matrix", "paired"]

Array = npt.NDArray[Any]


def confusion_matrix(
    boxes: list[Array], objects: list[Array], num_classes: int, score_threshold: float, iou: float = 0.5
) -> npt.NDArray[np.int64]:
    """Counts ``(K + 1, K + 1)``: rows are the truth, the last row "nothing there"; columns what was found, the last
    column "missed". Boxes less sure than ``score_threshold`` are not looked at.

    ``boxes`` and ``objects`` are lists with one array for each image, as :func:`paired` takes them.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for found, truth in zip(boxes, objects, strict=True):
        sure = found[found[:, 4] >= score_threshold]
        partner, ignored = paired(sure, truth, iou)
        for row, other in zip(sure[~ignored], partner[~ignored], strict=True):
            matrix[int(truth[other, LABEL]) if other >= 0 else num_classes, int(row[5])] += 1
        missed = np.setdiff1d(np.flatnonzero(_demanded(truth)), partner)
        np.add.at(matrix, (truth[missed, LABEL].astype(np.int64), num_classes), 1)
    return matrix


def paired(found: Array, truth: Array, iou: float = 0.5) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The object of each found box of one image (-1: none), and which boxes count for nothing.

    ``found`` rows are x1, y1, x2, y2, score, label, ``truth`` those of ``fovea.data.boxes``. The surest box chooses
    first, the free object that it overlaps most, by at least ``iou``; objects of its own class come before all others,
    so that neighbours of two classes are not confused with each other. A box without an object counts for nothing on a
    difficult object, or with half of its area in a crowd.
    """
    partner = np.full(len(found), -1, np.int64)
    overlap = box_iou(found[:, :4], truth[:, BOX])
    same = found[:, None, 5] == truth[None, :, LABEL]
    order = np.argsort(-found[:, 4], kind="stable").tolist()
    free = _demanded(truth)
    for wanted in (same, ~same):
        for index in order:
            candidates = np.where(wanted[index] & free & (overlap[index] >= iou), overlap[index], -1.0)
            if partner[index] < 0 and candidates.max(initial=-1.0) >= 0:
                partner[index] = candidates.argmax()
                free[partner[index]] = False
    return partner, (partner < 0) & _excused(found, truth, overlap, iou)


def _demanded(truth: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(truth[:, FLAGS].astype(np.int64) & (CROWD | DIFFICULT) == 0)


def _excused(found: Array, truth: Array, overlap: Array, iou: float) -> npt.NDArray[np.bool_]:
    """Which boxes lie on something that is not demanded."""
    flags = truth[:, FLAGS].astype(np.int64)
    crowds = truth[flags & CROWD > 0, BOX][None]
    corners = found[:, None, :4]
    sides = np.minimum(corners[..., 2:], crowds[..., 2:]) - np.maximum(corners[..., :2], crowds[..., :2])
    area = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    inside = np.clip(sides, 0, None).prod(axis=-1) >= 0.5 * np.maximum(area, 1e-12)[:, None]
    difficult = overlap[:, flags & DIFFICULT > 0] >= iou
    return np.asarray(inside.any(axis=1) | difficult.any(axis=1))
