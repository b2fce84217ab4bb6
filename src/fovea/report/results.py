"""Sections about how good the model is: learning curves, confusion, classes, calibration, worst mistakes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.report import figures, pictures
from fovea.report.facts import Facts
from fovea.report.page import Section, count, percent, short, table, text

__all__ = ["calibration", "classes", "confusion", "confusion_table", "learning", "mistakes", "values"]

Array = npt.NDArray[Any]
_NUMBERED = 20  # up to so many classes the confusion matrix shows its numbers, above that colours alone
_WORST = 18
_CURVES = {
    "classification": [("accuracy", "accuracy", "accuracy")],
    "regression": [("mae", "mae", "mean absolute error")],
    "detection": [("map", "map", "mAP@[.50:.95]"), ("map50", "map50", "mAP@.50")],
}
"""Beside the loss, what is drawn over the epochs, by kind of task: anchor, metric, title."""


def learning(facts: Facts) -> Section:
    """Loss, the task's main metric and the learning rate over epochs."""
    log = facts.epochs()
    if facts.metrics and not any(line["epoch"] for line in log):
        return Section(
            "learning", "Learning curves", "<p>No epoch was trained: the weights are those of the start.</p>"
        )
    marked = [line["epoch"] for line in log if line.get("best")]
    best = marked[-1] if marked else None
    shown = [("loss", "loss", "loss"), *_CURVES.get(facts.model.task.kind, ())]
    drawn = []
    for anchor, metric, title in shown:
        lines = {}
        for label, prefix in (("train", "train_"), ("validation", "val_")):
            points = [(line["epoch"], line[prefix + metric]) for line in log if _finite(line.get(prefix + metric))]
            if points:
                lines[label] = ([x for x, _ in points], [y for _, y in points])
        if lines:
            drawn.append(f"<figure>{figures.curves(f'learning-{anchor}', title, lines, best)}</figure>")
    rates = [(line["epoch"], line["lr"]) for line in log if _finite(line.get("lr"))]
    if rates:
        lines = {"learning rate": ([x for x, _ in rates], [y for _, y in rates])}
        drawn.append(f"<figure>{figures.curves('learning-rate', 'learning rate', lines)}</figure>")
    found = (facts.run.config.get("record") or {}).get("find_lr")
    if found:
        drawn.append(f"<figure>{figures.finder('finder', found['lrs'], found['losses'], found['suggestion'])}</figure>")
    note = (
        "Training loss is the mean over the epoch with augmentation and dropout, so it may lie above validation loss."
    )
    note += (
        f" The dot marks epoch {best}, whose weights the model file holds."
        if best is not None and facts.metrics
        else ""
    )
    body = (
        f'<p>{text(note)}</p><div class="figures">{"".join(drawn)}</div>' if drawn else "<p>No epoch has ended yet.</p>"
    )
    return Section("learning", "Learning curves", body)


def confusion(facts: Facts) -> Section:
    """Who is taken for whom: rows are the truth, columns what was predicted."""
    matrix = np.asarray(facts.detail.get("confusion") or [], np.int64)
    if not matrix.size:
        return Section("confusion", "Confusion", _absent(facts))
    names = _names(facts, len(matrix))
    body = f"<p>Rows are the truth, columns the prediction, on {facts.looked_at} samples; colour is the share.</p>"
    return Section("confusion", "Confusion", body + confusion_table(matrix, names, names))


