"""Integrated gradients: the gradient along a straight path from a baseline to the image, added up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError
from fovea.explain.base import Found, method
from fovea.explain.baseline import baseline_of
from fovea.explain.gradients import capacity_of
from fovea.explain.question import Question
from fovea.explain.target import Score

__all__ = ["integrated_gradients"]

Array = npt.NDArray[Any]
_MOST_PARTS = 16


@method("integrated gradients")
def integrated_gradients(
    question: Question,
    *,
    steps: int = 64,
    baseline: Any = "zero",
    tolerance: float | None = 1e-3,
    most_steps: int = 2048,
) -> Found:
    """``raw = (x - b) int_0^1 dS/dx(b + a (x - b)) da``, N,*spatial,C, and its sum over the channels.

    The values of an image add up to ``S(x) - S(b)`` (completeness); the gap, relative to that difference, is a note.
    Trapezoidal rule with ``steps`` steps, at first equal ones. The path's parts know by how much the score grows within
    them, so where their sums are wrong is known as well: the steps of the worst parts are halved until the gap is at
    most ``tolerance`` (None: never), or there are ``most_steps``. Steps run in batches, and memory does not grow with
    them. ``baseline``: see ``explain/baseline.py``. Source: Sundararajan et al. 2017, equations 1 and 3, proposition 1.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= most_steps:
        raise ConfigError("steps", f"expected an integer from 1 to {most_steps}, got {steps!r}; 64 is usual")
    if tolerance is not None and (isinstance(tolerance, bool) or not isinstance(tolerance, (int, float))):
        raise ConfigError("tolerance", f"expected a gap such as 0.001, or None, got {tolerance!r}; leave it out")
    starts = baseline_of(question, baseline)
    raw, values, notes = np.empty_like(question.x), np.empty(len(question.x)), []
    for i, start in enumerate(starts):
        path = _Path(question, question.scores[i], question.x[i], start, steps)
        path.refine(tolerance, most_steps)
        raw[i], values[i] = path.integral(), path.values[-1]
        notes.append((path.note(),))
    return Found(raw.sum(-1), raw, notes, values)


class _Path:
    """The straight path from ``start`` to ``x``, cut into parts of equal length, each with equal steps of its own.

    ``ends``: score and gradient where parts meet. ``sums``: of each part, the gradients at its inner steps added up.
    """

    def __init__(self, question: Question, score: Score, x: Array, start: Array, steps: int) -> None:
        self.question, self.score = question, score
        self.start, self.way = start, x - start
        parts = max(k for k in range(1, _MOST_PARTS + 1) if steps % k == 0)
        self.counts = [steps // parts] * parts
        self.evaluated = 0
        self.room = capacity_of(question.model, x.shape, steps)
        self.values, self.slopes = np.zeros(parts + 1), np.zeros(parts + 1)
        self.ends = np.zeros((parts + 1, *x.shape), np.float32)
        self.sums = np.zeros((parts, *x.shape), np.float32)
        self.inner = np.zeros(parts)
        for piece, values, gradients in self._along(np.linspace(0, 1, parts + 1)):
            self.values[piece], self.ends[piece] = values, gradients
            self.slopes[piece] = self._slopes(gradients)
        self._add([(part, np.arange(1, count) / count) for part, count in enumerate(self.counts)])

    def _along(self, places: Array) -> Any:
        """Scores and gradients at these places of the path, in batches: (which of them, scores, gradients)."""
        for first in range(0, len(places), self.room):
            chosen = places[first : first + self.room].astype(np.float32)
            x = self.start + chosen.reshape(-1, *(1,) * self.way.ndim) * self.way
            scores, gradients = self.question.input_gradients(x, [self.score], room=self.room)
            self.evaluated += len(chosen)
            yield slice(first, first + len(chosen)), scores, gradients

    def _slopes(self, gradients: Array) -> Array:
        """Of the score along the path: gradient times way."""
        return np.asarray(gradients.reshape(len(gradients), -1) @ self.way.reshape(-1))

    def _add(self, wanted: list[tuple[int, Array]]) -> None:
        """Gradients at further inner steps: (part, places within it from 0 to 1)."""
        parts = len(self.counts)
        owners = np.concatenate([np.full(len(places), part) for part, places in wanted])
        places = np.concatenate([(part + places) / parts for part, places in wanted])
        for piece, _, gradients in self._along(places):
            slopes = self._slopes(gradients)
            for part in np.unique(owners[piece]):
                mine = owners[piece] == part
                self.sums[part] += gradients[mine].sum(0)
                self.inner[part] += slopes[mine].sum()

    def errors(self) -> Array:
        """Of each part: its integral of the slope, less the growth of the score."""
        steps = 1 / (len(self.counts) * np.array(self.counts))
        integrals = steps * (self.inner + (self.slopes[1:] + self.slopes[:-1]) / 2)
        return np.asarray(integrals - np.diff(self.values))

    def gap(self) -> float:
        """Relative: what the sum of all values lacks, or has too much."""
        grown = abs(self.values[-1] - self.values[0])
        return float(abs(self.errors().sum()) / max(grown, 1e-3 * np.abs(self.values).max(), 1e-12))

    def refine(self, tolerance: float | None, most: int) -> None:
        """Halve the steps of the parts with the largest errors, half of all error at a time."""
        while tolerance is not None and self.gap() > tolerance and self.evaluated < most:
            errors = np.abs(self.errors())
            order = np.argsort(-errors, kind="stable")
            worst = order[: 1 + int(np.searchsorted(np.cumsum(errors[order]), errors.sum() / 2))]
            self._add([(part, (np.arange(self.counts[part]) + 0.5) / self.counts[part]) for part in worst])
            for part in worst:
                self.counts[part] *= 2

    def integral(self) -> Array:
        """``way`` times the integral of the gradient."""
        total = np.zeros_like(self.way)
        for part, count in enumerate(self.counts):
            step = 1 / (len(self.counts) * count)
            total += np.float32(step) * (self.sums[part] + (self.ends[part] + self.ends[part + 1]) / 2)
        return np.asarray(self.way * total)

    def note(self) -> str:
        """How far the values are from adding up to the difference of the scores."""
        grown = self.values[-1] - self.values[0]
        total = grown + self.errors().sum()
        return (
            f"completeness: the values add up to {total:.5g}, the score rose by {grown:.5g} from that of the baseline "
            f"(gap {self.gap():.2%}, {self.evaluated - 1} steps)"
        )
