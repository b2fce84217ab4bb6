"""Selective classification: answer only where the model is sure enough, and what that buys.

A classifier that answers where its probability is at least a threshold has a coverage, the share of samples that it
answers, and a selective risk, the share of wrong ones among these answers. Lowering the threshold raises both: the
risk-coverage curve (El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017, "Selective classification for deep neural
networks"). Everything here takes ``confidence`` (N,), the highest probability of each sample, and ``correct`` (N,).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["answered", "aurc", "certain_threshold", "curve", "selective", "threshold_for"]

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
TARGETS = (0.9, 0.95, 0.99, 0.999)
"""Accuracies that are asked for."""
DELTA = 0.05
"""How likely the guarantee of ``certain_threshold`` may fail."""
_PARTS = 8
_POINTS = 200


def answered(confidence: Array, correct: Array, threshold: float) -> dict[str, Any]:
    """What is answered at a threshold: ``n``, ``coverage``, and ``accuracy`` of the answers (None without any)."""
    chosen = confidence >= threshold
    n = int(chosen.sum())
    return {
        "min_confidence": threshold, "n": n, "coverage": n / len(confidence),
        "accuracy": float(correct[chosen].mean()) if n else None,
    }  # fmt: skip


def curve(confidence: Array, correct: Array) -> tuple[F64, F64, F64]:
    """Thresholds, coverages and accuracies of the answers, from the surest sample on: one point for each confidence
    that occurs, since samples of equal confidence are answered together."""
    order = np.argsort(-confidence, kind="stable")
    sure, right = confidence[order].astype(np.float64), correct[order]
    last = np.flatnonzero(np.append(sure[1:] != sure[:-1], True))
    return sure[last], (last + 1) / len(sure), np.cumsum(right)[last] / (last + 1)


def aurc(confidence: Array, correct: Array) -> float:
    """Area under the risk-coverage curve: the mean of the risks of answering the k surest samples, k = 1..N.

    Samples of equal confidence stand in no order: their errors count evenly. Source: Geifman, Uziel and El-Yaniv 2019,
    "Bias-reduced uncertainty estimation for deep neural classifiers", section 2.
    """
    _, coverage, accuracy = curve(confidence, correct)
    n = len(confidence)
    answers = np.concatenate([[0.0], coverage * n])
    errors = np.concatenate([[0.0], (1.0 - accuracy) * coverage * n])
    counts = np.arange(1, n + 1)
    return float((np.interp(counts, answers, errors) / counts).mean())


def threshold_for(confidence: Array, correct: Array, accuracy: float) -> float | None:
    """The lowest threshold whose answers are right in that share of these samples: 0 where all may be answered, None
    where there is none."""
    thresholds, _, found = curve(confidence, correct)
    enough = np.flatnonzero(found >= accuracy - 1e-12)
    return _threshold(thresholds, int(enough[-1])) if len(enough) else None


def _threshold(thresholds: F64, index: int) -> float:
    """The threshold of a point of the curve. The last answers all, also what is less sure than any sample here."""
    return float(thresholds[index]) if index < len(thresholds) - 1 else 0.0


def certain_threshold(confidence: Array, correct: Array, accuracy: float, delta: float = DELTA) -> float | None:
    """A threshold whose answers are right in that share of ALL samples drawn alike, but with probability ``delta``.

    A threshold passes when its ``e`` errors among ``m`` answers would be that few with probability at most
    ``delta / k`` if the risk were ``1 - accuracy`` (the binomial tail); ``k`` thresholds are tried. Source: Geifman and
    El-Yaniv 2017, lemma 3.1 and algorithm 1 (SGR), which halves the range of coverages; here its eighths are tried
    first, since few answers prove nothing. 0 where all may be answered, None where no threshold passes.
    """
    thresholds, coverage, found = curve(confidence, correct)
    answers = np.rint(coverage * len(confidence)).astype(np.int64)
    errors = answers - np.rint(found * answers).astype(np.int64)
    tries = _PARTS + math.ceil(math.log2(max(1.0, len(confidence) / _PARTS))) + 1

    def passes(index: int) -> bool:
        return _binomial_tail(int(errors[index]), int(answers[index]), 1.0 - accuracy) <= delta / tries

    levels = np.searchsorted(coverage, np.arange(1, _PARTS + 1) / _PARTS - 1e-12)
    sound = [index for index in levels.tolist() if passes(index)]
    if not sound:
        return None
    low, high = sound[-1], next((index for index in levels.tolist() if index > sound[-1]), len(thresholds))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return _threshold(thresholds, low)


def _binomial_tail(errors: int, m: int, risk: float) -> float:
    """Probability of at most so many errors among m answers: ``sum_(j <= e) C(m, j) r^j (1 - r)^(m - j)``."""
    if errors >= m or risk <= 0:
        return 1.0
    if risk >= 1:
        return 0.0
    j = np.arange(errors + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((m - j[:-1]) / (j[:-1] + 1)))])  # of C(m, j)
    logs = logs + j * math.log(risk) + (m - j) * math.log1p(-risk)
    largest = logs.max()
    return float(min(1.0, math.exp(largest) * np.exp(logs - largest).sum()))


def selective(probabilities: Array, targets: Array) -> dict[str, Any]:
    """What abstaining buys on these samples, for people and files.

    ``aurc``; ``curve``: at most 200 points of ``threshold``, ``coverage`` and ``accuracy``; ``targets``: for each
    wanted ``accuracy`` the ``threshold`` and ``coverage`` that give it here, and those that give it on all samples
    drawn alike, with 95 % certainty (``certain_threshold``, ``certain_coverage``); None where no threshold does.
    """
    confidence, correct = np.nan_to_num(probabilities.max(axis=1)), probabilities.argmax(axis=1) == targets
    thresholds, coverage, accuracy = curve(confidence, correct)
    rows = np.unique(np.searchsorted(coverage, np.linspace(0, 1, _POINTS)).clip(0, len(coverage) - 1))
    table = []
    for wanted in TARGETS:
        line: dict[str, Any] = {"accuracy": wanted}
        for prefix, found in (
            ("", threshold_for(confidence, correct, wanted)),
            ("certain_", certain_threshold(confidence, correct, wanted)),
        ):
            line[f"{prefix}threshold"] = found
            line[f"{prefix}coverage"] = None if found is None else float((confidence >= found).mean())
        table.append(line)
    points = {"threshold": thresholds, "coverage": coverage, "accuracy": accuracy}
    return {
        "aurc": aurc(confidence, correct),
        "curve": {name: values[rows].tolist() for name, values in points.items()},
        "targets": table,
    }
