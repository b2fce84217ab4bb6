"""Average precision as Pascal VOC defines it, which knows objects that are too difficult to demand.

Source: Everingham et al. 2010, "The Pascal visual object classes (VOC) challenge", section 4.2, and the development
kit of 2012, which takes the whole area under the curve.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import BOX, CROWD, DIFFICULT, FLAGS, LABEL, box_iou

__all__ = ["voc_average_precision"]

Array = npt.NDArray[Any]


def voc_average_precision(boxes: list[Array], objects: list[Array], label: int, iou: float = 0.5) -> float | None:
    """Average precision of one class; None where no object of it is demanded.

    ``boxes`` (rows x1, y1, x2, y2, score, label) and ``objects`` (rows of ``fovea.data.boxes``) are lists with one
    array for each image. Every box belongs to the object of its class that it overlaps most. It is right when that
    overlap is at least ``iou`` and no surer box had the same object, and wrong otherwise; but a box on a difficult
    object or on a crowd counts for nothing, and such objects are not demanded. The area is that under the highest
    precision at each recall or above.
    """
    scores, right, demanded = [], [], 0
    for found, truth in zip(boxes, objects, strict=True):
        rows = truth[truth[:, LABEL] == label]
        left_out = (rows[:, FLAGS].astype(np.int64) & (CROWD | DIFFICULT)) > 0
        demanded += int((~left_out).sum())
        own = found[found[:, 5] == label]
        own = own[np.argsort(-own[:, 4], kind="stable")]
        state = _states(box_iou(own[:, :4], rows[:, BOX]), left_out, iou)
        scores.append(own[state >= 0, 4])
        right.append(state[state >= 0])
    if not demanded:
        return None
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.cumsum(np.concatenate(right)[order])
    recall, precision = hits / demanded, hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def _states(overlap: Array, left_out: Array, iou: float) -> npt.NDArray[np.int64]:
    """Of boxes, the surest first: 1 right, 0 wrong, -1 counted for nothing. ``overlap`` ``(boxes, objects)``."""
    state = np.zeros(len(overlap), np.int64)
    if not overlap.shape[1]:
        return state
    taken = np.zeros(overlap.shape[1], bool)
    for index, best in enumerate(overlap.argmax(axis=1).tolist()):
        if overlap[index, best] < iou:
            continue
        state[index] = -1 if left_out[best] else int(not taken[best])
        taken[best] = True
    return state
