"""Detection: boxes with classes, from maps of a network that looks at several scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fovea.data.spatial import Placement
from fovea.errors import ConfigError, ShapeError
from fovea.graph.graph import Graph
from fovea.graph.objective import Loss
from fovea.ops import Input, IoULoss, QualityFocalLoss
from fovea.ops.base import Shape, is_number
from fovea.tasks import metrics
from fovea.tasks.base import Array, Prediction, Task
from fovea.tasks.detect.assign import Assigner
from fovea.tasks.detect.coco import best_threshold, measure
from fovea.tasks.detect.nms import nms
from fovea.tasks.detect.points import around, flat, points_of

__all__ = ["CANDIDATES", "JUDGED_SCORE", "Detected", "Detection", "DetectionPrediction"]

JUDGED_SCORE = 0.001
"""Boxes down to this score count when a detector is judged, as is usual for the mean average precision."""
CANDIDATES = 1000
"""The surest boxes of an image among which suppression chooses."""
_BOX_WEIGHT = 2.0
"""Of the loss of boxes, that of classes weighs 1 (Li et al. 2020, section 4)."""


@dataclass(frozen=True)
class Detected:
    """One object: its class, how sure the network is, its box xyxy in pixels of the image, the class's number."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    index: int

    def to_dict(self) -> dict[str, Any]:
        """``{"label", "score", "box": [x1, y1, x2, y2]}``."""
        return {"label": self.label, "score": self.score, "box": list(self.box)}

    def __str__(self) -> str:
        return f"{self.label} {self.score:.0%} at " + ", ".join(f"{side:.0f}" for side in self.box)


@dataclass(frozen=True)
class DetectionPrediction(Prediction):
    """The objects found in one image, the surest first."""

    objects: tuple[Detected, ...]

    def to_dict(self) -> dict[str, Any]:
        """``{"objects": [...]}``."""
        return {"objects": [one.to_dict() for one in self.objects]}

    def __str__(self) -> str:
        if not self.objects:
            return "nothing found"
        count: dict[str, int] = {}
        for one in self.objects:
            count[one.label] = count.get(one.label, 0) + 1
        return "  ".join(f"{number} {label}" for label, number in count.items())

    def placed(self, place: Placement) -> DetectionPrediction:
        """The boxes in pixels of the image, cut at its edges, from those in pixels of the network's input."""
        height, width = place.source
        limits = np.array([width, height] * 2, np.float64)
        moved = []
        for one in self.objects:
            corners = place.to_source(np.reshape(one.box, (2, 2))).reshape(4)
            x1, y1, x2, y2 = np.clip(corners, 0, limits).tolist()
            if x2 > x1 and y2 > y1:  # else it lies in the bars beside the image
                moved.append(replace(one, box=(x1, y1, x2, y2)))
        return replace(self, objects=tuple(moved))


