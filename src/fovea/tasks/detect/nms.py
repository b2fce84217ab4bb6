"""Of boxes that cover the same object the best one: non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import box_iou

__all__ = ["nms"]

Array = npt.NDArray[Any]


def nms(
    boxes: Array, scores: Array, labels: Array | None = None, iou_threshold: float = 0.6, most: int = 100
) -> npt.NDArray[np.int64]:
    """Indices of the boxes that stay, the surest first, at most ``most``.

    ``boxes`` ``(n, 4)`` xyxy, ``scores`` ``(n,)``. From the surest down, a box stays unless one that stays already
    covers it with an intersection over union above ``iou_threshold``; with ``labels`` ``(n,)`` only boxes of one class
    suppress each other. Equal scores keep the order in which they came.
    """
    order = np.argsort(-scores, kind="stable")
    moved = boxes[order].astype(np.float64)
    if labels is not None and len(moved):  # classes that lie apart do not meet
        reach = moved[:, 2:].max() - min(0.0, float(moved[:, :2].min())) + 1.0
        moved = moved + labels[order].astype(np.float64)[:, None] * reach
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    for index in range(len(order)):
        if not alive[index]:
            continue
        kept.append(int(order[index]))
        if len(kept) == most:
            break
        rest = np.flatnonzero(alive[index + 1 :]) + index + 1
        alive[rest[box_iou(moved[index : index + 1], moved[rest])[0] > iou_threshold]] = False
    return np.array(kept, np.int64)
