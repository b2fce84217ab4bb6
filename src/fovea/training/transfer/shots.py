"""k-shot curves: how accuracy grows with the number of images a class, for a probe, fine-tuning, and from scratch."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import progress
from fovea.data.dataset import Dataset
from fovea.data.select import few_of_each, with_splits
from fovea.errors import ConfigError
from fovea.features import Probe, codes, linear_probe
from fovea.model import Model
from fovea.ops.base import is_number
from fovea.run import Run
from fovea.tasks.metrics import accuracy, mean_interval, share_interval
from fovea.training.start import train
from fovea.training.transfer.head import fresh, put_into_head, replace_head
from fovea.training.transfer.plan import Plan
from fovea.training.transfer.recipe import EPOCHS, UPDATES, checked_options, config_for, enough_epochs
from fovea.training.transfer.source import fitting_data, open_source

__all__ = ["BUDGET", "METHODS", "SHOTS", "shot_curves"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
SHOTS: tuple[int | None, ...] = (1, 2, 5, 10, 20, None)
METHODS = ("probe", "finetune", "scratch")
BUDGET = 600.0
"""Seconds that fine-tuning and training from scratch may take together."""
_LEAST = {"finetune": (EPOCHS[0], UPDATES), "scratch": (20, 300)}
"""Epochs, and updates at least, however few the images."""
_BATCH = 16


def shot_curves(
    data: Dataset | str | os.PathLike[str],
    source: Model | Run | str | os.PathLike[str],
    *,
    shots: Sequence[int | None] = SHOTS,
    methods: Sequence[str] = METHODS,
    seeds: int = 3,
    budget: float = BUDGET,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Validation accuracy with 1, 2, 5, ... images of each class (None: all), for each method; JSON-able.

    Each of ``seeds`` draws takes images of its own, nested over the counts, and the same ones for every method. Codes
    of all images are computed once. Nothing is chosen on the validation split: what is trained keeps its last weights
    (at least 40 updates of fine-tuning, 300 from scratch; other ``options`` as in ``finetune``). Points of "finetune"
    and "scratch" are computed from few images to many until ``budget`` seconds would be exceeded; the result says which
    are missing.

    Each point has ``mean``, ``low`` and ``high``: the 95 % interval of the mean over draws (Student's t), or where
    there is one value, that of a share of the validation images (Wilson). Raises as ``finetune`` does.

    >>> found = fovea.training.shot_curves("photos/", "mobilenetv2", methods=["probe"])  # doctest: +SKIP
    >>> [(point["shots"], point["mean"]) for point in found["methods"]["probe"]]  # doctest: +SKIP
    """
    counts = _checked(shots, methods, seeds, budget)
    checked_options(options, seed)
    model = open_source(source)
    ready = fitting_data(data, model)
    assert ready.val is not None
    most = int(ready.train.class_counts().max())
    counts = tuple(count for count in counts if count is None or count < most)
    study = _Study(model, ready, seed, options)
    trains = any(method != "probe" for method in methods)
    clock = _Clock(budget, study.pace() if trains else 0.0)
    curves: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS if method in methods}
    left_out: dict[str, list[str]] = {}
    total = len(counts) * len(curves)
    with progress.bar(total, "shots", unit="points") as bar:
        for count in counts:
            draws = [study.rows(count, number) for number in range(1 if count is None else seeds)]
            for method, curve in curves.items():
                values = [v for number, rows in enumerate(draws) if (v := clock.run(study, method, rows, number)) >= 0]
                name = "all" if count is None else count
                if values:
                    curve.append(_point(name, draws, values, len(ready.val)))
                if len(values) < len(draws):
                    some = f" ({len(values)} of {len(draws)} draws are there)" if values else ""
                    left_out.setdefault(method, []).append(f"{name}{some}")
                bar.update(1)
    return {
        "model": model.name, "data": ready.name, "validation": len(ready.val), "seeds": seeds, "seed": seed,
        "budget": budget, "seconds": clock.seconds, "left_out": left_out, "methods": curves,
    }  # fmt: skip


def _checked(shots: Sequence[int | None], methods: Sequence[str], seeds: int, budget: float) -> tuple[int | None, ...]:
    wrong = [one for one in shots if one is not None and (isinstance(one, bool) or not isinstance(one, int) or one < 1)]
    if wrong or not len(shots):
        raise ConfigError("shots", f"expected numbers of images a class (None: all), got {list(shots)}; give [1, 10]")
    unknown = [one for one in methods if one not in METHODS]
    if unknown or not len(methods):
        raise ConfigError("shots", f"expected methods among {', '.join(METHODS)}, got {list(methods)}; choose some")
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise ConfigError("shots", f"expected seeds as an integer of at least 1, got {seeds!r}; 3 is usual")
    if not is_number(budget) or budget < 0:
        raise ConfigError("shots", f"expected the budget in seconds, got {budget!r}; {BUDGET:g} is usual")
    return tuple(sorted({one for one in shots if one is not None})) + ((None,) if None in shots else ())


