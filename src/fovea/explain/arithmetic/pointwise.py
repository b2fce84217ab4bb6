"""Element-wise layers: the value, and the slope by which the gradient is multiplied (docs/activations.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import Calculation, Index, Step, Term
from fovea.explain.arithmetic.sums import grad_input, output

__all__ = ["POINTWISE", "pointwise_backward", "pointwise_forward"]


class _Function(NamedTuple):
    """f and its derivative, of the op and one number, and how they are written."""

    formula: str
    value: Callable[[Any, float], float]
    derivative: str
    slope: Callable[[Any, float], float]


def _sigmoid(x: float) -> float:
    small = math.exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1.0 + small)


def _ramp(x: float) -> float:
    """MobileNetV3's hard sigmoid, min(max(x / 6 + 1/2, 0), 1)."""
    return min(max(x / 6 + 0.5, 0.0), 1.0)


POINTWISE: dict[str, _Function] = {
    "relu": _Function("max(0, x)", lambda op, x: max(0.0, x), "1 where x > 0, else 0", lambda op, x: float(x > 0)),
    "relu6": _Function(
        "min(max(0, x), 6)", lambda op, x: min(max(0.0, x), 6.0),
        "1 where 0 < x < 6, else 0", lambda op, x: float(0 < x < 6),
    ),
    "leakyrelu": _Function(
        "x where x > 0, else negative_slope x", lambda op, x: x if x > 0 else op.negative_slope * x,
        "1 where x > 0, else negative_slope", lambda op, x: 1.0 if x > 0 else op.negative_slope,
    ),
    "sigmoid": _Function(
        "1 / (1 + exp(-x))", lambda op, x: _sigmoid(x), "y (1 - y)", lambda op, x: _sigmoid(x) * _sigmoid(-x)
    ),
    "tanh": _Function("tanh(x)", lambda op, x: math.tanh(x), "1 - y^2", lambda op, x: 1 - math.tanh(x) ** 2),
    "silu": _Function(
        "x s(x), s(x) = 1 / (1 + exp(-x))", lambda op, x: x * _sigmoid(x),
        "s (1 + x (1 - s))", lambda op, x: _sigmoid(x) * (1 + x * _sigmoid(-x)),
    ),
    "hardswish": _Function(
        "x min(max(x / 6 + 1/2, 0), 1)", lambda op, x: x * _ramp(x),
        "h(x) + x / 6 where -3 < x < 3, h(x) = min(max(x / 6 + 1/2, 0), 1)",
        lambda op, x: _ramp(x) + (x / 6 if abs(x) < 3 else 0.0),
    ),
    "hardsigmoid": _Function(
        "min(max(alpha x + beta, 0), 1)", lambda op, x: min(max(op.alpha * x + op.beta, 0.0), 1.0),
        "alpha where 0 < alpha x + beta < 1, else 0", lambda op, x: op.alpha if 0 < op.alpha * x + op.beta < 1 else 0.0,
    ),
}  # fmt: skip
"""By kind of op."""

_LEAST = 1e-6  # of magnitudes: where a function saturates, what it saturates from still rounds


def pointwise_forward(live: Live, at: Index, channel: int) -> Calculation:
    """f of one number."""
    function, index = POINTWISE[live.op.kind], (*at, channel)
    x = float(live.inputs[0][(0, *index)])
    total = function.value(live.op, x)
    steps = (Step("x", f"{live.source()}[{', '.join(map(str, index))}]", x), Step("y", function.formula, total))
    return output(live, index, function.formula, steps=steps, total=total, magnitude=max(abs(total), _LEAST))


def pointwise_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """The gradient times the slope; the guided and the deconvolution rule of ReLU look at the gradient's sign too."""
    function, index = POINTWISE[live.op.kind], (*at, channel)
    x, delta = float(live.inputs[0][(0, *index)]), float(live.delta[(0, *index)])
    rule = getattr(live.op, "backward_rule", "standard")
    slope, derivative = function.slope(live.op, x), function.derivative
    if rule != "standard":
        slope = float(delta > 0) * (1.0 if rule == "deconv" else slope)
        derivative = "1 where delta > 0" + (" and x > 0" if rule == "guided" else "") + f", else 0 ({rule} rule)"
    steps = (Step("x", f"{live.source()}[{', '.join(map(str, index))}]", x), Step("slope", derivative, slope))
    terms = (Term(index, delta, None, slope, delta * slope),)
    magnitude = abs(delta) * max(1.0, abs(slope)) if slope else 0.0
    return (
        grad_input(
            live, 0, index, f"delta * slope, slope = {derivative}", terms, steps=steps, weights="slope",
            magnitude=magnitude,
        ),
    )  # fmt: skip
