"""Which point of a detector answers for which object: task-aligned assignment.

Source: Feng et al. 2021, "TOOD: task-aligned one-stage object detection", section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import BOX, CROWD, FLAGS, LABEL, box_iou, is_box
from fovea.tasks.detect.points import distances_to

__all__ = ["Assigned", "Assigner"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Assigned:
    """Of one image: ``quality`` ``(A, K)``, what the scores are to be; ``sides`` ``(A, 5)``, distances in strides and
    the weight of each point."""

    quality: Array
    sides: Array


@dataclass(frozen=True)
class Assigner:
    """Each object is given to the ``top`` points inside it with the largest ``score^alpha IoU^beta``: those that find
    it best already.

    A point that several objects want goes to the one it overlaps most. What its score is to be is that product, so
    scaled that the object's largest is its largest IoU. An object smaller than a cell takes the points within half a
    stride of its middle. Points in a crowd that no object wants are asked for the scores they have: they learn nothing.
    """

    top: int = 10
    alpha: float = 1.0
    beta: float = 6.0

    def __call__(self, points: Array, steps: Array, scores: Array, boxes: Array, targets: Array) -> Assigned:
        """``points`` ``(A, 2)`` and their ``steps`` ``(A,)``, found ``scores`` ``(A, K)`` (probabilities) and ``boxes``
        ``(A, 4)``, and the ``targets`` ``(M, 9)`` of one image (``fovea.data.boxes``)."""
        quality = np.zeros(scores.shape, np.float32)
        sides = np.zeros((len(points), 5), np.float32)
        crowded = is_box(targets) & (targets[:, FLAGS].astype(np.int64) & CROWD > 0)
        objects = targets[is_box(targets) & ~crowded]
        for region in targets[crowded, BOX]:
            inside = ((points >= region[:2]) & (points < region[2:])).all(axis=1)
            quality[inside] = scores[inside]
        if not len(objects):
            return Assigned(quality, sides)
        labels = objects[:, LABEL].astype(np.int64)
        inside = self._inside(points, steps, objects[:, BOX])  # M,A
        at = np.flatnonzero(inside.any(axis=0))
        overlap = np.where(inside[:, at], box_iou(objects[:, BOX], boxes[at]), 0)  # M,a
        fit = scores[at].T[labels] ** self.alpha * overlap**self.beta
        chosen = _largest(fit, self.top)
        rival = np.where(chosen, overlap, -1)
        chosen &= (rival == rival.max(axis=0)) & (np.cumsum(rival == rival.max(axis=0), axis=0) == 1)
        most, best = np.where(chosen, fit, 0).max(axis=1), np.where(chosen, overlap, 0).max(axis=1)
        share = np.divide(fit, most[:, None], out=np.zeros_like(fit), where=most[:, None] > 0) * best[:, None]
        which, where = np.nonzero(chosen)
        positions, value = at[where], share[which, where]
        quality[positions] = 0
        quality[positions, labels[which]] = value
        sides[positions, :4] = distances_to(points[positions], steps[positions], objects[which, BOX])
        sides[positions, :4] = np.maximum(sides[positions, :4], _NEAR)
        sides[positions, 4] = value
        return Assigned(quality, sides)

    @staticmethod
    def _inside(points: Array, steps: Array, boxes: Array) -> npt.NDArray[np.bool_]:
        """Which points ``(M, A)`` may answer for which box."""
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        reach = np.maximum(half[:, None], steps[None, :, None] / 2 * (half[:, None] < steps[None, :, None] / 2))
        return np.asarray((np.abs(points[None] - middle[:, None]) < reach).all(axis=-1))


_NEAR = 0.01
"""The least distance to a side, in strides: of points that answer for an object beside them."""


def _largest(values: Array, count: int) -> npt.NDArray[np.bool_]:
    """Where the ``count`` largest values of each row are, among those above 0; the first of equal ones."""
    if values.shape[1] > count:
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        chosen = np.zeros(values.shape, bool)
        np.put_along_axis(chosen, order, True, axis=1)
    else:
        chosen = np.ones(values.shape, bool)
    return np.asarray(chosen & (values > 0))
