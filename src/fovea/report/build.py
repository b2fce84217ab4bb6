"""The page of one run: its head, its sections in the order of questions, and the file."""

from __future__ import annotations

import json
import os
import platform
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fovea.graph.serialize import write_atomically
from fovea.progress import seconds_as_text
from fovea.report import figures, network, results
from fovea.report.facts import Facts, gather
from fovea.report.page import Section, count, keys, numbers, page, percent, short, table, text

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.run import Run

__all__ = ["build"]


def build(run: Run, data: Dataset | None) -> Path:
    """Write the report of a run; see ``fovea.report.write``."""
    facts = gather(run, data)
    sections = [results.learning(facts)]
    if facts.is_classification:
        sections += [
            results.confusion(facts),
            results.classes(facts),
            results.calibration(facts),
            results.mistakes(facts),
        ]
    else:
        sections += results.values(facts)
    sections += [
        network.filters(facts), network.feature_maps(facts), network.layers(facts),
        _data(facts), _configuration(facts), _environment(facts),
    ]  # fmt: skip
    title, head = _head(facts)
    foot = f"Written by fovea {text(_version())}. This file holds everything it shows; it loads nothing."
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
    if "loss" in detail:
        items.append(("loss", short(detail["loss"]), facts.looked_at))
    if facts.is_classification and len(facts.model.classes or ()) > 5 and "top5" in detail:
        items.append(("top-5 accuracy", percent(detail["top5"]), facts.looked_at))
    items.append(("parameters", count(int(facts.model.summary().totals["parameters"])), ""))
    if metrics.get("epochs"):
        best = f"best: {metrics['best_epoch']}" if metrics.get("best_epoch") else ""
        items.append(("epochs", str(metrics["epochs"]), best))
    if metrics.get("seconds"):
        speed = metrics.get("images_per_second")
        items.append(
            ("training time", seconds_as_text(metrics["seconds"]), f"{count(round(speed))} samples/s" if speed else "")
        )
    state = "" if run.finished else " The training has not ended yet: these are its best weights so far."
    kinds = f"{data.get('kind', 'sample')}s of {' x '.join(map(str, data.get('input_shape', [])))}"
    what = f"{len(facts.model.classes or ())} classes" if facts.is_classification else "values"
    line = (
        f"{facts.model.task.kind.capitalize()} of {kinds} into {what}."
        if facts.is_classification
        else f"Regression from {kinds}."
    )
    return (
        title,
        f"<h1>{text(title)}</h1><p>{text(line + state)}</p>"
        f"<p>{text(run.name)}, started {text(_moment(run.config.get('started', '')))}</p>{numbers(items)}",
    )


def _moment(stamp: str) -> str:
    """``2026-11-22T20:48:53+0000`` as ``2026-11-22 20:48``."""
    return stamp[:16].replace("T", " ")


def _data(facts: Facts) -> Section:
    """Counts, what was left out, how validation was made, balance of the classes."""
    known: dict[str, Any] = (facts.run.config.get("data") or {}) if facts.data is None else facts.data.summary()
    rows = [(name, int(number)) for name, number in (known.get("splits") or {}).items()]
    body = table(["split", "samples"], rows, wide=False)
    words = [f"Validation: {known['validation']}."] if known.get("validation") else []
    words += [str(note) for note in known.get("notes") or []]
    body += "".join(f"<p>{text(sentence)}</p>" for sentence in words)
    bad = known.get("quarantined") or []
    if bad:
        listed = table(
            ["file", "split", "reason"], [(one["path"], one["split"], one["reason"]) for one in bad[:100]], left=3
        )
        body += f"<h3>Left out because they cannot be read: {len(bad)}</h3>{listed}"
    else:
        body += "<p>No file was left out: every one could be read.</p>"
    if facts.data is not None and facts.is_classification:
        targets = facts.data.train.listed_targets
        counts = np.bincount(targets, minlength=len(facts.data.classes))
        order = range(len(counts)) if len(counts) <= 40 else np.argsort(-counts, kind="stable")[:40].tolist()
        names = [facts.data.classes[index] for index in order]
        drawn = figures.bars("balance", "training samples by class", names, [int(counts[index]) for index in order])
        body += f"<figure>{drawn}</figure>"
        if len(counts) > 40:
            body += f"<p>The 40 largest of {len(counts)} classes; the smallest has {int(counts.min())} samples.</p>"
    pairs = {"source": known.get("source"), "fingerprint (sha256 of the contents)": known.get("fingerprint")}
    return Section("data", "Data", body + keys(pairs))


def _configuration(facts: Facts) -> Section:
    config = facts.run.config
    body = keys(config.get("train") or {})
    preprocessing = facts.model.preprocessing
    if preprocessing is not None:
        body += f"<h3>Preprocessing, stored in the model file</h3>{keys(preprocessing.to_dict())}"
    whole = {name: value for name, value in config.items() if name != "record"}
    body += f"<details><summary>config.json</summary><pre>{text(json.dumps(whole, indent=2))}</pre></details>"
    return Section("configuration", "Configuration", body)


def _environment(facts: Facts) -> Section:
    config = facts.run.config
    pairs = {
        "fovea": config.get("fovea") or _version(),
        "engine": config.get("engine"),
        "trained on": config.get("machine"),
        "report written with Python": platform.python_version(),
        "NumPy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "byte order": sys.byteorder,
    }
    note = "The same seed and data give the same weights, bit for bit, on one version, engine and kind of machine."
    body = f"{keys(pairs)}<h3>Reproduce</h3><p>{note}</p>"
    return Section("reproduce", "Environment", body + f"<pre>{text(_reproduce(facts))}</pre>")


def _reproduce(facts: Facts) -> str:
    """The command line that started the run, else the same in Python."""
    config = facts.run.config
    record = config.get("record") or {}
    if record.get("command"):
        return str(record["command"])
    name = facts.model.name
    network = (
        f"fovea.models.{name}(data.num_classes, data.input_shape, seed={config.get('train', {}).get('seed', 0)})"
        if name
        else "...  # the network of this run"
    )
    options = config.get("train") or {}
    return (
        "import fovea\nfrom fovea.training import TrainConfig\n\n"
        f"data = fovea.dataset({(config.get('data') or {}).get('source', 'DATA')!r})\nmodel = {network}\n"
        f"config = TrainConfig.from_dict({options!r})\nrun = fovea.train(model, data, config=config)"
    )


def _version() -> str:
    import fovea

    return fovea.__version__
