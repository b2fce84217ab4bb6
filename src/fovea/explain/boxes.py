"""A found box as what is explained: the logit of its class at the cell that found it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError
from fovea.explain.target import SCORES, Score, class_index
from fovea.graph.graph import Ref
from fovea.tasks.detect.points import around, flat, points_of
from fovea.tasks.detect.task import Detection
from fovea.tasks.metrics import class_names, sigmoid

__all__ = ["Box", "box_score"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Box:
    """The target "a box that a detector found": the ``number``-th of those found, 1 the surest, counted among boxes of
    the class ``label`` (a name or number) if one is given."""

    number: int = 1
    label: str | int | None = None


def box_score(
    task: Detection, classes: Sequence[str] | None, nodes: Sequence[Ref], target: Any, kind: str, maps: Sequence[Array]
) -> Score:
    """The score of a box in one image. ``maps``: the network's outputs ``1,h,w,C`` for it, of ``nodes``; ``target``: a
    Box, None for the surest, or a class for the surest of it.

    It is the logit z of the box's class at the cell and stride that gave the box, or with ``kind`` "probability"
    ``p = sigmoid(z)`` with ``dp/dz = p (1 - p)``, "log-probability" ``log p`` with ``1 - p``. Boxes are those that stay
    after suppression, down to the task's score threshold. Raises ConfigError where there is no such box.
    """
    if kind not in SCORES:
        raise ConfigError("explain", f"expected score as {', '.join(SCORES)}, got {kind!r}; choose one of them")
    names = class_names(classes, maps[0].shape[-1])
    wanted = target if isinstance(target, Box) else Box(1, target)
    row, count = _wanted(task, names, wanted, task.found(maps)[0])
    level, y, x = _cell(task, maps, row)
    label = int(row[5])
    at: Any = (slice(None), y, x, label)

    def scalars(outputs: Array) -> tuple[Array, Array]:
        z, gradient = outputs[at], np.zeros_like(outputs)
        p = sigmoid(z)
        values, slope = {
            "logit": (z, np.ones_like(z)), "probability": (p, p * (1 - p)), "log-probability": (np.log(p), 1 - p),
        }[kind]  # fmt: skip
        gradient[at] = slope
        return values, gradient

    what = f"{names[label]}, box {wanted.number} of {count}"
    x1, y1, x2, y2 = (float(value) for value in row[:4])
    name = what if kind == "logit" else f"{kind} of {what}"
    return replace(Score(nodes[level], name, label, scalars), box=(x1, y1, x2, y2), place=(y, x))


def _wanted(task: Detection, names: Sequence[str], wanted: Box, rows: Array) -> tuple[Array, int]:
    """The row of the box, and how many there are to choose from."""
    found = rows[rows[:, 5] >= 0]
    of = ""
    if wanted.label is not None:
        label = class_index(names, str(wanted.label), "explain")
        found, of = found[found[:, 5] == label], f" of class {names[label]}"
    if not len(found):
        least = f"{task.score_threshold:g}"
        raise ConfigError(
            "explain", f"expected a box{of} that the network finds with a score of {least} or more, got none in this "
            "image; choose another image, or lower the task's score_threshold",
        )  # fmt: skip
    number = wanted.number
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(found):
        raise ConfigError("explain", f"expected a box from 1 to {len(found)}{of}, got {number!r}; 1 is the surest")
    return found[number - 1], len(found)


def _cell(task: Detection, maps: Sequence[Array], row: Array) -> tuple[int, int, int]:
    """The map, row and column that a found box comes from: where its class has its score and its sides are its own."""
    count = len(task.strides)
    sizes = [(one.shape[1], one.shape[2]) for one in maps[:count]]
    points, steps = points_of(sizes, task.strides)
    score = sigmoid(flat(maps[:count])[0, :, int(row[5])].astype(np.float32))
    height, width = sizes[0][0] * task.strides[0], sizes[0][1] * task.strides[0]
    boxes = np.clip(around(points, steps, flat(maps[count:])[0]), 0, (width, height, width, height))
    apart = np.abs(boxes - row[:4]).max(axis=1) + 1e3 * np.abs(score - row[4])
    place = int(apart.argmin())
    for level, (rows, columns) in enumerate(sizes):
        if place < rows * columns:
            return level, place // columns, place % columns
        place -= rows * columns
    raise AssertionError("points and maps have one size")
