"""Normalisation step by step, ``y = (x - mean) / sigma * weight + bias`` with ``sigma = sqrt(var + eps)``, and the
three terms of its gradient (docs/normalization.md).

With x^ = (x - mean) / sigma, g = delta * weight, and means over what the statistics ran over:

    dL/dx = g / sigma  -  mean(g) / sigma  -  x^ mean(g x^) / sigma
            direct        through the mean    through the variance

Batch norm in inference has constant statistics: the first term is all.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import Array, Calculation, Index, Step, Term, calculation
from fovea.explain.arithmetic.sums import grad_bias, grad_input, output
from fovea.ops import BatchNorm, GroupNorm

__all__ = ["norm_backward", "norm_forward"]


_PATHS = (
    "direct: delta weight / sigma",
    "through the mean: -mean(delta weight) / sigma",
    "through the variance: -x^ mean(delta weight x^) / sigma",
)


class _Statistics(NamedTuple):
    """Of one element: what normalises it, in float64; ``number`` and ``over``: how many elements
    the statistics ran over, and their index (None: running statistics)."""

    mean: float
    var: float
    sigma: float
    number: int
    over: tuple[slice | int | range, ...] | None
    size: float
    """Bound on the values that were averaged: rounding errors of the statistics are relative to it."""


def norm_forward(live: Live, at: Index, channel: int) -> Calculation:
    """One output with the statistics, scale and shift written out."""
    found = _statistics(live, at, channel)
    x, gamma, beta = (float(one) for one in (live.inputs[0][(0, *at, channel)], *_affine(live, channel)))
    x_hat = (x - found.mean) / found.sigma
    total = x_hat * gamma + beta
    steps = (
        *_shared_steps(live, found, x, channel),
        Step("y", f"x^ * weight[{channel}] + bias[{channel}] = {x_hat:.6g} * {gamma:.6g} + {beta:.6g}", total),
    )
    spread = abs(gamma) / found.sigma * (abs(x) + found.size * (1 + abs(x_hat) * found.size / found.sigma))
    formula = f"(x - mean) / sqrt(var + eps) * weight[{channel}] + bias[{channel}]"
    return output(
        live, (*at, channel), formula, steps=steps, total=total, magnitude=spread + abs(beta), count=found.number
    )


def norm_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """The three terms of the gradient at one input, and the gradients of the channel's weight and bias."""
    found = _statistics(live, at, channel)
    x, delta = float(live.inputs[0][(0, *at, channel)]), float(live.delta[(0, *at, channel)])
    gamma, _ = _affine(live, channel)
    x_hat, g = (x - found.mean) / found.sigma, delta * gamma
    index, inverse = (*at, channel), 1 / found.sigma
    terms = [Term(index, g, None, inverse, g * inverse, (0,), label=_PATHS[0])]
    formula, magnitude, count = "delta weight / sigma", abs(g * inverse), 1
    if found.over is not None:
        gs, x_hats = _arrays(live, found)
        mean_g, mean_gx = float(gs.mean()), float((gs * x_hats).mean())
        terms += [
            Term(index, mean_g, None, -inverse, -mean_g * inverse, (1,), label=_PATHS[1]),
            Term(index, x_hat * mean_gx, None, -inverse, -x_hat * mean_gx * inverse, (2,), label=_PATHS[2]),
        ]  # fmt: skip
        formula = "(delta weight - mean(delta weight) - x^ mean(delta weight x^)) / sigma"
        # what is averaged rounds relative to its own size, and x^ to that of x
        relative = 1 + found.size / found.sigma
        means = float(np.abs(gs).mean() + (abs(x_hat) + relative) * np.abs(gs * x_hats).mean())
        magnitude, count = (abs(g) + means) * inverse * relative, found.number
    steps = _shared_steps(live, found, x, channel)
    source = grad_input(
        live, 0, index, formula, tuple(terms), steps=steps, weights="1 / sigma", magnitude=magnitude, count=count
    )  # fmt: skip
    own = _grad_weight(live, weight_at[0]) if "weight" in live.grad_params else ()
    return (source, *own, *grad_bias(live, weight_at[0]))


