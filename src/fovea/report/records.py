"""Sections about what went in: the data, the configuration, the machine, and how to get the run again."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any

import numpy as np

import fovea
from fovea.data.shards.split import StreamSplit
from fovea.report import figures
from fovea.report.facts import Facts
from fovea.report.page import Section, keys, table, text

__all__ = ["configuration", "data", "environment"]


def data(facts: Facts) -> Section:
    """Counts, what was left out, how validation was made, balance of the classes."""
    known: dict[str, Any] = facts.run.config.get("data") or {}
    rows = [(name, int(number)) for name, number in (known.get("splits") or {}).items()]
    words = [f"Validation: {known['validation']}."] if known.get("validation") else []
    words += [str(note) for note in known.get("notes") or []]
    body = "".join(f"<p>{text(sentence)}</p>" for sentence in words)
    bad = known.get("quarantined") or []
    if bad:
        listed = table(
            ["file", "split", "reason"], [(one["path"], one["split"], one["reason"]) for one in bad[:100]], left=3
        )
        body += f"<h3>Left out because they cannot be read: {len(bad)}</h3>{listed}"
    else:
        body += "<p>No file was left out: every one could be read.</p>"
    body += f'<div class="beside">{table(["split", "samples"], rows, wide=False)}{_balance(facts)}</div>'
    pairs = {"source": known.get("source"), "fingerprint (sha256 of the contents)": known.get("fingerprint")}
    return Section("data", "Data", body + keys(pairs))


def _balance(facts: Facts) -> str:
    """How many training samples each class has; the 40 largest where there are more."""
    if facts.data is None or not facts.is_classification:
        return ""
    train, classes = facts.data.train, len(facts.data.classes)
    streamed = isinstance(train, StreamSplit)
    counts = train.class_counts() if streamed else np.bincount(train.listed_targets, minlength=classes)
    order = range(len(counts)) if len(counts) <= 40 else np.argsort(-counts, kind="stable")[:40].tolist()
    names = [facts.data.classes[index] for index in order]
    drawn = figures.bars("balance", "training samples by class", names, [int(counts[index]) for index in order])
    more = f"The 40 largest of {len(counts)} classes; the smallest has {int(counts.min())} samples."
    return f"<figure>{drawn}{f'<figcaption>{more}</figcaption>' if len(counts) > 40 else ''}</figure>"


def configuration(facts: Facts) -> Section:
    """Every option of the training and the preprocessing that the model file carries."""
    config = facts.run.config
    body = f"<div><h3>Training</h3>{keys(config.get('train') or {})}</div>"
    preprocessing = facts.model.preprocessing
    if preprocessing is not None:
        body += f"<div><h3>Preprocessing, stored in the model file</h3>{keys(preprocessing.to_dict())}</div>"
    body = f'<div class="beside">{body}</div>'
    whole = {name: value for name, value in config.items() if name != "record"}
    body += f"<details><summary>config.json</summary><pre>{text(json.dumps(whole, indent=2))}</pre></details>"
    return Section("configuration", "Configuration", body)


def environment(facts: Facts) -> Section:
    """Versions, machine, and how to get this run again."""
    config = facts.run.config
    pairs = {
        "fovea": config.get("fovea") or fovea.__version__,
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
