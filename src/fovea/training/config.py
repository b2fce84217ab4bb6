"""TrainConfig: everything that decides what a training computes, as one frozen, JSON-able record."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fovea.engines.spec import BATCH_NORM
from fovea.errors import ConfigError
from fovea.ops.base import is_number
from fovea.ops.optimizer import SGD, AdamW, Optimizer, optimizer_from_dict
from fovea.training.schedule import SCHEDULES, Schedule, schedule_from_dict
from fovea.training.stages import stages_of

__all__ = ["TrainConfig", "checked_names", "read_options"]

_OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(momentum=0.9, nesterov=True, weight_decay=5e-4),
    "adamw": AdamW(weight_decay=0.01),
}


@dataclass(frozen=True)
class TrainConfig:
    """The options of ``fovea.train``, checked, in canonical form.

    Words become records: ``optimizer`` an Optimizer (weight_decay, clip_norm and ema go into it), ``schedule`` a
    Schedule (warmup_epochs goes into it), ``augment`` a text or a dict, ``mix`` None or a dict. ``batch_size`` and
    ``lr`` None are resolved when data and network are known. Raises ConfigError in one line.
    """

    epochs: int = 10
    batch_size: int | None = None
    lr: float | None = None
    optimizer: Any = "sgd"
    schedule: Any = "onecycle"
    warmup_epochs: float | None = None
    weight_decay: float | None = None
    label_smoothing: float = 0.0
    class_weights: Any = None
    augment: Any = "standard"
    mix: Any = None
    ema: float | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    patience: int | None = None
    keep_start: bool = False
    trainable: tuple[str, ...] | None = None
    unfreeze: Any = ()
    anchor: float = 0.0
    batch_norm: str = "frozen"
    precision: str = "fp32"
    engine: str | None = None
    device: str | None = None
    compiled: bool = False
    sync_batchnorm: bool = False
    seed: int = 0
    workers: int = 1
    threads: int | None = None
    checkpoint_every: int | None = None
    log_every: int = 50
    log_to: str | None = None

    def __post_init__(self) -> None:
        for name in ("keep_start", "compiled", "sync_batchnorm"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(name, f"expected True or False, got {getattr(self, name)!r}; choose one of them")
        least = 0 if self.keep_start else 1  # no epoch at all gives the weights that it starts with
        for name, low in (("epochs", least), ("accumulate", 1), ("workers", 0), ("log_every", 1)):
            self._integer(name, low)
        self._integer("seed", 0, 2**63)
        for name in ("batch_size", "patience", "threads", "checkpoint_every"):
            if getattr(self, name) is not None:
                self._integer(name, 1)
        self._number("lr", 0.0, 1e6, above=True)
        self._number("label_smoothing", 0.0, 0.999)
        self._number("weight_decay", 0.0, 1e6)
        self._number("clip_norm", 0.0, 1e12, above=True)
        self._number("ema", 0.0, 0.9999999)
        self._number("anchor", 0.0, 1e6)
        if self.batch_size is not None and self.accumulate > self.batch_size:
            raise ConfigError(
                "accumulate", f"expected at most batch_size={self.batch_size} pieces, got {self.accumulate}; lower it"
            )
        if self.precision not in ("fp32", "tf32", "bf16"):
            fix = "choose one of them (tf32 is the torch engine's)"
            raise ConfigError("precision", f"expected fp32, tf32 or bf16, got {self.precision!r}; {fix}")
        if self.batch_norm not in BATCH_NORM:
            known = " or ".join(BATCH_NORM)
            raise ConfigError("batch_norm", f"expected {known}, got {self.batch_norm!r}; choose one of them")
        if self.engine is not None and not isinstance(self.engine, str):
            raise ConfigError(
                "engine", f"expected the name of an engine, got {self.engine!r}; leave it out for the best"
            )
        if self.log_to not in (None, "tensorboard"):
            raise ConfigError("log_to", f"expected tensorboard, got {self.log_to!r}; leave it out for log.jsonl alone")
        if self.device is not None and not isinstance(self.device, str):
            raise ConfigError("device", f"expected cpu, cuda or cuda:1, got {self.device!r}; leave it out for the CPU")
        self._set(
            trainable=_patterns(self.trainable), unfreeze=stages_of(self.unfreeze), mix=_mix(self.mix),
            class_weights=_class_weights(self.class_weights), augment=_augment(self.augment),
            optimizer=self._optimizer(), schedule=self._schedule(),
        )  # fmt: skip
        self._set(
            weight_decay=self.optimizer.weight_decay, clip_norm=self.optimizer.clip_norm, ema=self.optimizer.ema_decay
        )

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _integer(self, name: str, low: int, high: int = 1 << 31) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < high:
            raise ConfigError(
                name, f"expected an integer of at least {low}, got {value!r}; give for example {name}={low}"
            )

    def _number(self, name: str, low: float, high: float, above: bool = False) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if not is_number(value) or not low <= value <= high or (above and value == low):
            text = f"above {low:g}" if above else f"of at least {low:g}"
            raise ConfigError(name, f"expected a number {text} and at most {high:g}, got {value!r}; choose one")
        self._set(**{name: float(value)})

    def _optimizer(self) -> Optimizer:
        given = self.optimizer
        if isinstance(given, str):
            if given not in _OPTIMIZERS:
                known = ", ".join(_OPTIMIZERS)
                raise ConfigError("optimizer", f"expected one of {known}, got {given!r}; choose one of them")
            given = _OPTIMIZERS[given]
        elif isinstance(given, Mapping):
            given = optimizer_from_dict(given)
        if not isinstance(given, Optimizer):
            raise ConfigError("optimizer", f"expected a name or an Optimizer, got {given!r}; give for example 'sgd'")
        own: dict[str, Any] = {"weight_decay": self.weight_decay, "clip_norm": self.clip_norm, "ema_decay": self.ema}
        return dataclasses.replace(given, **{name: value for name, value in own.items() if value is not None})

    def _schedule(self) -> Schedule:
        given = self.schedule
        if isinstance(given, str):
            given = schedule_from_dict({"kind": given})
        elif isinstance(given, Mapping):
            given = schedule_from_dict(given)
        if not isinstance(given, Schedule):
            known = ", ".join(SCHEDULES)
            raise ConfigError(
                "schedule", f"expected one of {known} or a Schedule, got {given!r}; give for example 'cosine'"
            )
        if self.warmup_epochs is None:
            return given
        self._number("warmup_epochs", 0.0, float(self.epochs))
        return dataclasses.replace(given, warmup=self.warmup_epochs / max(1, self.epochs))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able fields; ``from_dict`` gives an equal record."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["optimizer"] = self.optimizer.to_dict()
        fields["schedule"] = self.schedule.to_dict()
        plain: dict[str, Any] = json.loads(json.dumps(fields))  # tuples become lists, as a file gives them back
        return plain

    def recipe(self) -> dict[str, Any]:
        """The fields that decide the numbers: a model file does not depend on workers, threads or logging."""
        machine = ("engine", "device", "compiled", "workers", "threads", "checkpoint_every", "log_every", "log_to")
        return {name: value for name, value in self.to_dict().items() if name not in machine}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainConfig:
        """The record that ``to_dict`` described. Raises ConfigError for unknown names and bad values."""
        return cls(**checked_names("config", fields))


def checked_names(where: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, if all of them are options of training. Raises ConfigError with the nearest names."""
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 3) or known
            raise ConfigError(where, f"expected an option of training, got {name!r}; near names: {', '.join(near)}")
    return dict(fields)


