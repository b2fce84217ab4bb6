"""``fovea.detect``: what is where in images of any size, whole or in tiles, seen once or in several ways."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.given import as_samples
from fovea.data.preprocess import Preprocessing
from fovea.data.spatial import to_channels
from fovea.detection.look import Look, look_at, sizes_for
from fovea.detection.tiles import cut_by, tiles, without_parts
from fovea.errors import ConfigError, DataError
from fovea.model import Model
from fovea.tasks.detect.merge import fuse_boxes, soft_nms
from fovea.tasks.detect.nms import nms
from fovea.tasks.detect.task import Detection, DetectionPrediction, detected
from fovea.tasks.metrics import class_names

__all__ = ["Detector", "detect"]

Array = npt.NDArray[Any]

SCALES = (1.0, 0.8, 1.2)
"""Sizes at which test-time augmentation looks, as shares of the model's own; each as it is and mirrored."""
_FLOOR = 0.05
"""Least score of a box that goes into a fusion: what several looks see a little may be something."""
_SOFTENED = 500
"""Boxes of one look that soft suppression begins with."""


@dataclass
class Detector:
    """A detection model with the way in which it looks. ``seconds`` adds up what the stages have taken so far.

    Fields are those of ``fovea.detect``. Raises ConfigError for a model that finds no boxes, DataError for one that
    does not know its preprocessing, or none that fits images into a size.
    """

    model: Model
    score_threshold: float | None = None
    iou_threshold: float | None = None
    class_agnostic: bool | None = None
    tile: int | None = None
    overlap: float = 0.2
    tta: bool = False
    soft: bool = False
    seconds: dict[str, float] = field(default_factory=lambda: {"preprocess": 0.0, "network": 0.0, "boxes": 0.0})

    def __post_init__(self) -> None:
        task, how = self.model.task, self.model.preprocessing
        if not isinstance(task, Detection):
            raise ConfigError("detect", f"expected a model that finds boxes, got one for {task.kind}; use predict")
        if how is None or how.kind != "image":
            raise DataError("detect", "expected a model that knows its preprocessing, got one without; set it")
        if how.size is None:
            fix = f"set model.preprocessing with sides in multiples of {max(task.strides)}"
            raise DataError("detect", f"expected a model that fits images into a size, got one without; {fix}")
        given = {
            name: getattr(self, name)
            for name in ("score_threshold", "iou_threshold", "class_agnostic")
            if getattr(self, name) is not None
        }
        self.task = replace(task, **given)
        self.hows: list[Preprocessing] = sizes_for(how, SCALES, max(task.strides)) if self.tta else [how]
        if self.tta and all(side is not None for side in self.model.graph.input_shapes[0]):
            self.hows = [how]  # a network of one size is mirrored only
        tiles(1, 1, 640 if self.tile is None else self.tile, self.overlap)  # wrong sizes are told at once

    @property
    def names(self) -> list[str]:
        """The classes' names."""
        return class_names(self.model.classes, self.model.graph.output_shapes[0][-1] or 0)

    def warm(self) -> None:
        """Prepare what one look needs, so that the first image takes no longer than others."""
        how = self.hows[0]
        self.model.logits(np.zeros((1, *(how.size or ()), how.channels), np.uint8))

    def __call__(self, image: Array) -> DetectionPrediction:
        """One image uint8 H,W,C -> its objects in pixels of it, the surest first."""
        return DetectionPrediction(tuple(detected(row, self.names) for row in self.found(image)))

    def found(self, image: Array) -> Array:
        """One image uint8 H,W,C -> rows x1, y1, x2, y2, score, label float64 in pixels of it, the surest first."""
        begin = time.perf_counter()
        looks = self._looks(image)
        ready = time.perf_counter()
        outputs = self._outputs(looks)
        seen = time.perf_counter()
        rows = self._together(looks, outputs, image.shape[0], image.shape[1])
        done = time.perf_counter()
        for stage, taken in zip(self.seconds, (ready - begin, seen - ready, done - seen), strict=True):
            self.seconds[stage] += taken
        return rows

    def _looks(self, image: Array) -> list[Look]:
        height, width = image.shape[:2]
        parts = [(0, 0, height, width)]
        if self.tile is not None:
            parts += [part for part in tiles(height, width, self.tile, self.overlap) if part != parts[0]]
        pixels = to_channels(image, self.hows[0].channels)
        ways = [(how, mirrored) for how in self.hows for mirrored in ((False, True) if self.tta else (False,))]
        return [
            look_at(pixels, part, how, mirrored, group) for group, (how, mirrored) in enumerate(ways) for part in parts
        ]

    def _outputs(self, looks: Sequence[Look]) -> list[Array]:
        """Candidate boxes ``(n, 6)`` of every look, in pixels of its input; looks of one size go together."""
        task = self._candidates()
        found: list[Array] = [np.zeros((0, 6))] * len(looks)
        for shape in dict.fromkeys(look.pixels.shape for look in looks):
            chosen = [index for index, look in enumerate(looks) if look.pixels.shape == shape]
            outputs = self.model.logits(np.stack([looks[index].pixels for index in chosen]))
            for index, rows in zip(chosen, task.found(outputs), strict=True):
                found[index] = rows[rows[:, 5] >= 0].astype(np.float64)
        return found

    def _candidates(self) -> Detection:
        """The task that reads one look: what is fused or softened later must not be thrown away before."""
        threshold = min(_FLOOR, self.task.score_threshold) if self.tta else self.task.score_threshold
        if not self.soft:
            return replace(self.task, score_threshold=threshold)
        return replace(self.task, score_threshold=threshold, iou_threshold=1.0, max_detections=_SOFTENED)

    def _together(self, looks: Sequence[Look], found: Sequence[Array], height: int, width: int) -> Array:
        groups = []
        for group in dict.fromkeys(look.group for look in looks):
            own = [(look, rows) for look, rows in zip(looks, found, strict=True) if look.group == group]
            moved, is_cut = [], []
            for look, rows in own:
                whole = np.column_stack([look.to_image(rows[:, :4]), rows[:, 4:]])
                moved.append(whole)
                is_cut.append(cut_by(whole[:, :4], look.tile, height, width))
            groups.append(self._one_group(np.concatenate(moved), np.concatenate(is_cut), len(own) > 1))
        most, task = self.task.max_detections, self.task
        rows = groups[0]
        if len(groups) > 1:
            rows = fuse_boxes(groups, class_agnostic=task.class_agnostic, most=most)
        rows[:, :4] = np.clip(rows[:, :4], 0, (width, height, width, height))  # a mean of edges may round beyond them
        rows = rows[(rows[:, 4] >= task.score_threshold) & (rows[:, 2:4] > rows[:, :2]).all(axis=1)]
        return rows[np.argsort(-rows[:, 4], kind="stable")][:most]

    def _one_group(self, rows: Array, is_cut: Array, several: bool) -> Array:
        """Boxes of all parts of the image, seen in one way: parts of objects go, and what two parts saw twice."""
        task = self.task
        if several:
            rows = rows[without_parts(rows[:, :4], rows[:, 5], is_cut)]
        labels = None if task.class_agnostic else rows[:, 5]
        if self.soft:
            kept, scores = soft_nms(rows[:, :4], rows[:, 4], labels, most=task.max_detections)
            return np.column_stack([rows[kept, :4], scores, rows[kept, 5]])
        if several:
            rows = rows[nms(rows[:, :4], rows[:, 4], labels, task.iou_threshold, task.max_detections)]
        return rows


