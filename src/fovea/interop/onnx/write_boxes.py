"""What a detector's maps say, inside an ONNX graph: boxes from distances, suppression, the way back to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper

from fovea.graph.graph import Graph
from fovea.interop.onnx.write_images import DOUBLE, FLOAT, LONG, Resized
from fovea.interop.onnx.writer import Writer
from fovea.tasks.detect.points import points_of
from fovea.tasks.detect.task import CANDIDATES, Detection

__all__ = ["FOUND", "found_boxes"]

FOUND = ("boxes", "scores", "labels", "image_index")
"""Outputs of a detector that takes images."""


@dataclass(frozen=True)
class _Chosen:
    """The boxes that suppression leaves, S of all images together: image, class and point of each, ``int64 (S,)``, its
    score and its corners ``float32 (S, 4)``."""

    image: str
    label: str
    score: str
    box: str


def found_boxes(write: Writer, graph: Graph, task: Detection, image: Resized) -> list[Any]:
    """The outputs ``boxes`` (S, 4) x1, y1, x2, y2 in pixels of the image given, ``scores`` (S,), ``labels`` (S,) and
    ``image_index`` (S,), the number of the image that each belongs to: images in order, in each the surest first.

    The arithmetic of ``Detection.found`` and ``DetectionPrediction.placed``, with ONNX's NonMaxSuppression.
    """
    scores, corners = _all_boxes(write, graph, task)
    chosen = _limited(write, _sorted(write, _suppressed(write, task, scores, corners)), scores, task.max_detections)
    chosen = _in_image(write, chosen, image)
    values = ((chosen.box, FLOAT), (chosen.score, FLOAT), (chosen.label, LONG), (chosen.image, LONG))
    outputs = []
    for name, (value, kind) in zip(FOUND, values, strict=True):
        write.end(value, name)
        outputs.append(helper.make_tensor_value_info(name, kind, ["found", 4] if name == "boxes" else ["found"]))
    return outputs


def _all_boxes(write: Writer, graph: Graph, task: Detection) -> tuple[str, str]:
    """Scores ``N,A,K`` and corners ``N,A,4``, in pixels of the input, of every point."""
    count = len(task.strides)
    shapes = [graph.shape(ref) for ref in graph.outputs]
    sizes = [(int(shape[0] or 0), int(shape[1] or 0)) for shape in shapes[:count]]
    points, steps = points_of(sizes, task.strides)
    logits, sides = (
        _flat(write, [write.ordered(write.values[ref], 4, False) for ref in part], shapes[start][-1] or 0)
        for part, start in ((graph.outputs[:count], 0), (graph.outputs[count:], count))
    )
    reach = write.emit("Mul", [sides, write.constant("strides", steps[None, :, None])])
    at = write.constant("points", points[None])
    first, last = (
        write.emit("Slice", [reach, write.integers(lo), write.integers(lo + 2), write.integers(2)]) for lo in (0, 2)
    )
    ends = [write.emit("Sub", [at, first]), write.emit("Add", [at, last])]
    height, width = (size * task.strides[0] for size in sizes[0])
    limit = write.constant("extent", np.array([width, height, width, height], np.float32))
    least = write.constant("origin", np.zeros(4, np.float32))
    inside = write.emit("Max", [write.emit("Min", [write.emit("Concat", ends, axis=2), limit]), least])
    return write.emit("Sigmoid", [logits]), inside


def _flat(write: Writer, maps: Sequence[str], channels: int) -> str:
    rows = [write.emit("Reshape", [one, write.integers(0, -1, channels)]) for one in maps]
    return write.emit("Concat", rows, axis=1) if len(rows) > 1 else rows[0]


def _suppressed(write: Writer, task: Detection, scores: str, corners: str) -> _Chosen:
    """Of the surest candidates of each image those that suppression leaves."""
    labels = ""
    if task.class_agnostic:
        labels = write.emit("ArgMax", [scores], axis=2, keepdims=0)  # N,A
        scores = write.emit("ReduceMax", [scores, write.integers(2)], keepdims=1)
    scores = _solid(write, _surest(write, scores), corners)
    by_class = write.emit("Transpose", [scores], perm=[0, 2, 1])
    least = np.nextafter(np.float32(task.score_threshold), np.float32(-1))  # ONNX asks for more than the threshold
    numbers = {"iou_threshold": task.iou_threshold, "score_threshold": least}
    limits = [write.constant(name, np.array([value], np.float32)) for name, value in numbers.items()]
    limits = [write.integers(task.max_detections), *limits]
    selected = write.emit("NonMaxSuppression", [corners, by_class, *limits])  # S,3: image, class, point
    image, label, point = (write.emit("Gather", [selected, write.integers(column)], axis=1) for column in range(3))
    score = write.emit("GatherND", [by_class, selected])
    at = write.emit("Concat", [image, point], axis=1)
    box = write.emit("GatherND", [corners, at])
    label = write.emit("GatherND", [labels, at]) if labels else write.emit("Squeeze", [label, write.integers(1)])
    return _Chosen(write.emit("Squeeze", [image, write.integers(1)]), label, score, box)


def _surest(write: Writer, scores: str) -> str:
    """Scores ``N,A,K`` with all but the largest of each image at -1."""
    every = write.emit("Reshape", [scores, write.integers(0, -1)])
    length = write.emit("Gather", [write.emit("Shape", [every]), write.integers(1)])
    most = write.emit("Min", [length, write.integers(CANDIDATES)])
    best = write.emit("TopK", [every, most], axis=1, outputs=2)
    least = write.emit("ReduceMin", [best, write.integers(1)], keepdims=1)  # N,1
    enough = write.emit("GreaterOrEqual", [scores, write.emit("Unsqueeze", [least, write.integers(2)])])
    return write.emit("Where", [enough, scores, write.constant("never", np.array(-1, np.float32))])


def _solid(write: Writer, scores: str, corners: str) -> str:
    """Scores with -1 where a box has no area."""
    low, high = (
        write.emit("Slice", [corners, write.integers(lo), write.integers(lo + 2), write.integers(2)]) for lo in (0, 2)
    )
    sides = write.emit("ReduceMin", [write.emit("Sub", [high, low]), write.integers(2)], keepdims=1)  # N,A,1
    solid = write.emit("Greater", [sides, write.constant("nothing", np.array(0.0, np.float32))])
    return write.emit("Where", [solid, scores, write.constant("never", np.array(-1, np.float32))])


def _sorted(write: Writer, found: _Chosen) -> _Chosen:
    """Images in order, in each the surest first: by ``score - 2 image``, in float64 so that no scores become equal."""
    wide, number = (write.emit("Cast", [one], to=DOUBLE) for one in (found.score, found.image))
    key = write.emit("Sub", [wide, write.emit("Mul", [number, write.constant("two", np.array(2.0))])])
    order = write.emit("TopK", [key, write.emit("Shape", [key])], axis=0, outputs=2) + ".1"
    return _Chosen(*(write.emit("Gather", [one, order], axis=0) for one in _values(found)))


def _limited(write: Writer, found: _Chosen, scores: str, most: int) -> _Chosen:
    """At most so many of each image."""
    zero, one = (write.constant("whole", np.array(value, np.int64)) for value in (0, 1))
    images = write.emit("Gather", [write.emit("Shape", [scores]), zero], axis=0)
    numbers = write.emit("Range", [zero, images, one])  # N
    own = write.emit("Equal", [write.emit("Unsqueeze", [found.image, write.integers(1)]), numbers])  # S,N
    counts = write.emit("ReduceSum", [write.emit("Cast", [own], to=LONG), write.integers(0)], keepdims=0)
    starts = write.emit("CumSum", [counts, zero], exclusive=1)
    length = write.emit("Gather", [write.emit("Shape", [found.image]), zero], axis=0)
    place = write.emit("Range", [zero, length, one])
    rank = write.emit("Sub", [place, write.emit("Gather", [starts, found.image], axis=0)])
    stays = write.emit("Less", [rank, write.constant("most", np.array(most, np.int64))])
    return _Chosen(*(write.emit("Compress", [value, stays], axis=0) for value in _values(found)))


def _in_image(write: Writer, found: _Chosen, image: Resized) -> _Chosen:
    """Boxes in pixels of the image given, cut at its edges; those that lie beyond them are gone."""

    def four(first: str, second: str) -> str:
        return write.emit("Cast", [write.emit("Concat", [first, second, first, second], axis=0)], to=DOUBLE)

    size, new = four(image.width, image.height), four(image.new_width, image.new_height)
    moved = write.emit("Sub", [write.emit("Cast", [found.box], to=DOUBLE), four(image.left, image.top)])
    scaled = write.emit("Mul", [moved, write.emit("Div", [size, new])])
    cut = write.emit("Max", [write.emit("Min", [scaled, size]), write.constant("edge", np.zeros(4))])
    low, high = (
        write.emit("Slice", [cut, write.integers(lo), write.integers(lo + 2), write.integers(1)]) for lo in (0, 2)
    )
    sides = write.emit("ReduceMin", [write.emit("Sub", [high, low]), write.integers(1)], keepdims=0)
    stays = write.emit("Greater", [sides, write.constant("nothing", np.array(0.0))])
    moved_boxes = _Chosen(found.image, found.label, found.score, write.emit("Cast", [cut], to=FLOAT))
    return _Chosen(*(write.emit("Compress", [value, stays], axis=0) for value in _values(moved_boxes)))


def _values(found: _Chosen) -> tuple[str, str, str, str]:
    return found.image, found.label, found.score, found.box