def read_options(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options in a TOML or JSON file, their names checked. Raises ConfigError.

    TOML needs Python 3.11 or newer, which reads it by itself.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".toml":
            if sys.version_info < (3, 11):
                raise ConfigError(str(path), "expected a JSON file with this Python; TOML needs Python 3.11 or newer")
            fields = importlib.import_module("tomllib").loads(text)
        else:
            fields = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # both parsers raise kinds of ValueError
        raise ConfigError(str(path), f"expected a readable TOML or JSON file, got: {error}; correct it") from None
    if not isinstance(fields, dict):
        raise ConfigError(str(path), f"expected options by name, got a {type(fields).__name__}; see fovea train --help")
    return checked_names(str(path), fields)


def _patterns(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            "trainable", f"expected parameter paths or patterns, got {given!r}; give for example ['head']"
        )
    return tuple(names)


def _class_weights(given: Any) -> Any:
    given = given.tolist() if isinstance(given, np.ndarray) else given
    if given is None or given == "balanced":
        return given
    if not isinstance(given, (list, tuple)) or not all(is_number(weight) and weight >= 0 for weight in given):
        raise ConfigError("class_weights", f"expected 'balanced' or one number a class, got {given!r}; give a list")
    return tuple(float(weight) for weight in given)


def _augment(given: Any) -> Any:
    if given is None:
        return "none"
    if isinstance(given, (str, Mapping)):
        return given
    if not hasattr(given, "to_dict"):
        raise ConfigError("augment", f"expected names, an Augment or a Scene, got {given!r}; try 'standard'")
    return given.to_dict()


def _mix(given: Any) -> dict[str, Any] | None:
    if given is None or given == "none":
        return None
    if isinstance(given, str):
        given = {"kind": given}
    elif dataclasses.is_dataclass(given) and not isinstance(given, type):
        given = {"kind": type(given).__name__.lower(), **dataclasses.asdict(given)}
    if not isinstance(given, Mapping) or given.get("kind") not in ("mixup", "cutmix"):
        raise ConfigError(
            "mix", f"expected mixup, cutmix, MixUp(...) or CutMix(...), got {given!r}; choose one of them"
        )
    return dict(given)