def confusion_table(matrix: Array, names: list[str], columns: list[str]) -> str:
    """Counts by truth (rows) and prediction (columns), and beside them what is confused most often."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    body = _numbered(matrix, shares, names, columns) if len(matrix) <= _NUMBERED else _coloured(shares)
    wrong = [(matrix[i, j], i, j) for i, j in zip(*np.nonzero(matrix), strict=True) if i != j]
    rows = [
        (names[i], columns[j], int(n), percent(shares[i, j], 1))
        for n, i, j in sorted(wrong, key=lambda item: -item[0])[:8]
    ]
    if rows:
        listed = table(["truth", "predicted", "samples", "of the class"], rows, left=2, wide=False)
        body += f"<div><h3>Most often confused</h3>{listed}</div>"
    return f'<div class="beside">{body}</div>'


def _numbered(matrix: Array, shares: Array, names: list[str], columns: list[str]) -> str:
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in columns)
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, (number, share) in enumerate(zip(matrix[i].tolist(), shares[i].tolist(), strict=True)):
            kind = " ".join(["right"] * (i == j) + ["zero"] * (number == 0))
            # a square root lets a few mistakes show beside hundreds of right answers
            cells.append(f'<td class="{kind}" style="--share:{0.75 * math.sqrt(share):.2f}">{number}</td>')
        rows.append(f'<tr><th scope="row">{text(name)}</th>{"".join(cells)}</tr>')
    body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table class="confusion">{body}</table></div>'


def _coloured(shares: Array) -> str:
    size = max(1, 480 // len(shares))
    drawn = pictures.heat(np.kron(np.sqrt(shares), np.ones((size, size))), "confusion matrix")
    return f'<div class="matrix">{drawn}</div>'


def classes(facts: Facts) -> Section:
    """Precision, recall and F1 of every class."""
    per_class = facts.detail.get("per_class") or {}
    rows = [(name, one["precision"], one["recall"], one["f1"], int(one["support"])) for name, one in per_class.items()]
    if not rows:
        return Section("classes", "Classes", _absent(facts))
    shown = table(
        ["class", "precision", "recall", "F1", "samples"],
        [(name, *(f"{x:.3f}" for x in row), n) for name, *row, n in rows],
    )
    mean = [f"{np.mean([row[column] for row in rows]):.3f}" for column in (1, 2, 3)]
    note = (
        "Precision: of those predicted as the class, the share that is. Recall: of the class, the share found. "
        f"Mean over classes: precision {mean[0]}, recall {mean[1]}, F1 {mean[2]}."
    )
    body = f"<p>{note}</p>" + (
        shown if len(rows) <= 40 else f"<details><summary>{len(rows)} classes</summary>{shown}</details>"
    )
    return Section("classes", "Classes", body)


def calibration(facts: Facts) -> Section:
    """Whether the probabilities mean what they say."""
    bins = facts.detail.get("reliability")
    if not bins:
        return Section("calibration", "Calibration", _absent(facts))
    confidence, accuracy, number = (
        np.array([one[key] for one in bins], float) for key in ("confidence", "accuracy", "count")
    )
    share = number / max(1.0, number.sum())
    after, before = facts.detail.get("ece", math.nan), facts.detail.get("ece_uncalibrated", math.nan)
    temperature = facts.detail.get("temperature", 1.0)
    words = (
        f"The expected calibration error is {percent(after)} (uncalibrated: {percent(before)}): the probability given "
        "and the share that is right are that far apart on average. Logits are divided by the temperature "
        f"{temperature:.3f}, fitted on the same {facts.looked_at} samples, so the figure is a little kind. "
        "Bars show the accuracy in each of 15 equal ranges of probability, dots stand at their mean probability."
    )
    body = f"<p>{text(words)}</p>"
    body += f'<div class="figures"><figure>{figures.reliability("reliability", confidence, accuracy, share)}</figure>'
    return Section(
        "calibration", "Calibration", body + f"<figure>{figures.confidence('confidence', share)}</figure></div>"
    )


def mistakes(facts: Facts) -> Section:
    """The samples that the model got wrong with the highest probability: look here first for wrong labels."""
    if facts.outputs is None or facts.inputs is None or facts.split is None:
        return Section("mistakes", "Worst mistakes", _absent(facts))
    task, targets = facts.model.task.abstaining(0.0), facts.targets  # what it takes for what, also where it is unsure
    predictions = task.decode(facts.outputs, classes=facts.model.classes, top_k=1)
    names = _names(facts, facts.outputs.shape[1])
    wrong = np.flatnonzero(facts.outputs.argmax(axis=1) != targets)
    order = sorted(wrong.tolist(), key=lambda row: -predictions[row].probability)[:_WORST]  # type: ignore[attr-defined]
    if not order:
        return Section(
            "mistakes", "Worst mistakes", f"<p>None: all {len(targets)} {text(facts.looked_at)} samples are right.</p>"
        )
    shown = []
    for row in order:
        one: Any = predictions[row]
        caption = (
            f'<span class="wrong">{text(one.label)}</span> {percent(one.probability, 0)}<br>'
            f'is <span class="truth">{text(names[targets[row]])}</span><br><small>{text(facts.split.ids[row])}</small>'
        )
        shown.append(_picture(facts, row, caption))
    note = (
        f"{count(len(wrong))} of {count(len(targets))} {facts.looked_at} samples went wrong, the surest ones first. "
        "Wrong labels are often among them."
    )
    return Section("mistakes", "Worst mistakes", f"<p>{text(note)}</p>{_gallery(facts, shown)}")


def values(facts: Facts) -> list[Section]:
    """Regression: predicted against true values, and the samples that are furthest off."""
    if facts.outputs is None or facts.inputs is None:
        return [Section("values", "Predicted and true values", _absent(facts))]
    predicted = np.array([one.values for one in facts.model.task.decode(facts.outputs)])[:, 0]  # type: ignore[attr-defined]
    target = facts.targets.reshape(len(predicted), -1)[:, 0]
    words = ", ".join(
        f"{name} {short(float(facts.detail[key]))}"
        for key, name in (("mae", "MAE"), ("rmse", "RMSE"), ("r2", "R²"))
        if key in facts.detail
    )
    drawn = f"<p>{text(words)} on {text(facts.looked_at)} samples.</p>"
    drawn += f"<figure>{figures.scatter('values', 'predicted against target', target, predicted)}</figure>"
    order = np.argsort(-np.abs(predicted - target), kind="stable")[:_WORST]
    shown = [
        _picture(
            facts,
            int(row),
            f'<span class="wrong">{text(short(float(predicted[row])))}</span>, '
            f'is <span class="truth">{text(short(float(target[row])))}</span>',
        )
        for row in order
    ]
    return [
        Section("values", "Predicted and true values", drawn),
        Section(
            "mistakes",
            "Worst mistakes",
            f"<p>The {text(facts.looked_at)} samples that are furthest off.</p>{_gallery(facts, shown)}",
        ),
    ]


def _picture(facts: Facts, row: int, caption: str) -> str:
    assert facts.split is not None
    assert facts.inputs is not None
    drawn = pictures.sample(facts.split.kind, facts.inputs[row], facts.split.ids[row])
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"


def _gallery(facts: Facts, shown: list[str]) -> str:
    wide = " wide" if facts.split is not None and facts.split.kind in ("signal", "clip") else ""
    return f'<div class="pictures{wide}">{"".join(shown)}</div>'


def _names(facts: Facts, number: int) -> list[str]:
    own = facts.model.classes
    return list(own) if own is not None and len(own) == number else [str(index) for index in range(number)]


def _absent(facts: Facts) -> str:
    why = facts.absent or "the run has no validation result yet"
    return f"<p>Not shown: {text(why)}</p>"


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
