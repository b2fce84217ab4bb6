"""Regression: one or more values for each input, from outputs N,V."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fovea.errors import ConfigError, ShapeError
from fovea.ops.base import Op, Shape, is_number
from fovea.ops.loss import MeanSquaredError, SmoothL1
from fovea.tasks import metrics
from fovea.tasks.base import Array, Prediction, Task, check_outputs

__all__ = ["Regression", "ValuePrediction"]

LOSSES = ("mse", "smooth_l1")


@dataclass(frozen=True)
class ValuePrediction(Prediction):
    """The predicted values in the units of the data set; ``value`` is the first of them."""

    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """The first value: the one there is for a CSV of path,value."""
        return self.values[0]

    def to_dict(self) -> dict[str, Any]:
        """``{"value": v}``, or ``{"values": [...]}`` when there are several."""
        return {"value": self.value} if len(self.values) == 1 else {"values": list(self.values)}

    def __str__(self) -> str:
        return "  ".join(f"{value:.6g}" for value in self.values)


@dataclass(frozen=True)
class Regression(Task):
    """Values from outputs: ``value = mean + std * output``. The network learns standardised targets.

    ``loss_kind``: "mse" (mean squared error) or "smooth_l1" (Girshick 2015; less moved by outliers), both of
    standardised values.
    """

    primary: ClassVar[tuple[str, bool]] = ("rmse", False)
    averaged: ClassVar[str] = "mae"
    mean: float = 0.0
    std: float = 1.0
    loss_kind: str = "mse"

    def __post_init__(self) -> None:
        if not is_number(self.mean) or not is_number(self.std) or self.std <= 0:
            raise ConfigError(
                "task", f"expected a mean and a std above 0, got {self.mean!r}, {self.std!r}; 0 and 1 are neutral"
            )
        if self.loss_kind not in LOSSES:
            raise ConfigError(
                "task", f"expected loss_kind as {' or '.join(LOSSES)}, got {self.loss_kind!r}; choose one"
            )

    def loss(
        self, outputs: Sequence[Shape] = (), *, label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None, soft_targets: bool = False,
    ) -> Op:  # fmt: skip
        """Mean squared error or smooth L1. Options of classification raise ConfigError."""
        given = {"label_smoothing": label_smoothing, "class_weights": class_weights, "mix": soft_targets}
        for name, value in given.items():
            if value:
                raise ConfigError(
                    name, f"expected no {name} for regression, got {value!r}; it belongs to classification"
                )
        return MeanSquaredError() if self.loss_kind == "mse" else SmoothL1()

    def fit(self, targets: Array) -> Task:
        """Mean and standard deviation of the targets (std 1 when they do not vary)."""
        values = _values(targets)
        std = float(values.std())
        return replace(self, mean=float(values.mean()), std=std if std > 0 else 1.0)

    def encode(self, targets: Array) -> Array:
        """``(target - mean) / std`` as float32 N,V."""
        return ((_values(targets) - self.mean) / self.std).astype(np.float32)

    def average(self, outputs: Sequence[Array]) -> Array:
        """The mean of the values."""
        return np.asarray(np.mean(outputs, axis=0))

    def decode(self, outputs: Array, *, classes: Sequence[str] | None = None, top_k: int = 5) -> list[Prediction]:
        """Outputs N,V -> a ValuePrediction for each row."""
        return [ValuePrediction(tuple(float(value) for value in row)) for row in self._in_units(outputs)]

    def metrics(
        self, outputs: Array, targets: Array, *, classes: Sequence[str] | None = None, detail: bool = False
    ) -> dict[str, Any]:
        """``loss`` (of standardised values), ``mae`` and ``rmse`` in the data set's units, ``r2``."""
        array = check_outputs(self.kind, outputs, targets)
        values = _values(targets)
        if values.shape != array.shape:
            expected, got = f"targets of shape {array.shape}", values.shape
            raise ShapeError(self.kind, f"expected {expected}, got {got}; use the data the model was made for")
        error = np.abs(array - (values - self.mean) / self.std)
        if self.loss_kind == "smooth_l1":
            error = np.where(error < 1, error**2 / 2, error - 0.5)
        else:
            error = error**2
        return {"loss": float(error.mean()), **metrics.regression_errors(self._in_units(array), values)}

    def batch_metric(self, outputs: Any, targets: Array) -> float:
        """Mean absolute error in the data set's units."""
        return float(np.abs(self._in_units(outputs) - _values(targets)).mean())

    def _in_units(self, outputs: Array) -> Array:
        return check_outputs(self.kind, outputs).astype(np.float64) * self.std + self.mean


def _values(targets: Array) -> Array:
    """Targets as float64 N,V."""
    array = np.asarray(targets, np.float64)
    return array[:, None] if array.ndim == 1 else array
