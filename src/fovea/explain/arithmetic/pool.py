"""Pooling: which element of a window won, or an equal share of all; and where the gradient goes (docs/pooling.md).

max:   Y[i, c] = X[winner(i), c]                  dL/dX[q, c] = sum over windows i that q won of  delta[i, c]
mean:  Y[i, c] = sum over window of X / count     dL/dX[q, c] = sum over windows i with q in them of  delta / count
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import Calculation, Index, Term
from fovea.explain.arithmetic.sums import grad_input, output
from fovea.explain.arithmetic.taps import readers, window_taps
from fovea.ops import AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool

__all__ = ["max_backward", "max_forward", "mean_backward", "mean_forward"]

Member = tuple[Index, Index, bool]
"""Position in the input, cell within the window, whether it lies inside the input."""


def max_forward(live: Live, at: Index, channel: int) -> Calculation:
    """The largest element of a window: every other one counts nothing. Padding never wins."""
    winner, terms = _winner(live, at, channel), []
    for position, cell, inside in _window(live, at):
        value = float(live.inputs[0][(0, *position, channel)]) if inside else 0.0
        won = float(position == winner)
        terms.append(
            Term((*position, channel), value, None, won, value * won, cell, inside=inside, label="won" if won else "")
        )
    note = f"position {_text(winner)} won: the first of the largest in the window"
    formula = f"the maximum of X[q, {channel}] over the window: sum of X[q, {channel}] [q won]"
    return output(live, (*at, channel), formula, tuple(terms), weights="1 for the winner", notes=(note,))


def max_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """The gradients of the windows that this element won."""
    terms = []
    for number, (window, cell) in enumerate(_windows_with(live, at)):
        winner, value = _winner(live, window, channel), float(live.delta[(0, *window, channel)])
        won = float(winner == at)
        label = "won by this element" if won else f"won by {_text(winner)}"
        terms.append(Term((*window, channel), value, None, won, value * won, cell or (number,), label=label))
    formula = f"sum over the windows i that read it of delta[i, {channel}] [it won window i]"
    return (grad_input(live, 0, (*at, channel), formula, tuple(terms), weights="1 where it won"),)


def mean_forward(live: Live, at: Index, channel: int) -> Calculation:
    """Every element of a window counts 1 / count."""
    count, terms = _count(live, at), []
    for position, cell, inside in _window(live, at):
        value = float(live.inputs[0][(0, *position, channel)]) if inside else 0.0
        terms.append(Term((*position, channel), value, None, 1 / count, value / count, cell, inside=inside))
    formula = f"sum over the window of X[q, {channel}] / {count}"
    return output(live, (*at, channel), formula, tuple(terms), weights=f"1 / {count}")


def mean_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """A share of the gradient of every window that reads this element."""
    terms = []
    for number, (window, cell) in enumerate(_windows_with(live, at)):
        value, share = float(live.delta[(0, *window, channel)]), 1 / _count(live, window)
        terms.append(Term((*window, channel), value, None, share, value * share, cell or (number,)))
    formula = f"sum over the windows i that read it of delta[i, {channel}] / count[i]"
    return (grad_input(live, 0, (*at, channel), formula, tuple(terms), weights="1 / count"),)


# --- windows of all kinds of pooling


def _window(live: Live, at: Index) -> Iterator[Member]:
    """The elements of the window at one output position, in row-major order."""
    shape = live.inputs[0].shape[1:]
    if isinstance(live.op, (GlobalAvgPool, GlobalMaxPool)):
        for position in np.ndindex(*shape[:-1]):
            yield position, position, True
    elif isinstance(live.op, AdaptiveAvgPool):
        ends = [bins[i] for bins, i in zip(live.op.bins(shape), at, strict=True)]
        for position in itertools.product(*(range(*one) for one in ends)):
            yield position, tuple(q - start for q, (start, _) in zip(position, ends, strict=True)), True
    else:
        for tap in window_taps(live.op.windows(shape), at):
            yield tap.position, tap.cell, tap.inside


def _windows_with(live: Live, position: Index) -> Iterator[tuple[Index, Index]]:
    """The windows that read a position, in row-major order, each with its cell in a grid of them."""
    shape = live.inputs[0].shape[1:]
    if isinstance(live.op, (GlobalAvgPool, GlobalMaxPool)):
        yield live.delta.shape[1:-1] and (0,) * (live.delta.ndim - 2), ()
    elif isinstance(live.op, AdaptiveAvgPool):
        found = [
            [i for i, (start, stop) in enumerate(bins) if start <= q < stop]
            for bins, q in zip(live.op.bins(shape), position, strict=True)
        ]
        for window in itertools.product(*found):
            yield window, tuple(i - one[0] for i, one in zip(window, found, strict=True))
    else:
        for tap in readers(live.op.windows(shape), position):
            yield tap.position, tap.cell


def _winner(live: Live, window: Index, channel: int) -> Index:
    """The first maximum of a window in row-major order."""
    inside = [position for position, _, within in _window(live, window) if within]
    values = [float(live.inputs[0][(0, *position, channel)]) for position in inside]
    return inside[int(np.argmax(values))]


def _count(live: Live, window: Index) -> int:
    """The divisor of a window's mean."""
    if isinstance(live.op, AvgPool):
        counts = live.op.counts(live.node.input_shapes[0])
        return math.prod(axis[i] for axis, i in zip(counts, window, strict=True))
    return sum(1 for _ in _window(live, window))


def _text(position: Index) -> str:
    return f"({', '.join(map(str, position))})"