def _grad_weight(live: Live, channel: int) -> tuple[Calculation, ...]:
    """The sum over samples and positions of delta x^."""
    terms, largest = [], 0.0
    for n, *place in np.ndindex(*live.delta.shape[:-1]):
        found = _statistics(live, tuple(place), channel, n)
        index = (n, *place, channel)
        x_hat, delta = (float(live.inputs[0][index]) - found.mean) / found.sigma, float(live.delta[index])
        terms.append(Term(index, x_hat, index, delta, x_hat * delta, tuple(place), n))
        largest = max(largest, found.size / found.sigma)
    size = sum(abs(term.weight) * (abs(term.value) + largest) for term in terms)
    found_ = float(live.grad_params["weight"][channel])
    return (
        calculation(
            "grad_weight", f"d loss / d {live.name}.weight", (channel,),
            f"sum over samples n and positions i of delta[n, i, {channel}] x^[n, i, {channel}]", live.engine, found_,
            terms=tuple(terms), magnitude=size, values="x^, normalised input", weights="delta, gradient of the output",
        ),
    )  # fmt: skip


def _shared_steps(live: Live, found: _Statistics, x: float, channel: int) -> tuple[Step, ...]:
    eps = live.op.eps
    if found.over is None:
        where = ("running_mean", "running_var")
        named = tuple(f"{live.name}.{one}[{channel}]" for one in where)
    else:
        what = {"batchnorm": "of the channel over the batch and all positions", "layernorm": "over the channels"}
        scope = what.get(live.node.op.kind, "over positions and channels of the group")
        named = (f"mean {scope}, {found.number} values", f"biased variance {scope}")
    x_hat = (x - found.mean) / found.sigma
    return (
        Step("mean", named[0], found.mean),
        Step("var", named[1], found.var),
        Step("sigma", f"sqrt(var + eps) = sqrt({found.var:.6g} + {eps:g})", found.sigma),
        Step("x^", f"(x - mean) / sigma = ({x:.6g} - {found.mean:.6g}) / {found.sigma:.6g}", x_hat),
    )


def _affine(live: Live, channel: int) -> tuple[float, float]:
    return float(live.params["weight"][channel]), float(live.params["bias"][channel])


def _statistics(live: Live, at: Index, channel: int, n: int = 0) -> _Statistics:
    """Running statistics, or those of the elements that are normalised together."""
    op, x = live.op, live.inputs[0]
    if isinstance(op, BatchNorm) and not live.training:
        mean, var = (float(live.buffers[name][channel]) for name in ("running_mean", "running_var"))
        return _Statistics(mean, var, math.sqrt(var + op.eps), 1, None, abs(mean))
    if isinstance(op, BatchNorm):
        over: tuple[slice | int | range, ...] = (..., slice(channel, channel + 1))  # type: ignore[assignment]
    elif isinstance(op, GroupNorm):
        size = x.shape[-1] // op.groups
        group = channel // size
        over = (slice(n, n + 1), ..., slice(group * size, (group + 1) * size))  # type: ignore[assignment]
    else:
        over = (slice(n, n + 1), *(slice(q, q + 1) for q in at), slice(None))
    values = x[over].astype(np.float64)
    var = float(values.var())
    return _Statistics(
        float(values.mean()), var, math.sqrt(var + op.eps), values.size, over, float(np.abs(values).max())
    )


def _arrays(live: Live, found: _Statistics) -> tuple[Array, Array]:
    """delta * weight and x^ of all elements that share the statistics."""
    assert found.over is not None
    g = (live.delta.astype(np.float64) * live.params["weight"])[found.over]
    x_hat = (live.inputs[0][found.over].astype(np.float64) - found.mean) / found.sigma
    return g, x_hat
