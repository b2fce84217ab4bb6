"""Sections about a detector: precision and recall, what is taken for what, classes, and its worst images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import BOX, CROWD, DIFFICULT, FLAGS, LABEL, is_box
from fovea.detection.draw import Mark, draw_boxes
from fovea.report import pictures
from fovea.report.facts import Facts
from fovea.report.figures import draw
from fovea.report.page import Section, percent, table, text
from fovea.report.style import COLOURS
from fovea.tasks.detect.confusion import paired
from fovea.tasks.metrics import class_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["detection", "headline"]

Array = npt.NDArray[Any]
_WORST = 12
_LINES = 6  # classes that a figure can tell apart
_STYLES = [("accent", "-"), ("second", "-"), ("good", "-"), ("bad", "-"), ("accent", "--"), ("second", "--")]
_RIGHT, _WRONG, _MISSED = (40, 170, 90), (225, 60, 50), (60, 130, 246)
_WEIGHT = 1.7
_SIDE = 480  # pixels of the longer side of a picture: boxes need more room than samples


def detection(facts: Facts) -> list[Section]:
    """The sections of a detector's report."""
    return [_precision_recall(facts), _confusion(facts), _classes(facts), _worst(facts)]


def headline(found: Mapping[str, Any], split: str, remark: str) -> list[tuple[str, str, str]]:
    """The numbers that stand at the top of the page, as (what, value, remark)."""
    named = (("map", "mAP@[.50:.95]"), ("map50", "mAP@.50"))
    return [(f"{split} {name}".strip(), f"{found[key]:.3f}", remark) for key, name in named if key in found]


def _precision_recall(facts: Facts) -> Section:
    curves = facts.detail.get("pr") or {}
    if not curves.get("by_iou"):
        return Section("precision", "Precision and recall", _absent(facts))
    recall = curves["recall"]
    by_class = {name: one["precision"] for name, one in curves["per_class"].items()}
    by_overlap = {f"IoU {iou}": line for iou, line in curves["by_iou"].items()}
    drawn = []
    if len(by_class) <= _LINES:
        drawn.append(("precision-class", "classes, at IoU 0.50", by_class))
    drawn.append(("precision-iou", "mean over classes", by_overlap))
    figures = "".join(f"<figure>{_curves(name, title, recall, lines)}</figure>" for name, title, lines in drawn)
    detail = facts.detail
    sizes = [(name, detail.get(f"map_{name}")) for name in ("small", "medium", "large")]
    rows = [(f"AP of {name} objects", value) for name, value in sizes if value is not None]
    rows += [
        (f"recall with {key[2:]} box{'es' * (key != 'ar1')} an image", detail[key])
        for key in ("ar1", "ar10", "ar100")
        if key in detail
    ]
    rows += [("VOC mAP@.50", detail["voc_map50"])] if "voc_map50" in detail else []
    listed = table(["", "value"], [(name, f"{value:.3f}") for name, value in rows], wide=False)
    words = (
        "From the surest box down: recall is the share of objects found so far, precision the share of boxes that are "
        "right. A box is right when it overlaps an object of its class by at least the IoU that is named. The area "
        "under a curve is the average precision; mAP@[.50:.95] is its mean over classes and the IoUs 0.50, 0.55 ... "
        "0.95, computed by pycocotools. Small objects are below 32 x 32 pixels of the file, large ones above 96 x 96."
    )
    body = f'<p>{text(words)}</p><div class="figures">{figures}<div>{listed}</div></div>'
    return Section("precision", "Precision and recall", body)


def _curves(name: str, title: str, recall: Sequence[float], lines: Mapping[str, Sequence[float]]) -> str:
    """Precision over recall, a line for each name."""

    def paint(axes: Axes) -> None:
        for (label, line), (colour, style) in zip(lines.items(), _STYLES, strict=False):
            shown = label if len(label) < 24 else label[:22] + ".."
            axes.plot(recall, line, style, color=COLOURS[colour], label=shown)
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall", title=f"precision: {title}")
        axes.legend(loc="lower left")

    return draw(name, paint)


def _confusion(facts: Facts) -> Section:
    from fovea.report.results import confusion_table

    matrix = np.asarray(facts.detail.get("confusion") or [], np.int64)
    if not matrix.size:
        return Section("confusion", "Confusion", _absent(facts))
    names = class_names(facts.model.classes, len(matrix) - 1)
    threshold = getattr(facts.model.task, "score_threshold", 0.25)
    words = (
        f"Rows are the truth, columns what was found with a score of at least {threshold:g} and an IoU of at least 0.5 "
        f"on {facts.looked_at} images. The last column counts objects that were missed, the last row boxes where "
        "nothing is. Colour is the share of the row."
    )
    drawn = confusion_table(matrix, [*names, "nothing there"], [*names, "missed"])
    return Section("confusion", "Confusion", f"<p>{text(words)}</p>{drawn}")