@dataclass(frozen=True)
class Detection(Task):
    """Boxes and classes from maps at several ``strides``, without anchors (Tian et al. 2019, "FCOS").

    The network gives for each stride s a map of logits ``N,H/s,W/s,K``, then for each a map ``N,H/s,W/s,4`` of the
    distances, in units of s and at least 0, from the middle of the cell to the left, top, right and bottom of its box.
    A score is the sigmoid of a logit: class and quality in one number (Li et al. 2020). ``score_threshold``: boxes
    less sure are not shown; ``iou_threshold``: of boxes of a class that overlap more only the surest stays
    (``class_agnostic``: of any class); ``max_detections`` an image.
    """

    primary: ClassVar[tuple[str, bool]] = ("map", True)
    shown: ClassVar[tuple[str, ...]] = ("map", "map50")
    recipe: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.05, "batch_size": 16, "epochs": 100, "warmup_epochs": 2.0,
        "ema": 0.998, "clip_norm": 10.0,
    }  # fmt: skip
    strides: tuple[int, ...] = (8, 16, 32)
    score_threshold: float = 0.25
    iou_threshold: float = 0.6
    max_detections: int = 100
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        strides = tuple(self.strides) if isinstance(self.strides, (tuple, list)) else ()
        if not strides or not all(_whole(one) and 1 <= one <= 1024 for one in strides):
            raise ConfigError(
                "task", f"expected strides as integers of at least 1, got {self.strides!r}; give 8, 16, 32"
            )
        object.__setattr__(self, "strides", strides)
        for name in ("score_threshold", "iou_threshold"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value <= 1:
                raise ConfigError(name, f"expected a number from 0 to 1, got {value!r}; 0.25 and 0.6 are usual")
        if not _whole(self.max_detections) or not 1 <= self.max_detections <= 10_000:
            raise ConfigError(
                "max_detections", f"expected an integer from 1, got {self.max_detections!r}; 100 is usual"
            )

    # --- training

    def loss(
        self, outputs: Sequence[Shape] = (), *, label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None, soft_targets: bool = False,
    ) -> Loss:  # fmt: skip
        """Focal loss of qualities on the class maps and GIoU on the boxes, as a graph: its targets are what ``assign``
        gives. Options of classification raise ConfigError."""
        given = {"label_smoothing": label_smoothing, "class_weights": class_weights, "mix": soft_targets}
        for name, value in given.items():
            if value:
                raise ConfigError(
                    name, f"expected no {name} for detection, got {value!r}; it belongs to classification"
                )
        if not outputs:
            raise ShapeError(
                "detection", "expected the shapes of the network's maps, got none; give graph.output_shapes"
            )
        count = len(self.strides)
        values = [Input(shape) for shape in outputs]
        ops = [QualityFocalLoss()] * count + [IoULoss("giou")] * count
        targets = [Input(op.target_shape(shape)) for op, shape in zip(ops, outputs, strict=True)]
        losses = [op(value, target) for op, value, target in zip(ops, values, targets, strict=True)]
        return Graph(inputs=[*values, *targets], outputs=losses)

    def check_network(self, outputs: Sequence[Shape], num_outputs: int, name: str) -> None:
        """Raise ShapeError unless there is a map of ``num_outputs`` classes, and one of boxes, for each stride."""
        count = len(self.strides)
        fits = len(outputs) == 2 * count and all(len(shape) == 3 for shape in outputs)
        channels = [shape[-1] for shape in outputs]
        if not fits or channels != [num_outputs] * count + [4] * count:
            raise ShapeError(
                "train",
                f"expected a detector with maps of {num_outputs} classes and of 4 sides at strides "
                f"{', '.join(map(str, self.strides))} for {name}, got outputs {[('N', *shape) for shape in outputs]}; "
                f"make one: fovea.models.detector_nano(num_classes={num_outputs})",
            )

    def check_classes(self, names: Sequence[str], outputs: Sequence[Shape]) -> None:
        """One name for each class of the first map."""
        if outputs[0][-1] != len(names):
            raise ConfigError(
                "model", f"expected {outputs[0][-1]} class names for maps of as many classes, got {len(names)}"
                "; name each class",
            )  # fmt: skip

    def assign(self, outputs: Any, targets: Array) -> list[Array]:
        """The target of every map, from what the network found and the boxes ``(N, M, 9)`` that are there: qualities
        for the class maps, distances with a weight for those of boxes; ``loss_divisor`` says what the losses
        are divided by."""
        maps = [np.asarray(one, np.float32) for one in outputs]
        sizes = self._sizes(maps)
        points, steps = points_of(sizes, self.strides)
        logits, sides = self._halves(maps)
        boxes = around(points, steps, sides)
        scores = metrics.sigmoid(logits)
        assigner = Assigner()
        done = [assigner(points, steps, *one) for one in zip(scores, boxes, targets, strict=True)]
        quality, wanted = np.stack([one.quality for one in done]), np.stack([one.sides for one in done])
        wanted[..., 4] *= _BOX_WEIGHT
        ends = np.cumsum([height * width for height, width in sizes])[:-1]
        return [
            part.reshape(len(part), *size, part.shape[-1])
            for whole in (quality, wanted)
            for part, size in zip(np.split(whole, ends, axis=1), sizes, strict=True)
        ]

    def loss_divisor(self, assigned: Any) -> float:
        """The sum of the boxes' weights: losses are sums over points, wanted a point that finds something."""
        count = len(self.strides)
        return sum(float(one[..., 4].sum(dtype=np.float64)) for one in assigned[count:]) / _BOX_WEIGHT

    def batch_metric(self, outputs: Any, targets: Array) -> float | None:
        """None: what is found is judged on the validation split only."""
        return None

    def calibrate(self, outputs: Array, targets: Array) -> Task:
        """The ``score_threshold`` at which the mean F1 over classes is best (``coco.best_threshold``), unless one was
        set by hand."""
        best = None if self.score_threshold != Detection.score_threshold else best_threshold(outputs, targets)
        return self if best is None else replace(self, score_threshold=best)

    # --- what is found

    def condense(self, outputs: Any, targets: Array) -> Array:
        """Maps of a batch -> the boxes that it found ``float32 (n, max_detections, 6)``: x1, y1, x2, y2 in pixels of
        the input, score, label; down to a score of 0.001, label -1 fills up."""
        return self.found(outputs, JUDGED_SCORE)

    def found(self, outputs: Any, score_threshold: float | None = None) -> Array:
        """Maps -> boxes as in ``condense``, those at least as sure as ``score_threshold`` (None: the task's own)."""
        least = self.score_threshold if score_threshold is None else score_threshold
        maps = [np.asarray(one, np.float32) for one in outputs]
        sizes = self._sizes(maps)
        points, steps = points_of(sizes, self.strides)
        logits, sides = self._halves(maps)
        height, width = sizes[0][0] * self.strides[0], sizes[0][1] * self.strides[0]
        result = np.zeros((len(logits), self.max_detections, 6), np.float32)
        result[..., 5] = -1
        floor = np.log(least / (1 - least)) if 0 < least < 1 else (-np.inf if least <= 0 else np.inf)
        for rows, classes, reach in zip(result, logits, sides, strict=True):
            at, label = np.nonzero(classes >= floor)
            score = metrics.sigmoid(classes[at, label])
            if len(at) > CANDIDATES:
                best = np.argsort(-score, kind="stable")[:CANDIDATES]
                at, label, score = at[best], label[best], score[best]
            boxes = np.clip(around(points[at], steps[at], reach[at]), 0, (width, height, width, height))
            solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # what has no area overlaps nothing: it would never go
            boxes, score, label = boxes[solid], score[solid], label[solid]
            apart = None if self.class_agnostic else label
            kept = nms(boxes, score, apart, self.iou_threshold, self.max_detections)
            rows[: len(kept)] = np.column_stack([boxes[kept], score[kept], label[kept]])
        return result

    def decode(self, outputs: Any, *, classes: Sequence[str] | None = None, top_k: int = 5) -> list[Prediction]:
        """Maps -> a DetectionPrediction for each image, in pixels of the input; ``top_k`` does not matter."""
        rows = self.found(outputs)
        names = metrics.class_names(classes, np.shape(outputs[0])[-1])
        return [DetectionPrediction(tuple(detected(one, names) for one in image if one[5] >= 0)) for image in rows]

    def metrics(
        self, outputs: Array, targets: Array, *, classes: Sequence[str] | None = None, detail: bool = False
    ) -> dict[str, Any]:
        """What ``fovea.tasks.detect.coco.measure`` makes of found boxes (``condense``) and those that are there."""
        return measure(outputs, targets, classes, detail, score_threshold=self.score_threshold)

    # --- maps

    def _sizes(self, maps: Sequence[Array]) -> list[tuple[int, int]]:
        count = len(self.strides)
        if len(maps) != 2 * count or any(one.ndim != 4 for one in maps):
            raise ShapeError(
                self.kind,
                f"expected {count} maps of classes and {count} of boxes, N,H,W,C, got {[one.shape for one in maps]}; "
                "the network must be a detector with these strides",
            )
        return [(one.shape[1], one.shape[2]) for one in maps[:count]]

    def _halves(self, maps: Sequence[Array]) -> tuple[Array, Array]:
        count = len(self.strides)
        return flat(maps[:count]), flat(maps[count:])


def detected(row: Array, names: Sequence[str]) -> Detected:
    """One row of found boxes as a record."""
    x1, y1, x2, y2, score = (float(value) for value in row[:5])
    return Detected(names[int(row[5])], score, (x1, y1, x2, y2), int(row[5]))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
