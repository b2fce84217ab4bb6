"""Joins of several activations: the residual addition and its kin, concatenation, and the moves that change no number.

Shapes broadcast per sample, aligned at the channels; the gradient of what was repeated is a sum (docs/joining.md). The
place is one of the output, backward too: every input has an element there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import Calculation, Index, Term
from fovea.explain.arithmetic.sums import grad_input, output

__all__ = ["flatten_backward", "flatten_forward", "join_backward", "join_forward"]


def join_forward(live: Live, at: Index, channel: int) -> Calculation:
    """The sum, difference or product of the inputs at one place."""
    index = (*at, channel)
    places = [_own(index, shape) for shape in live.node.input_shapes]
    values = [float(x[(0, *place)]) for x, place in zip(live.inputs, places, strict=True)]
    if live.op.kind == "multiply":
        terms: tuple[Term, ...] = (Term(places[0], values[0], places[1], values[1], values[0] * values[1]),)
        return output(
            live, index, "a * b", terms, weights=f"b, from {live.source(1)}", values=f"a, from {live.source()}"
        )
    signs = (1.0, -1.0) if live.op.kind == "sub" else (1.0,) * len(values)
    terms = tuple(
        Term(place, value, None, sign, sign * value, cell=(number,), label=live.source(number))
        for number, (place, value, sign) in enumerate(zip(places, values, signs, strict=True))
    )
    formula = " - ".join("ab") if live.op.kind == "sub" else " + ".join(live.source(i) for i in range(len(values)))
    return output(live, index, formula, terms, values="inputs", weights="sign")


def join_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """The gradient at each input's element for this place; an input that was repeated collects all its copies."""
    index, found = (*at, channel), []
    for number, shape in enumerate(live.node.input_shapes):
        own, terms = _own(index, shape), []
        for place in _copies(index, shape, live.delta.shape[1:]):
            value, factor = float(live.delta[(0, *place)]), _factor(live, number, place)
            terms.append(Term(place, value, None, factor, value * factor, cell=place[:-1], plane=place[-1]))
        formula = "delta" if live.op.kind != "multiply" else "delta * the other factor"
        formula = f"-{formula}" if live.op.kind == "sub" and number else formula
        formula = f"sum over its copies of {formula}" if len(terms) > 1 else formula
        found.append(grad_input(live, number, own, formula, tuple(terms), weights="factor"))
    return tuple(found)


def flatten_forward(live: Live, at: Index, channel: int) -> Calculation:
    """Element number ``channel`` of the row-major order."""
    place = _unravelled(channel, live.node.input_shapes[0])
    value = float(live.inputs[0][(0, *place)])
    formula = f"element {channel} of {live.source()} in row-major order"
    return output(live, (*at, channel), formula, (Term(place, value, None, 1.0, value),), weights="1")


def flatten_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """The gradient goes back to where the number came from."""
    number = int(np.ravel_multi_index((*at, channel), live.inputs[0].shape[1:]))
    value = float(live.delta[0, number])
    term = Term((number,), value, None, 1.0, value)
    return (grad_input(live, 0, (*at, channel), "delta at its place in row-major order", (term,), weights="1"),)


def _own(index: Index, shape: tuple[int | None, ...]) -> Index:
    """Where an input of that shape is read for an output index: aligned at the end, 0 along what is repeated."""
    tail = index[len(index) - len(shape) :]
    return tuple(0 if size == 1 else i for i, size in zip(tail, shape, strict=True))


def _copies(index: Index, shape: tuple[int | None, ...], output: tuple[int, ...]) -> Iterator[Index]:
    """All output places at which an input of that shape is read at the same element as at ``index``."""
    missing = len(output) - len(shape)
    free = [axis < missing or shape[axis - missing] == 1 for axis in range(len(output))]
    ranges = [range(size) if all_ else (i,) for size, all_, i in zip(output, free, index, strict=True)]
    return itertools.product(*ranges)


def _factor(live: Live, number: int, place: Index) -> float:
    if live.op.kind == "multiply":
        other = 1 - number
        return float(live.inputs[other][(0, *_own(place, live.node.input_shapes[other]))])
    return -1.0 if live.op.kind == "sub" and number == 1 else 1.0


def _unravelled(number: int, shape: tuple[int | None, ...]) -> Index:
    sizes = [size or 0 for size in shape]
    assert number < math.prod(sizes)
    return tuple(int(i) for i in np.unravel_index(number, sizes))
