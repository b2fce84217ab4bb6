"""What the score loses when a part of the input is covered: occlusion with a sliding window."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError
from fovea.explain.base import Found, method
from fovea.explain.baseline import baseline_of
from fovea.explain.gradients import capacity_of
from fovea.explain.question import Question

__all__ = ["occlusion"]

Array = npt.NDArray[Any]
_PARTS = {1: 32, 2: 8, 3: 4}
"""How many windows fit beside each other along the shortest side, by the number of axes."""


@method("occlusion", needs_gradients=False, score="probability")
def occlusion(
    question: Question, *, window: int | None = None, stride: int | None = None, baseline: Any = "zero"
) -> Found:
    """``values``: at each pixel the mean of ``S(x) - S(x covered)`` over the windows that cover it.

    A window of ``window`` pixels along each axis (of the shortest side an eighth unless told, of a signal 1/32, of a
    volume a quarter) moves by ``stride`` (half a window) and is filled from ``baseline``; the last position along each
    axis ends at the border. ``raw`` N,*positions: the loss at each position. Forward passes in batches. Explains the
    probability unless told, as in the paper: what is covered may raise the logit of a class, and those of others more.
    Source: Zeiler and Fergus 2014, section 4.2.
    """
    size = question.x.shape[1:-1]
    side = max(1, round(min(size) / _PARTS[len(size)])) if window is None else window
    step = max(1, side // 2) if stride is None else stride
    for name, value, most in (("window", side, min(size)), ("stride", step, side)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ConfigError(name, f"expected an integer from 1 to {most} pixels, got {value!r}; choose one")
    covers = baseline_of(question, baseline)
    starts = [_starts(length, side, step) for length in size]
    places = [tuple(slice(at, at + side) for at in corner) for corner in itertools.product(*starts)]
    lost = np.empty((len(question.x), len(places)), np.float32)
    for i, (x, cover) in enumerate(zip(question.x, covers, strict=True)):
        room = capacity_of(question.model, x.shape, len(places), backward=False)
        for start in range(0, len(places), room):
            piece = places[start : start + room]
            covered = np.repeat(x[None], len(piece), axis=0)
            for one, place in zip(covered, piece, strict=True):
                one[place] = cover[place]
            lost[i, start : start + len(piece)] = question.values[i] - question.score(covered, i, room)
    total, count = np.zeros((len(lost), *size), np.float32), np.zeros(size, np.float32)
    for number, place in enumerate(places):
        total[(slice(None), *place)] += lost[:, number].reshape(-1, *(1,) * len(size))
        count[place] += 1
    return Found(total / count, lost.reshape(-1, *map(len, starts)))


def _starts(size: int, window: int, stride: int) -> list[int]:
    """Where windows begin: every ``stride``, the last so that it ends at the border."""
    return [*range(0, size - window, stride), size - window]
