"""RISE: scores of randomly masked images, each mask weighted by its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.errors import ConfigError
from fovea.explain.base import Found, method
from fovea.explain.baseline import baseline_of
from fovea.explain.gradients import capacity_of
from fovea.explain.placing import along
from fovea.explain.question import Question

__all__ = ["masks", "rise"]

Array = npt.NDArray[Any]
_CELLS = {1: 49, 2: 7, 3: 7}
"""Along each axis, by the number of axes: a signal has as many as an image has in all."""


@method("RISE", needs_gradients=False, score="probability", signed=False)
def rise(
    question: Question, *, samples: int = 1000, cells: int | None = None, keep: float = 0.5, seed: int = 0,
    baseline: Any = "zero",
) -> Found:  # fmt: skip
    """``values = 1 / (samples keep) sum_i S(m_i x + (1 - m_i) b) m_i``, at each pixel the score where it is seen.

    Masks: ``cells`` along each axis (7 unless told, 49 of a signal) of 0 and 1 (with probability ``keep``), enlarged
    linearly and shifted at random; drawn, used and added up batch by batch. Explains the probability unless told, as in
    the paper. ``raw``: the same map.
    Source: Petsiuk et al. 2018, "RISE", equations 6 and section 3.2.
    """
    x, covers = question.x, baseline_of(question, baseline)
    cells = _CELLS[x.ndim - 2] if cells is None else cells
    if not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 1 << 20 for n in (samples, cells)):
        raise ConfigError("rise", f"expected samples and cells of at least 1, got {samples!r} and {cells!r}")
    if not isinstance(keep, float) or not 0 < keep < 1:
        raise ConfigError("keep", f"expected a probability between 0 and 1, got {keep!r}; 0.5 is usual")
    values = np.zeros(x.shape[:-1], np.float32)
    room = capacity_of(question.model, x.shape[1:], samples, backward=False)
    for start in range(0, samples, room):
        drawn = masks(x.shape[1:-1], range(start, min(samples, start + room)), cells, keep, seed)
        for i in range(len(x)):
            seen = covers[i] + drawn[..., None] * (x[i] - covers[i])
            values[i] += np.tensordot(question.score(seen, i, room).astype(np.float32), drawn, 1)
    values /= np.float32(samples * keep)
    return Found(values, values)


def masks(size: Sequence[int], numbers: range, cells: int, keep: float, seed: int) -> npt.NDArray[np.float32]:
    """The masks of these numbers, N,*size in 0..1: a function of (seed, number), however they are batched."""
    axes = len(size)
    keys = random.fold_in(random.key(seed, "rise"), np.arange(numbers.start, numbers.stop))
    draws = random.uniform(keys, cells**axes + axes)
    grids = (draws[:, axes:] < keep).astype(np.float32).reshape(-1, *(cells,) * axes)
    ways = [_enlarging(side, cells) for side in size]
    result = np.empty((len(grids), *size), np.float32)
    for one, (grid, draw) in enumerate(zip(grids, draws, strict=True)):
        shifted = [
            way[(first := int(share * (len(way) - side + 1))) : first + side]
            for way, share, side in zip(ways, draw, size, strict=False)
        ]
        result[one] = along(grid[None], shifted)[0]
    return result


def _enlarging(size: int, cells: int) -> npt.NDArray[np.float32]:
    """Linear enlargement of ``cells`` values as a matrix, one cell longer than ``size``, so that it can be shifted."""
    cell = -(-size // cells)
    longer = (cells + 1) * cell
    places = (np.arange(longer) + 0.5) * cells / longer - 0.5
    return np.stack([np.interp(places, np.arange(cells), unit) for unit in np.eye(cells)], axis=1).astype(np.float32)
