"""The rules of the optimisers: each changes one parameter and its state in place."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fovea.engines.reference.pair import Array
from fovea.ops.optimizer import SGD, AdamW, Optimizer

__all__ = ["adamw_rule", "average", "clip_factor", "gradient_norm", "sgd_rule", "update_parameter"]


# norm = sqrt(sum over all parameters and elements of grad^2)
def gradient_norm(gradients: Mapping[str, Array]) -> float:
    """Euclidean norm of all gradients together, summed in float64, in the order of the paths given."""
    return math.sqrt(sum(float(np.square(gradient, dtype=np.float64).sum()) for gradient in gradients.values()))


# factor = min(1, clip_norm / norm)
def clip_factor(norm: float, clip_norm: float | None) -> float:
    """What gradients are multiplied by so that their norm is at most clip_norm."""
    return 1.0 if clip_norm is None or norm <= clip_norm else clip_norm / norm


# g = grad + weight_decay p,   v = momentum v + g,   p = p - lr v   (nesterov: p = p - lr (g + momentum v))
def sgd_rule(
    op: SGD, p: Array, gradient: Array, state: Mapping[str, Array], lr: float, weight_decay: float, t: int
) -> None:
    """Stochastic gradient descent with momentum; with momentum 0 it is ``p - lr g``."""
    v = state["momentum"]
    g = gradient + weight_decay * p
    v[...] = op.momentum * v + g
    p -= lr * (g + op.momentum * v if op.nesterov else v)


# m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,
# p = p - lr weight_decay p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
def adamw_rule(
    op: AdamW, p: Array, gradient: Array, state: Mapping[str, Array], lr: float, weight_decay: float, t: int
) -> None:
    """Adam with decoupled decay; t = 1 at the first update."""
    m, v = state["exp_avg"], state["exp_avg_sq"]
    m[...] = op.beta1 * m + (1 - op.beta1) * gradient
    v[...] = op.beta2 * v + (1 - op.beta2) * np.square(gradient)
    unbiased_m, unbiased_v = m / (1 - op.beta1**t), v / (1 - op.beta2**t)
    p -= lr * weight_decay * p + lr * unbiased_m / (np.sqrt(unbiased_v) + op.eps)


_RULES = {"sgd": sgd_rule, "adamw": adamw_rule}


def update_parameter(
    optimizer: Optimizer, p: Array, gradient: Array, state: Mapping[str, Array], lr: float, weight_decay: float, t: int
) -> None:
    """The rule of this optimiser on one parameter."""
    _RULES[optimizer.kind](optimizer, p, gradient, state, lr, weight_decay, t)  # type: ignore[operator]


# ema = d ema + (1 - d) p,   d = min(ema_decay, (1 + t) / (10 + t))
def average(ema: Array, p: Array, ema_decay: float, t: int) -> None:
    """Move the average towards the parameter; early updates count more."""
    d = min(ema_decay, (1 + t) / (10 + t))
    ema[...] = d * ema + (1 - d) * p
