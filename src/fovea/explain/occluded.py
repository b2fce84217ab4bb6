"""What the score loses when a part of the image is covered: occlusion with a sliding window."""

from __future__ import annotations

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


@method("occlusion", needs_gradients=False, score="probability")
def occlusion(
    question: Question, *, window: int | None = None, stride: int | None = None, baseline: Any = "zero"
) -> Found:
    """``values``: at each pixel the mean of ``S(x) - S(x covered)`` over the windows that cover it.

    A square of ``window`` pixels (an eighth of the shorter side unless told) moves by ``stride`` (half a window) and is
    filled from ``baseline``; the last position of each row ends at the border. ``raw`` N,rows,columns: the loss at each
    position. Forward passes in batches. Explains the probability unless told, as in the paper: what is covered may
    raise the logit of a class, and those of others more. Source: Zeiler and Fergus 2014, section 4.2.
    """
    height, width = question.x.shape[1:3]
    side = max(1, round(min(height, width) / 8)) if window is None else window
    step = max(1, side // 2) if stride is None else stride
    for name, value, most in (("window", side, min(height, width)), ("stride", step, side)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ConfigError(name, f"expected an integer from 1 to {most} pixels, got {value!r}; choose one")
    covers = baseline_of(question, baseline)
    rows, columns = _starts(height, side, step), _starts(width, side, step)
    places = [(row, column) for row in rows for column in columns]
    lost = np.empty((len(question.x), len(places)), np.float32)
    for i, (x, cover) in enumerate(zip(question.x, covers, strict=True)):
        room = capacity_of(question.model, x.shape, len(places), backward=False)
        for start in range(0, len(places), room):
            piece = places[start : start + room]
            covered = np.repeat(x[None], len(piece), axis=0)
            for one, (row, column) in zip(covered, piece, strict=True):
                one[row : row + side, column : column + side] = cover[row : row + side, column : column + side]
            lost[i, start : start + len(piece)] = question.values[i] - question.score(covered, i, room)
    total, count = np.zeros((len(lost), height, width), np.float32), np.zeros((height, width), np.float32)
    for number, (row, column) in enumerate(places):
        total[:, row : row + side, column : column + side] += lost[:, number, None, None]
        count[row : row + side, column : column + side] += 1
    return Found(total / count, lost.reshape(-1, len(rows), len(columns)))


def _starts(size: int, window: int, stride: int) -> list[int]:
    """Where windows begin: every ``stride``, the last so that it ends at the border."""
    return [*range(0, size - window, stride), size - window]