def detect(
    model: Model, images: Any, *, score_threshold: float | None = None, iou_threshold: float | None = None,
    class_agnostic: bool | None = None, tile: int | None = None, overlap: float = 0.2, tta: bool = False,
    soft: bool = False,
) -> list[DetectionPrediction]:  # fmt: skip
    """The objects in images (uint8 H,W,C, a list of them, N,H,W,C, or paths): a DetectionPrediction each, boxes in
    pixels of the image.

    ``score_threshold``, ``iou_threshold``, ``class_agnostic``: other values than the model's task has. ``tile``: look
    at windows of so many pixels as well as at the whole image, neighbours sharing ``overlap`` of a window, so that
    small objects of a large image are seen at full size; a box that an edge has cut gives way to one that holds it, and
    what two windows saw twice is suppressed. ``tta``: look also at the mirror image, and, where the network's size is
    open, at a smaller and a larger one; boxes are fused (``fovea.tasks.detect.merge.fuse_boxes``). ``soft``: soft
    suppression in place of hard suppression (``soft_nms``), for objects that cover each other.

    Raises ConfigError for a model that finds no boxes and for options that make no sense, DataError for files that
    cannot be read.

    >>> fovea.detect(fovea.load("runs/cells"), "cells/7.jpg", tile=640)  # doctest: +SKIP
    """
    if not isinstance(model, Model):
        raise ConfigError("detect", f"expected a model, got {type(model).__name__}; load it: fovea.load(path)")
    detector = Detector(model, score_threshold, iou_threshold, class_agnostic, tile, overlap, tta, soft)
    return [detector(_pixels(image)) for image in as_samples(images, detector.hows[0])]


def _pixels(image: Any) -> Array:
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        got = f"{pixels.dtype} {pixels.shape}"
        raise DataError("detect", f"expected images as uint8 H,W,C, got {got}; convert them, or give paths")
    return pixels
