"""Numbers that compare outputs with targets. Pure functions of arrays, in float64.

Logits are N,C; targets integers (N,) in [0, C). Sources: Guo et al. 2017, "On calibration of modern neural networks"
(expected calibration error, temperature scaling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "accuracy",
    "calibration_bins",
    "calibration_error",
    "confusion_matrix",
    "cross_entropy",
    "fit_temperature",
    "log_softmax",
    "mean_interval",
    "per_class",
    "regression_errors",
    "share_interval",
    "softmax",
]

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 10.0
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131)
"""Quantiles of Student's t at 97.5 %, for 1, 2, ... degrees of freedom; beyond them 1.96 + 2.4 / degrees is near."""


def sigmoid(logits: Array) -> Array:
    """``1 / (1 + exp(-x))`` in the dtype of the logits, without overflow."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits < 0, small, 1) / (1 + small))


def log_softmax(logits: Array) -> F64:
    """``x - max(x) - log sum exp(x - max(x))`` over the last axis."""
    with np.errstate(invalid="ignore"):  # infinite logits give numbers that are not finite, said by who reads them
        shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        result: F64 = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def softmax(logits: Array) -> F64:
    """Probabilities over the last axis."""
    result: F64 = np.exp(log_softmax(logits))
    return result


def cross_entropy(logits: Array, targets: Array) -> float:
    """Mean of ``-log softmax(logits)[target]``."""
    return float(-log_softmax(logits)[np.arange(len(targets)), targets].mean())


def accuracy(logits: Array, targets: Array, k: int = 1) -> float:
    """Share of samples whose target is among the k highest logits; of equal logits the first counts as higher.

    A logit that is not a number counts as higher than every other, so that broken outputs never look right.
    """
    rows = np.arange(len(targets))
    own = logits[rows, targets][:, None]
    before = np.arange(logits.shape[1]) < np.asarray(targets)[:, None]
    ahead = ~(logits <= own) | ((logits == own) & before)
    ahead[rows, targets] = ~np.isfinite(own[:, 0])
    return float((ahead.sum(axis=1) < k).mean())


def confusion_matrix(labels: Array, targets: Array, num_classes: int) -> npt.NDArray[np.int64]:
    """Counts by (target, label): rows are the truth, columns what was predicted."""
    flat = np.asarray(targets, np.int64) * num_classes + np.asarray(labels, np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def per_class(confusion: Array) -> dict[str, F64]:
    """Arrays ``precision``, ``recall``, ``f1`` and ``support`` (samples of the class); 0 where a ratio is 0 / 0."""
    hits = np.diag(confusion).astype(np.float64)
    support, predicted = confusion.sum(axis=1).astype(np.float64), confusion.sum(axis=0).astype(np.float64)

    def ratio(above: F64, below: F64) -> F64:
        return np.divide(above, below, out=np.zeros_like(above), where=below > 0)

    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, support),
        "f1": ratio(2 * hits, support + predicted),
        "support": support,
    }


def calibration_bins(probabilities: Array, targets: Array, bins: int = 15) -> list[dict[str, float]]:
    """The reliability diagram: for each of ``bins`` equal-width bins of confidence ((m - 1) / M, m / M] its count,
    mean confidence and accuracy (Guo et al. 2017, section 2)."""
    confidence = np.nan_to_num(probabilities.max(axis=1))
    correct = probabilities.argmax(axis=1) == targets
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    share = np.maximum(count, 1)
    mean_confidence = np.bincount(index, confidence, bins) / share
    mean_correct = np.bincount(index, correct, bins) / share
    rows = zip(count.tolist(), mean_confidence.tolist(), mean_correct.tolist(), strict=True)
    return [{"count": n, "confidence": c, "accuracy": a} for n, c, a in rows]


def calibration_error(probabilities: Array, targets: Array, bins: int = 15) -> float:
    """Expected calibration error, ``sum_m (|B_m| / n) |accuracy(B_m) - confidence(B_m)|`` (Guo et al. 2017, eq. 3)."""
    rows = calibration_bins(probabilities, targets, bins)
    return sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / len(targets)


def fit_temperature(logits: Array, targets: Array, steps: int = 60) -> float:
    """The temperature T that minimises the mean cross-entropy of ``logits / T``, within 0.25 to 10.

    The loss is convex in ``b = 1 / T``: its slope is ``mean(E[z] - z_target)`` and its curvature ``mean(Var[z])``, both
    under softmax(b z). Newton's steps are kept inside an interval that the sign of the slope shrinks, so they cannot
    run away where the curvature vanishes. A split without a mistake would ask for T = 0; the limit keeps such a model
    from claiming certainty. Source: Guo et al. 2017, section 4.2.
    """
    z = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    own = z[np.arange(len(targets)), targets]

    def derivatives(b: float) -> tuple[float, float]:
        p = softmax(b * z)
        mean = (p * z).sum(axis=1)
        return float((mean - own).mean()), float(((p * z**2).sum(axis=1) - mean**2).mean())

    low, high, b = 1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE, 1.0
    if derivatives(high)[0] <= 0:
        return MIN_TEMPERATURE
    if derivatives(low)[0] >= 0:
        return MAX_TEMPERATURE
    for _ in range(steps):
        slope, curvature = derivatives(b)
        low, high = (b, high) if slope < 0 else (low, b)
        newton = b - slope / curvature if curvature > 0 else np.inf
        step = newton if low < newton < high else (low * high) ** 0.5
        if abs(step - b) <= 1e-10 * b:
            break
        b = step
    return 1.0 / b


def regression_errors(values: Array, targets: Array) -> dict[str, float]:
    """For N,V: ``mae`` mean |v - t|, ``rmse`` sqrt(mean (v - t)^2), ``r2`` 1 - sum (v - t)^2 / sum (t - mean t)^2.

    The mean of t is taken for each of the V values; r2 is 0 when the targets do not vary.
    """
    error = values.astype(np.float64) - targets
    spread = float(((targets - targets.mean(axis=0, dtype=np.float64)) ** 2).sum())
    squares = float((error**2).sum())
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1.0 - squares / spread if spread > 0 else 0.0,
    }


def share_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of which ``right`` of ``count`` samples were seen.

    Wilson's, ``(p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)``: it stays within 0 to 1 and is honest for
    few samples and shares near 1. Source: Wilson 1927, "Probable inference, the law of succession".
    """
    z, share = 1.959964, right / count
    centre, width = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low, high = ((centre + sign * width) / (1 + z * z / count) for sign in (-1, 1))
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # rounding must not put the share outside


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of two values or more and its 95 % interval, ``mean -+ t s / sqrt(n)`` with Student's t of n - 1
    degrees of freedom (Student 1908)."""
    numbers = np.asarray(values, np.float64)
    degrees = len(numbers) - 1
    t = _STUDENT[degrees - 1] if degrees <= len(_STUDENT) else 1.96 + 2.4 / degrees
    mean = float(numbers.mean())
    width = t * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return mean, mean - width, mean + width


def class_names(classes: Sequence[str] | None, count: int) -> list[str]:
    """The names of ``count`` classes: their numbers where there are none."""
    return list(classes) if classes and len(classes) == count else [str(index) for index in range(count)]
