"""Networks of about equal accuracy: the first is trained for some epochs, the others until they are as good."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fovea import random
from fovea.data.dataset import Dataset
from fovea.data.load import from_arrays
from fovea.errors import DataError
from fovea.model import Model
from fovea.run import Run
from fovea.training.start import train

__all__ = ["train_to_equal"]


def train_to_equal(
    models: Mapping[str, Model], data: Dataset, *, epochs: int = 10, samples: int = 12_000, lr: float = 1e-3,
    catching_up: float = 3e-4, seed: int = 0, out: str | os.PathLike[str] | None = None,
) -> dict[str, Run]:  # fmt: skip
    """Train the first network for ``epochs``, each other one until its validation accuracy is no lower, at most as
    long.

    Without augmentation and with a constant learning rate: what they know of moved images they know from their
    architecture. ``samples`` of the training split, the same for all, make an epoch short; the others learn at the
    lower rate ``catching_up``, so that they stop close above the first. ``out``: a folder for the runs (None: each in
    a run folder of its own). Raises DataError without a validation split.
    """
    part = _part(data, samples, seed)
    options: dict[str, Any] = {
        "epochs": epochs, "augment": "none", "schedule": "constant", "optimizer": "adamw", "batch_size": 64,
        "seed": seed, "report": False,
    }  # fmt: skip
    runs: dict[str, Run] = {}
    wanted = 2.0

    def reached(line: Mapping[str, Any]) -> bool:
        return float(line.get("val_accuracy", 0.0)) >= wanted

    for name, model in models.items():
        rate = catching_up if runs else lr
        folder = None if out is None else Path(out) / name
        runs[name] = train(model, part, **options, lr=rate, out=folder, callbacks=[reached])
        if len(runs) == 1:
            wanted = float((runs[name].metrics or {})["val"]["accuracy"])
    return runs


def _part(data: Dataset, samples: int, seed: int) -> Dataset:
    """The data set with fewer training samples, drawn once."""
    if data.val is None:
        raise DataError("equal", "expected data with a validation split, got none; set val_fraction")
    rows = random.permutation(random.key(seed, "equal"), len(data.train))[:samples]
    chosen = (data.train.inputs[rows], data.train.targets[rows])
    val = (data.val.inputs, data.val.targets)
    return from_arrays(chosen, val=val, classes=data.classes, kind=data.kind, name=data.name)