def _classes(facts: Facts) -> Section:
    per_class = facts.detail.get("per_class") or {}
    if not per_class:
        return Section("classes", "Classes", _absent(facts))
    columns = ("ap", "ap50", "precision", "recall", "f1", "score")
    rows = [
        (name, *("" if one[key] is None else f"{one[key]:.3f}" for key in columns), int(one["support"]))
        for name, one in per_class.items()
    ]
    head = ["class", "AP@[.50:.95]", "AP@.50", "precision", "recall", "F1", "at score", "objects"]
    words = (
        "Precision, recall and F1 stand at the score at which F1 is best, the last number but one: the threshold to "
        "begin with where one kind of mistake is no worse than the other."
    )
    shown = table(head, rows)
    if len(rows) > 40:
        shown = f"<details><summary>{len(rows)} classes</summary>{shown}</details>"
    return Section("classes", "Classes", f"<p>{text(words)}</p>{shown}")


def _worst(facts: Facts) -> Section:
    """The images with most mistakes, the truth and what was found drawn into them."""
    if facts.outputs is None or facts.inputs is None or facts.split is None:
        return Section("mistakes", "Worst images", _absent(facts))
    threshold = getattr(facts.model.task, "score_threshold", 0.25)
    judged = []
    for row, (found, targets) in enumerate(zip(facts.outputs, facts.targets, strict=True)):
        sure = found[(found[:, 5] >= 0) & (found[:, 4] >= threshold)].astype(np.float64)
        truth = targets[is_box(targets)].astype(np.float64)
        partner, ignored = paired(sure, truth)
        right = (partner >= 0) & (sure[:, 5] == truth[partner, LABEL] if len(truth) else False)
        demanded = truth[:, FLAGS].astype(np.int64) & (CROWD | DIFFICULT) == 0
        hit = np.zeros(len(truth), bool)
        hit[partner[right]] = True
        judged.append((row, sure, truth, right, ~right & ~ignored, demanded & ~hit))
    order = sorted(judged, key=lambda one: (-int(one[4].sum() + one[5].sum()), one[0]))
    shown = [_scene(facts, *one) for one in order[:_WORST] if one[4].any() or one[5].any()]
    clean = sum(not (one[4].any() or one[5].any()) for one in judged)
    words = (
        f"{clean} of {len(judged)} {facts.looked_at} images ({percent(clean / len(judged), 1)}) are without a mistake "
        f"at a score of {threshold:g}; these have most. Green: right. Red: wrong, with class and score. Dashed blue: "
        "an object that was missed, or that was given another class. Missing annotations are often among the red ones."
    )
    if not shown:
        words = f"None: every object of all {len(judged)} {facts.looked_at} images is found, and nothing else."
    return Section(
        "mistakes", "Worst images", f'<p>{text(words)}</p><div class="pictures scenes">{"".join(shown)}</div>'
    )


def _scene(
    facts: Facts, row: int, sure: Array, truth: Array, right: Array, wrong: Array, missed: Array
) -> str:  # fmt: skip
    assert facts.inputs is not None
    assert facts.split is not None
    count = 1 + int(max(sure[:, 5].max(initial=0), truth[:, LABEL].max(initial=0)))
    names = class_names(facts.model.classes, len(facts.model.classes or ()) or count)
    marks = [_mark(one[:4], f"{names[int(one[5])]} {one[4]:.2f}", _WRONG) for one in sure[wrong]]
    marks += [_mark(one[BOX], names[int(one[LABEL])], _MISSED, True) for one in truth[missed]]
    marks += [_mark(one[:4], "", _RIGHT) for one in sure[right]]
    drawn = pictures.image(_trimmed(facts, row, marks), facts.split.ids[row], _SIDE)
    counts = f"{int(right.sum())} right, {int(wrong.sum())} wrong, {int(missed.sum())} missed"
    return f"<figure>{drawn}<figcaption>{counts}<br><small>{text(facts.split.ids[row])}</small></figcaption></figure>"


def _trimmed(facts: Facts, row: int, marks: Sequence[Mark]) -> Array:
    """The input with the marks, without the rows and columns that letterboxing added."""
    assert facts.inputs is not None
    pixels = facts.inputs[row]
    how = facts.model.preprocessing
    own = np.ones(pixels.shape[:2], bool) if how is None else (pixels != how.fill).any(axis=-1)
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    if not len(rows):
        return draw_boxes(pixels, marks, _WEIGHT)
    top, left = int(rows[0]), int(columns[0])
    moved = [replace(one, box=tuple(np.subtract(one.box, (left, top) * 2).tolist())) for one in marks]
    return draw_boxes(pixels[top : rows[-1] + 1, left : columns[-1] + 1], moved, _WEIGHT)


def _mark(box: Array, words: str, colour: tuple[int, int, int], dashed: bool = False) -> Mark:
    x1, y1, x2, y2 = (float(value) for value in box)
    return Mark((x1, y1, x2, y2), words, colour, dashed)


def _absent(facts: Facts) -> str:
    return f"<p>Not shown: {text(facts.absent or 'the run has no validation result yet')}</p>"
