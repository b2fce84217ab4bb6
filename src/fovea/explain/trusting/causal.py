"""Insertion and deletion: how the score answers when the pixels that a map calls important appear or vanish."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.explain.baseline import baseline_of
from fovea.explain.question import Question

__all__ = ["Causal", "area", "insertion_deletion", "order_of"]

Array = npt.NDArray[Any]


class Causal(NamedTuple):
    """Scores after each group of pixels, from none to all, and the areas below the curves (over shares from 0 to 1)."""

    insertion: tuple[float, ...]
    deletion: tuple[float, ...]
    insertion_auc: float
    deletion_auc: float


def insertion_deletion(question: Question, values: Array, steps: int, seed: int) -> Causal:
    """Of one map *spatial for the first sample of a question: pixels in ``steps`` groups, the highest values first.

    Deletion covers them with zero of the network's input; insertion uncovers them on the blurred sample (zero for a
    model without preprocessing). A good map makes the score fall fast in the one (small area), and rise fast in the
    other (large area). All inputs are computed in batches. Source: Petsiuk et al. 2018, "RISE", section 4.2.
    """
    x = question.x[:1]
    order = order_of(values, seed)
    blurred = baseline_of(question, "blur" if question.model.preprocessing is not None else "zero")[:1]
    deleted = _series(x, np.zeros_like(x), order, steps)
    inserted = _series(blurred, x, order, steps)
    scores = question.score(np.concatenate([inserted, deleted]), 0).astype(np.float64)
    insertion, deletion = scores[: steps + 1], scores[steps + 1 :]
    return Causal(tuple(insertion.tolist()), tuple(deletion.tolist()), area(insertion), area(deletion))


def order_of(values: Array, seed: int) -> Array:
    """Pixel numbers of a map *spatial, the highest value first; equal values in a random order, the same every time."""
    flat = np.ravel(values)
    return np.lexsort((random.permutation(random.key(seed, "ties"), flat.size), -flat))


def _series(start: Array, end: Array, order: Array, steps: int) -> Array:
    """start, then with the first group of pixels from ``end``, then two groups, ... then end: steps + 1,*spatial,C."""
    flat = np.repeat(start.reshape(1, -1, start.shape[-1]), steps + 1, axis=0)
    other = end.reshape(-1, end.shape[-1])
    bounds = np.linspace(0, len(order), steps + 1).round().astype(int)
    for number, bound in enumerate(bounds):
        flat[number, order[:bound]] = other[order[:bound]]
    return flat.reshape(steps + 1, *start.shape[1:])


def area(scores: Array) -> float:
    """Below a curve over equal shares from 0 to 1, by trapezoids."""
    return float((scores[1:] + scores[:-1]).mean() / 2)
