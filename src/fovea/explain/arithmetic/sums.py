"""What every kind of layer ends its calculations with: the output, the gradient at an input, of a parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import Calculation, Index, Term, calculation
from fovea.explain.arithmetic.tiles import PLAIN, Bound

__all__ = ["grad_bias", "grad_input", "grad_parameter", "output"]

_DELTA = "delta, gradient of the output"


def output(
    live: Live, index: Index, formula: str, terms: tuple[Term, ...] = (), *, bound: Bound = PLAIN, **more: Any
) -> Calculation:
    """The layer's output at one index of the first sample. ``more``: as of ``calculation``."""
    found = float(live.output[(0, *index)])
    more = {"values": f"X, from {live.source()}", "weights": "F, the weight", **more}
    return calculation(
        "output", live.name, index, formula, live.engine, found, terms=terms, magnitude=more.pop("magnitude", None)
        if bound.magnitude is None else bound.magnitude, extra=bound.extra, **more,
    )  # fmt: skip


def grad_input(
    live: Live, number: int, index: Index, formula: str, terms: tuple[Term, ...] = (), *, bound: Bound = PLAIN,
    **more: Any,
) -> Calculation:  # fmt: skip
    """The loss's gradient at one element of one input, as far as it comes through this layer."""
    found = float(live.grad_inputs[number][(0, *index)])
    more = {"values": _DELTA, "weights": "F, the weight", **more}
    return calculation(
        "grad_input", f"d loss / d {live.source(number)}", index, formula, live.engine, found, terms=terms,
        magnitude=more.pop("magnitude", None) if bound.magnitude is None else bound.magnitude, extra=bound.extra,
        **more,
    )  # fmt: skip


def grad_parameter(
    live: Live, name: str, index: Index, formula: str, terms: tuple[Term, ...], *, bound: Bound = PLAIN, **more: Any
) -> Calculation:
    """The loss's gradient of one element of a parameter."""
    found = float(live.grad_params[name][index])
    return calculation(
        f"grad_{name}", f"d loss / d {live.name}.{name}", index, formula, live.engine, found, terms=terms,
        magnitude=bound.magnitude, extra=bound.extra, **more,
    )  # fmt: skip


def grad_bias(live: Live, channel: int) -> tuple[Calculation, ...]:
    """The bias is added at every position, so its gradient is the sum of the output's; nothing without a bias."""
    if "bias" not in live.grad_params:
        return ()
    delta = live.delta[..., channel]
    terms = tuple(
        Term((*place, channel), value, None, 1.0, value, cell=place[1:], plane=place[0])
        for place, value in zip(np.ndindex(*delta.shape), delta.ravel().tolist(), strict=True)
    )
    formula = f"sum over samples n and positions i of delta[n, i, {channel}]"
    return (grad_parameter(live, "bias", (channel,), formula, terms, values=_DELTA, weights="1"),)
