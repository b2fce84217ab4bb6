"""What can be wrong with annotated boxes, beyond what their reader has noted: the part of ``fovea data check``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.annotations.records import Finding
from fovea.data.boxes import BOX, CROWD, DIFFICULT, FLAGS, LABEL, box_iou, is_box
from fovea.data.dataset import Dataset, Split
from fovea.data.problems import Problem, problem

__all__ = ["box_facts", "box_problems", "note_problems"]

Array = npt.NDArray[Any]
_SAME = 0.9  # overlap above which two boxes are one object
_TINY = 6.0  # pixels of the network's input: the shorter side of a box that a detector hardly sees
_TINY_SHARE = 0.05
_WHOLE = 0.98  # share of the image
_CROWDED = 0.2  # share of images without objects worth a word


def note_problems(data: Dataset) -> list[Problem]:
    """The notes of a data set: findings with what was found, other notes as information."""
    found = []
    for note in data.notes:
        if isinstance(note, Finding):
            message = note.split(" (", 1)[0] if note.examples else str(note)
            found.append(Problem(note.name, note.severity, message, note.found, note.examples))
        else:
            found.append(Problem("note", "info", note))
    return found


def box_problems(data: Dataset) -> list[Problem]:
    """Boxes that lie upon one another, are hardly to be seen or fill the image; images without any."""
    twice, contested, tiny, whole, empty = [], [], [], [], []
    total = 0
    for split in data.splits.values():
        for (name, drawn, held), (height, width) in zip(_images(split), split.sizes.tolist(), strict=True):
            total += len(drawn)
            place = f"{split.name}: {name}"
            if not len(held):
                empty.append(place)
            same, other = _overlapping(held)
            twice += [f"{place} has two of {data.classes[label]}" for label in same]
            contested += [f"{place} has {data.classes[a]} and {data.classes[b]} at one place" for a, b in other]
            sides = (drawn[:, 2:4] - drawn[:, 0:2]).min(axis=1) if len(drawn) else np.zeros(0)
            tiny += [f"{place} {data.classes[int(row[LABEL])]}" for row in drawn[sides < _TINY]]
            cover = (held[:, 2:4] - held[:, 0:2]).prod(axis=1)
            filling = held[cover > _WHOLE * height * width]
            whole += [f"{place} {data.classes[int(row[LABEL])]}" for row in filling]
    found = problem(
        "boxes twice", "warning", f"{len(twice)} pairs of boxes of one class cover one another ({_SAME:.0%})", twice
    )
    found += problem(
        "two classes", "warning", f"{len(contested)} pairs of boxes of two classes cover one another", contested
    )
    if len(tiny) > _TINY_SHARE * max(1, total):
        side = "x".join(map(str, data.input_shape[:2]))
        text = f"{len(tiny)} of {total} boxes are below {_TINY:g} pixels at {side}; choose a larger size"
        found += problem("tiny boxes", "warning", text, tiny)
    found += problem("whole image", "info", f"{len(whole)} boxes are as large as their image", whole)
    share = len(empty) / max(1, sum(len(split) for split in data.splits.values()))
    severity = "warning" if share > _CROWDED else "info"
    found += problem("no objects", severity, f"{len(empty)} images have no object ({share:.0%})", empty)
    return found


def box_facts(data: Dataset) -> dict[str, Any]:
    """Objects of an image, sides of boxes as the network sees them, and how many are crowds or difficult."""
    counts, sides, flags = [], [], []
    for split in data.splits.values():
        for _, drawn, held in _images(split):
            counts.append(len(held))
            sides.append(np.sqrt((drawn[:, 2:4] - drawn[:, 0:2]).prod(axis=1)))
            flags.append(held[:, FLAGS].astype(np.int64))
    side, flag = np.concatenate(sides), np.concatenate(flags)
    return {
        "objects": _spread(np.array(counts)),
        "box": _spread(side.round(1)) if len(side) else {},
        "crowds": int((flag & CROWD > 0).sum()),
        "difficult": int((flag & DIFFICULT > 0).sum()),
    }


def _spread(values: Array) -> dict[str, float]:
    return {"min": values.min().item(), "median": float(np.median(values)), "max": values.max().item()}


def _images(split: Split) -> Iterator[tuple[str, Array, Array]]:
    """Name, boxes in the network's input and boxes in the file, of each readable image."""
    for name, drawn, held in zip(split.ids, split.targets, split.listed_targets[split.readable], strict=True):
        yield name, drawn[is_box(drawn)], held[is_box(held)]


def _overlapping(rows: Array) -> tuple[list[int], list[tuple[int, int]]]:
    """For pairs of boxes that cover one another: their class, or the two classes when those differ."""
    same: list[int] = []
    other: list[tuple[int, int]] = []
    first, second = np.nonzero(np.triu(box_iou(rows[:, BOX], rows[:, BOX]) > _SAME, 1))
    for a, b in zip(rows[first, LABEL].astype(int).tolist(), rows[second, LABEL].astype(int).tolist(), strict=True):
        if a == b:
            same.append(a)
        else:
            other.append((a, b))
    return same, other
