"""Other ways than suppression to make one box of many: soft suppression, and fusion of what several views found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import box_iou

__all__ = ["fuse_boxes", "soft_nms"]

Array = npt.NDArray[Any]


def soft_nms(
    boxes: Array, scores: Array, labels: Array | None = None, sigma: float = 0.5, score_threshold: float = 0.001,
    most: int = 100,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:  # fmt: skip
    """Indices of the boxes that stay, in the order in which they were chosen, and their scores after decay.

    The surest box is taken, the scores of all others (of its class, with ``labels``) become
    ``score * exp(-iou^2 / sigma)``, and so on, until ``most`` are taken or none is left above ``score_threshold``.
    ``boxes`` ``(n, 4)`` xyxy, ``scores`` ``(n,)``. Source: Bodla et al. 2017, "Soft-NMS", section 3, Gaussian form.
    """
    left = scores.astype(np.float64)
    corners = boxes.astype(np.float64)
    kept: list[int] = []
    final: list[float] = []
    while len(kept) < most and len(left):
        best = int(left.argmax())
        if left[best] < score_threshold or left[best] <= 0:
            break
        kept.append(best)
        final.append(float(left[best]))
        overlap = box_iou(corners[best : best + 1], corners)[0]
        if labels is not None:
            overlap = np.where(labels == labels[best], overlap, 0.0)
        left = left * np.exp(-(overlap**2) / sigma)
        left[best] = -1.0
    return np.array(kept, np.int64), np.array(final)


def fuse_boxes(
    views: Sequence[Array], iou_threshold: float = 0.55, *, class_agnostic: bool = False, most: int = 100
) -> npt.NDArray[np.float64]:
    """Boxes that several views of one image found -> rows x1, y1, x2, y2, score, label, the surest first.

    ``views``: for each an array ``(n, 6)`` of such rows, in the same pixels. From the surest box down, each joins the
    fused box of its class that it overlaps most, by more than ``iou_threshold``, or begins one. A fused box is the mean
    of its boxes, weighed by their scores; its score is ``mean(scores) * count / views``, so that what one view alone
    saw counts less. Unlike in the source a fused box takes one box of each view: what a view told apart stays apart.
    With ``class_agnostic`` boxes of all classes join, under the label of the surest.
    Source: Solovyev, Wang, Gabruseva 2021, "Weighted boxes fusion", section 3.
    """
    each = [np.asarray(one, np.float64).reshape(-1, 6) for one in views]
    rows, source = (
        np.concatenate([*each, np.zeros((0, 6))]),
        np.repeat(np.arange(len(each)), [len(one) for one in each]),
    )
    order = np.argsort(-rows[:, 4], kind="stable")
    rows, source = rows[order], source[order]
    fused, seen = np.zeros((0, 6)), np.zeros((0, len(each)), bool)  # seen: which views a fused box is made of
    members: list[list[int]] = []
    for index, row in enumerate(rows):
        overlap = np.where(seen[:, source[index]], 0.0, box_iou(row[None, :4], fused[:, :4])[0])
        if not class_agnostic:
            overlap = np.where(fused[:, 5] == row[5], overlap, 0.0)
        if overlap.max(initial=0.0) > iou_threshold:
            joined = int(overlap.argmax())
            members[joined].append(index)
            seen[joined, source[index]] = True
            fused[joined, :4] = np.average(
                rows[members[joined], :4], axis=0, weights=_weights(rows[members[joined], 4])
            )
        else:
            members.append([index])
            fused, seen = np.vstack([fused, row]), np.vstack([seen, np.arange(len(each)) == source[index]])
    for joined, one in enumerate(members):
        fused[joined, 4] = rows[one, 4].sum() / len(views)
    order = np.argsort(-fused[:, 4], kind="stable")[:most]
    return np.asarray(fused[order])


def _weights(scores: Array) -> Array:
    return np.maximum(scores, 1e-12)