class _Study:
    """One network and data set: its codes, and what each method makes of some rows of train."""

    def __init__(self, model: Model, data: Dataset, seed: int, options: Mapping[str, Any]) -> None:
        assert data.val is not None
        self.model, self.data, self.seed, self.options = model, data, seed, options
        engine = options.get("engine")
        self.train_codes = codes(model, data.train, engine=engine).array
        self.val_codes = codes(model, data.val, engine=engine).array

    def pace(self) -> float:
        """Seconds that one image takes in training, about: backward is twice forward."""
        assert self.data.val is not None
        some = self.data.val.inputs[:_BATCH]
        self.model.logits(some)
        begin = time.perf_counter()
        self.model.logits(some)
        return 3.0 * (time.perf_counter() - begin) / len(some)

    def rows(self, count: int | None, number: int) -> Rows:
        """Rows of train in one draw."""
        targets = self.data.train.targets
        return np.arange(len(targets)) if count is None else few_of_each(targets, count, self.seed + number)

    def fitted(self, rows: Rows) -> Probe:
        """The linear probe of some rows."""
        return linear_probe(self.train_codes[rows], self.data.train.targets[rows], self.data.classes, seed=self.seed)

    def probe(self, rows: Rows) -> float:
        """Accuracy of the probe on the validation split."""
        assert self.data.val is not None
        return accuracy(self.fitted(rows).logits(self.val_codes), self.data.val.targets)

    def train(self, method: str, rows: Rows, number: int) -> tuple[float, int]:
        """Accuracy on the validation split after a training, and how many images that passed through the network."""
        start = replace_head(self.model, self.data.classes, seed=self.seed)
        if method == "scratch":
            return self._trained(method, fresh(start, self.seed + number), rows, number)
        probe = self.fitted(rows)
        put_into_head(start, probe.weight, probe.bias)
        return self._trained(method, start, rows, number)

    def _trained(self, method: str, start: Model, rows: Rows, number: int) -> tuple[float, int]:
        data, val = self.data, self.data.val
        assert val is not None
        few = with_splits(data, {"train": data.train.take(rows)}, drop=("val", "test"))
        batch = min(_BATCH, len(rows))
        chosen = {"batch_size": batch, **self.options, "seed": self.seed + number}
        epochs = enough_epochs(*_LEAST[method], len(rows), chosen["batch_size"])
        chosen |= {"epochs": epochs, "patience": None, "keep_start": False}
        config = config_for(Plan(method, "", "default"), start, len(rows), (), None, chosen)
        with tempfile.TemporaryDirectory() as folder:
            run = train(start, few, config=config, out=Path(folder) / "run", report=False)
            passed = int((run.metrics or {}).get("steps", 0)) * config.batch_size if config.batch_size else 0
        return accuracy(start.logits(val.inputs), val.targets), passed


class _Clock:
    """Keeps what is trained within a budget of seconds: a run that would exceed it, by the speed so far, is left out.

    Linear probes take no time worth counting.
    """

    def __init__(self, budget: float, pace: float) -> None:
        self.budget, self.seconds = budget, 0.0
        self._pace = dict.fromkeys(METHODS, pace)

    def run(self, study: _Study, method: str, rows: Rows, number: int) -> float:
        """The accuracy of one method on some rows; -1 when it is left out."""
        if method == "probe":
            return study.probe(rows)
        expected = self.seconds + self._pace[method] * _passes(method, len(rows))
        if expected > self.budget or self.seconds >= self.budget:
            return -1.0
        begin = time.perf_counter()
        value, passed = study.train(method, rows, number)
        spent = time.perf_counter() - begin
        self.seconds += spent
        self._pace[method] = spent / max(1, passed)
        return value


def _passes(method: str, images: int) -> int:
    """Images that a training passes through the network."""
    batch = min(_BATCH, images)
    return enough_epochs(*_LEAST[method], images, batch) * max(1, images // batch) * batch


def _point(name: int | str, draws: list[Rows], values: list[float], val: int) -> dict[str, Any]:
    """One point of a curve, with its interval."""
    if len(values) > 1:
        mean, low, high = mean_interval(values)
    else:
        mean = values[0]
        low, high = share_interval(round(mean * val), val)
    images = int(np.mean([len(rows) for rows in draws]))
    return {"shots": name, "images": images, "values": values, "mean": mean, "low": low, "high": high}
