"""Classification: one of C classes for each input, from logits N,C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fovea.errors import ConfigError, ShapeError
from fovea.ops.base import Op, Shape, is_number
from fovea.ops.loss import SoftmaxCrossEntropy
from fovea.tasks import metrics, selective
from fovea.tasks.base import Array, Prediction, Task, check_outputs

__all__ = ["ClassPrediction", "Classification"]


UNSURE = "unsure"
"""The label of a sample that is not answered."""


@dataclass(frozen=True)
class ClassPrediction(Prediction):
    """The most probable class, and the ``top`` classes with their probabilities, the highest first.

    Where the model ``abstained``, being less sure than its task demands, the label is "unsure"; ``top`` still says what
    it was unsure between.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    abstained: bool = False

    def to_dict(self) -> dict[str, Any]:
        """``{"label", "probability", "abstained", "top": [{"label", "probability"}, ...]}``."""
        top = [{"label": label, "probability": probability} for label, probability in self.top]
        return {"label": self.label, "probability": self.probability, "abstained": self.abstained, "top": top}

    def __str__(self) -> str:
        named = "  ".join(f"{label} {probability:.1%}" for label, probability in self.top)
        return f"{UNSURE} ({named})" if self.abstained else named


@dataclass(frozen=True)
class Classification(Task):
    """Softmax classification. ``temperature`` divides the logits wherever probabilities are read (Guo et al. 2017).

    ``min_confidence``: below this probability of the best class a sample is not answered (``fovea.tasks.selective``).
    """

    primary: ClassVar[tuple[str, bool]] = ("accuracy", True)
    averaged: ClassVar[str] = "accuracy"
    one_class_each: ClassVar[bool] = True
    temperature: float = 1.0
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not is_number(self.temperature) or not 1e-6 <= self.temperature <= 1e6:
            raise ConfigError(
                "task", f"expected temperature as a number above 0, got {self.temperature!r}; 1.0 is neutral"
            )
        if not is_number(self.min_confidence) or not 0 <= self.min_confidence <= 1:
            raise ConfigError(
                "min_confidence", f"expected a probability from 0 to 1, got {self.min_confidence!r}; 0 answers all"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields with the kind; older versions read those of a task that answers everything."""
        fields = super().to_dict()
        return fields if self.min_confidence else {k: v for k, v in fields.items() if k != "min_confidence"}

    def loss(
        self, outputs: Sequence[Shape] = (), *, label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None, soft_targets: bool = False,
    ) -> Op:  # fmt: skip
        """Softmax cross-entropy of integer targets (N,), or of probabilities (N, C) with ``soft_targets``."""
        weights = None if class_weights is None else tuple(class_weights)
        return SoftmaxCrossEntropy(label_smoothing=label_smoothing, class_weights=weights, soft_targets=soft_targets)

    def check_classes(self, names: Sequence[str], outputs: Sequence[Shape]) -> None:
        """One name for each of the C logits."""
        shape = outputs[0]
        if not shape or shape[-1] != len(names):
            raise ConfigError(
                "model",
                f"expected {shape[-1] if shape else 1} class names for output {('N', *shape)}, got "
                f"{len(names)}; end the network with Dense({len(names)})",
            )

    def calibrate(self, outputs: Array, targets: Array) -> Task:
        """The temperature that minimises the cross-entropy of these logits."""
        logits = _checked(outputs, targets)
        if not np.isfinite(logits).all():
            return self
        return replace(self, temperature=metrics.fit_temperature(logits, targets))

    def average(self, outputs: Sequence[Array]) -> Array:
        """Logits whose probabilities are the mean of the probabilities: ``T log(mean_v softmax(z_v / T))``."""
        mean = np.mean([metrics.softmax(logits / self.temperature) for logits in outputs], axis=0)
        return np.asarray(self.temperature * np.log(np.maximum(mean, np.finfo(np.float64).tiny)))

    def abstaining(self, min_confidence: float) -> Task:
        """This task with another ``min_confidence``; 0 answers everything."""
        return replace(self, min_confidence=min_confidence)

    def decode(self, outputs: Array, *, classes: Sequence[str] | None = None, top_k: int = 5) -> list[Prediction]:
        """Logits N,C -> a ClassPrediction for each row; classes without names are called by their number.

        Maps N,*positions,C of a fully convolutional network, told from other maps by having a name for each channel,
        give the mean of the probabilities over all positions (Sermanet et al. 2014, "OverFeat", section 3.3).
        """
        maps = np.asarray(outputs)
        named = maps.ndim > 2 and classes is not None and len(classes) == maps.shape[-1]
        logits = check_outputs(self.kind, maps.reshape(-1, maps.shape[-1]) if named else maps)
        names = metrics.class_names(classes, logits.shape[1])
        probabilities = metrics.softmax(logits / self.temperature)
        if maps.ndim > 2:
            probabilities = probabilities.reshape(len(maps), -1, logits.shape[1]).mean(1)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(1, top_k)]
        found: list[Prediction] = []
        for row, best in zip(probabilities, order, strict=True):
            top = tuple((names[index], float(row[index])) for index in best)
            unsure = top[0][1] < self.min_confidence
            found.append(ClassPrediction(UNSURE if unsure else top[0][0], top[0][1], top, unsure))
        return found

    def metrics(
        self, outputs: Array, targets: Array, *, classes: Sequence[str] | None = None, detail: bool = False
    ) -> dict[str, Any]:
        """``loss`` (plain cross-entropy of the raw logits), ``accuracy``, ``top5``.

        In detail also ``per_class`` (name -> precision, recall, f1, support), ``confusion`` (rows are the truth),
        ``ece`` (15 bins, with the temperature), ``ece_uncalibrated``, ``reliability`` (the bins), ``temperature``,
        ``selective`` (what abstaining buys), and with a ``min_confidence`` ``answered`` (coverage, and accuracy of the
        answers).
        """
        logits = _checked(outputs, targets)
        result: dict[str, Any] = {
            "loss": metrics.cross_entropy(logits, targets),
            "accuracy": metrics.accuracy(logits, targets),
            "top5": metrics.accuracy(logits, targets, 5),
        }
        if not detail:
            return result
        count = logits.shape[1]
        confusion = metrics.confusion_matrix(logits.argmax(axis=1), targets, count)
        columns = metrics.per_class(confusion)
        calibrated = metrics.softmax(logits / self.temperature)
        if self.min_confidence:
            correct = calibrated.argmax(axis=1) == targets
            result["answered"] = selective.answered(calibrated.max(axis=1), correct, self.min_confidence)
        return {
            **result,
            "per_class": {
                name: {column: values[index].item() for column, values in columns.items()}
                for index, name in enumerate(metrics.class_names(classes, count))
            },
            "confusion": confusion.tolist(),
            "ece": metrics.calibration_error(calibrated, targets),
            "ece_uncalibrated": metrics.calibration_error(metrics.softmax(logits), targets),
            "reliability": metrics.calibration_bins(calibrated, targets),
            "temperature": self.temperature,
            "selective": selective.selective(calibrated, targets),
        }

    def batch_metric(self, outputs: Any, targets: Array) -> float:
        """Accuracy."""
        return float((outputs.argmax(axis=1) == targets).mean())


def _checked(outputs: Array, targets: Array) -> Array:
    logits = check_outputs("classification", outputs, targets)
    if targets.dtype.kind not in "iu" or targets.ndim != 1 or targets.min() < 0 or targets.max() >= logits.shape[1]:
        got = (
            f"{targets.dtype} {targets.shape}"
            if targets.dtype.kind not in "iu"
            else f"{targets.min()} to {targets.max()}"
        )
        expected = f"class numbers 0 to {logits.shape[1] - 1} in an integer array (N,)"
        raise ShapeError(
            "classification", f"expected targets as {expected}, got {got}; use the data the model was made for"
        )
    return logits
