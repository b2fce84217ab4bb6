"""Run: the folder that one training leaves. Training writes it, this module reads it and names its files."""

from __future__ import annotations

import json
import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from fovea.errors import ConfigError
from fovea.model import MODEL_FILE, Model, load

__all__ = [
    "BEST_FILE",
    "CHECKPOINTS",
    "CONFIG_FILE",
    "EVALUATION_FILE",
    "LAST_FILE",
    "LOG_FILE",
    "METRICS_FILE",
    "MODEL_FILE",
    "REPORT_FILE",
    "SHOTS_FILE",
    "Run",
    "runs",
]

CONFIG_FILE = "config.json"
"""Written when everything that resuming needs is there: a folder with it is a run."""
LOG_FILE = "log.jsonl"
METRICS_FILE = "metrics.json"
"""Written last: a run with it is finished."""
EVALUATION_FILE = "evaluation.json"
REPORT_FILE = "report.html"
SHOTS_FILE = "shots.json"
"""Of a fine-tuning: accuracy by images a class."""
CHECKPOINTS = "checkpoints"
LAST_FILE = "last.safetensors"
BEST_FILE = "best.safetensors"


class Run:
    """A run folder, finished or not. Everything is read when it is asked for.

    >>> run = fovea.Run("runs/digits")                     # doctest: +SKIP
    >>> run.metrics["val"]["accuracy"], run.history("val_loss"), run.model   # doctest: +SKIP

    Raises ConfigError when the folder holds no run, or one of its files is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not self.is_run(path):
            raise ConfigError(
                str(path), f"expected a run folder (one that holds {CONFIG_FILE}), found none; see runs/ or train first"
            )
        self.path = Path(path)

    @staticmethod
    def is_run(path: str | os.PathLike[str]) -> bool:
        """Whether a folder holds a run."""
        return isinstance(path, (str, os.PathLike)) and (Path(path) / CONFIG_FILE).is_file()

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """How the run was started: "train" (the options), "data", "model", "engine", "fovea", "started", "record"."""
        return self._read(CONFIG_FILE)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every line of the log, oldest first. A last line that is still being written is left out."""
        path = self.path / LOG_FILE
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise ConfigError(
                str(path), f"expected one JSON object a line, got: {error}; the file was edited"
            ) from None

    def history(self, metric: str, event: str = "epoch") -> list[float]:
        """The values of one metric in order, nan where it was not finite: per epoch, or per logged ``event="step"``."""
        values = [line[metric] for line in self.log if line.get("event") == event and metric in line]
        return [math.nan if value is None else value for value in values]

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return (self.path / METRICS_FILE).is_file()

    @property
    def metrics(self) -> dict[str, Any] | None:
        """What training ended with: "val" (metrics of the chosen weights), "best_epoch", ...; None before the end."""
        return self._read(METRICS_FILE) if self.finished else None

    @property
    def evaluation(self) -> dict[str, Any]:
        """Results that ``fovea.evaluate`` kept here, by split."""
        return self._read(EVALUATION_FILE) if (self.path / EVALUATION_FILE).is_file() else {}

    @property
    def shots(self) -> dict[str, Any]:
        """What ``fovea.training.shot_curves`` measured for this run: accuracy by images a class; empty without."""
        return self._read(SHOTS_FILE) if (self.path / SHOTS_FILE).is_file() else {}

    @property
    def report_path(self) -> Path:
        """Where the report of this run is, or will be."""
        return self.path / REPORT_FILE

    @cached_property
    def model(self) -> Model:
        """The model file: final when the run is finished, else the best weights so far."""
        return load(self.path)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(str(path), f"expected a JSON file, got: {error}; the run is damaged") from None
        if not isinstance(value, dict):
            raise ConfigError(str(path), f"expected a JSON object, got a {type(value).__name__}; the run is damaged")
        return value

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {'finished' if self.finished else 'unfinished'})"


def runs(folder: str | os.PathLike[str] = "runs") -> list[Run]:
    """The runs directly below a folder, the newest first."""
    root = Path(folder)
    found = [Run(path) for path in root.iterdir() if Run.is_run(path)] if root.is_dir() else []
    return sorted(found, key=lambda run: (str(run.config.get("started", "")), run.name), reverse=True)
