"""Section about abstaining: how many samples a model can answer, and how many of these answers are right."""

from __future__ import annotations

import numpy as np

from fovea.report import figures
from fovea.report.facts import Facts
from fovea.report.page import Section, percent, table, text

__all__ = ["abstention"]

_ABSENT = "the run has no validation result yet"


def abstention(facts: Facts) -> Section:
    """The risk-coverage curve as coverage and accuracy, its area, and thresholds for wanted accuracies."""
    found = facts.detail.get("selective")
    if not found and facts.outputs is not None:  # a run of an older version
        found = facts.model.task.metrics(facts.outputs, facts.targets, detail=True)["selective"]
    if not found:
        return Section("abstention", "Abstention", f"<p>Not shown: {text(facts.absent or _ABSENT)}</p>")
    curve = {name: np.array(values, float) for name, values in found["curve"].items()}
    words = (
        "A model may answer only where its probability is at least a threshold, and leave the rest to a person. The "
        f"curve shows, on {facts.looked_at} samples, the share of right answers (height) among the samples that it is "
        "surest of (width): the right end answers everything, dots mark the rows of the table. The area under the "
        f"error of this curve (AURC) is {found['aurc']:.4f}, 0 for one that is never wrong; better networks and better "
        "confidences both lower it."
    )
    marks = [(line["coverage"], line["accuracy"]) for line in found["targets"] if line["coverage"] is not None]
    drawn = figures.coverage("coverage", curve["coverage"], curve["accuracy"], marks)
    shown = _table(found["targets"])
    body = f'<p>{text(words)}</p><div class="beside"><figure>{drawn}</figure><div>{shown}</div></div>'
    own = getattr(facts.model.task, "min_confidence", 0.0)
    said = (
        f"This model answers from {own:.6g} on." if own else "This model answers everything; min_confidence changes it."
    )
    note = (
        f"The thresholds were chosen on these {facts.looked_at} samples, so the left half of the table is a little "
        "kind. The right half holds, with 95 % certainty, for all samples drawn as these were: it asks for so few "
        "errors that chance alone hardly gives them (Geifman and El-Yaniv 2017). Both are for one view of each sample; "
        "averages over several views have other probabilities."
    )
    return Section("abstention", "Abstention", f"{body}<p>{text(note)} {text(said)}</p>")


def _table(targets: list[dict[str, float | None]]) -> str:
    rows = []
    for line in targets:
        here = _cells(line["coverage"], line["threshold"])
        everywhere = _cells(line["certain_coverage"], line["certain_threshold"])
        rows.append((f"{100 * (line['accuracy'] or 0.0):g} %", *here, *everywhere))
    return table(["to be right in", "answer", "from", "for certain, answer", "from"], rows, wide=False)


def _cells(coverage: float | None, threshold: float | None) -> tuple[str, str]:
    if coverage is None or threshold is None:
        return "nothing", ""
    return percent(coverage, 1), f"{threshold:.6g}" if threshold else "all"
