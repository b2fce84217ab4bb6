"""The page of one run: its head, its sections in the order of questions, and the file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import fovea
from fovea.graph.serialize import write_atomically
from fovea.progress import seconds_as_text
from fovea.report import detection, network, records, results, transfer
from fovea.report.abstention import abstention
from fovea.report.facts import Facts, gather
from fovea.report.page import count, numbers, page, percent, short, text

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.run import Run

__all__ = ["build"]


def build(run: Run, data: Dataset | None) -> Path:
    """Write the report of a run; see ``fovea.report.write``."""
    facts = gather(run, data)
    sections = [*transfer.transfer(run), results.learning(facts)]
    if facts.is_classification:
        sections += [
            results.confusion(facts),
            results.classes(facts),
            results.calibration(facts),
            abstention(facts),
            results.mistakes(facts),
        ]
    elif facts.is_detection:
        sections += detection.detection(facts)
    else:
        sections += results.values(facts)
    sections += [
        network.filters(facts.model), network.feature_maps(facts), network.layers(facts.model),
        records.data(facts), records.configuration(facts), records.environment(facts),
    ]  # fmt: skip
    title, head = _head(facts)
    foot = f"Written by fovea {text(fovea.__version__)}. This file holds everything it shows; it loads nothing."
    html = page(title, head, sections, foot)
    write_atomically(run.report_path, partial(_put, html))
    return run.report_path


def _put(html: str, path: Path) -> None:
    path.write_text(html, encoding="utf-8")


def _head(facts: Facts) -> tuple[str, str]:
    run, metrics, detail = facts.run, facts.metrics, facts.detail
    data = run.config.get("data") or {}
    title = (
        f"{facts.model.name or run.config.get('model', {}).get('name') or 'A network'} on {data.get('name', 'data')}"
    )
    items: list[tuple[str, str, str]] = []
    for split, found, remark in (
        ("test", run.evaluation.get("test") or {}, "test samples"),
        ("", detail, f"{facts.looked_at} samples"),
    ):
        number = found.get("n") or (len(facts.targets) if found is detail else 0)
        seen = f"{count(int(number))} {remark}" if number else remark
        if "accuracy" in found:
            items.append((f"{split} accuracy".strip(), percent(found["accuracy"]), seen))
        elif "rmse" in found:
            items.append((f"{split} RMSE".strip(), short(found["rmse"]), seen))
        elif "map" in found:
            items += detection.headline(found, split, seen)
    if "loss" in detail:
        items.append(("loss", short(detail["loss"]), facts.looked_at))
    if facts.is_classification and len(facts.model.classes or ()) > 5 and "top5" in detail:
        items.append(("top-5 accuracy", percent(detail["top5"]), facts.looked_at))
    items.append(("parameters", count(int(facts.model.summary().totals["parameters"])), ""))
    if metrics.get("epochs"):
        best = f"best: {metrics['best_epoch']}" if metrics.get("best_epoch") is not None else ""
        items.append(("epochs", str(metrics["epochs"]), best))
    if metrics.get("seconds"):
        speed = metrics.get("images_per_second")
        items.append(
            ("training time", seconds_as_text(metrics["seconds"]), f"{count(round(speed))} samples/s" if speed else "")
        )
    state = "" if run.finished else " The training has not ended yet: these are its best weights so far."
    kinds = f"{data.get('kind', 'sample')}s of {' x '.join(map(str, data.get('input_shape', [])))}"
    many = len(facts.model.classes or ())
    number = f"{many} class{'es' * (many != 1)}"
    line = {
        "classification": f"Classification of {kinds} into {number}.",
        "detection": f"Objects of {number} in {kinds}.",
    }.get(facts.model.task.kind, f"Regression from {kinds}.")
    return (
        title,
        f"<h1>{text(title)}</h1><p>{text(line + state)}</p>"
        f"<p>{text(run.name)}, started {text(_moment(run.config.get('started', '')))}</p>{numbers(items)}",
    )


def _moment(stamp: str) -> str:
    """``2026-11-22T20:48:53+0000`` as ``2026-11-22 20:48``."""
    return stamp[:16].replace("T", " ")
