"""The rules of the optimisers, and one update of a whole store: clip, optimise, average."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fovea.engines.reference.pair import Array
from fovea.graph.store import ParameterStore
from fovea.ops.base import ParamSpec
from fovea.ops.optimizer import SGD, AdamW, Optimizer, ema_share

__all__ = ["adamw_rule", "average", "clip_factor", "gradient_norm", "sgd_rule", "update_parameter", "update_store"]


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
    d = ema_share(ema_decay, t)
    ema[...] = d * ema + (1 - d) * p


def update_store(
    optimizer: Optimizer,
    store: ParameterStore,
    specs: Mapping[str, ParamSpec],
    gradients: Mapping[str, Array],
    lr: float,
) -> float:
    """Update the parameters of specs in place (no gradient counts as 0); returns the norm before clipping."""
    store.ensure_slots(optimizer.slots, specs, ema=optimizer.ema_decay is not None)
    store.updates += 1
    norm = gradient_norm({path: gradients[path] for path in specs if path in gradients})
    factor = clip_factor(norm, optimizer.clip_norm)
    for path, spec in specs.items():
        parameter = store.parameters[path]
        gradient = gradients[path] if path in gradients else np.zeros_like(parameter)
        update_parameter(
            optimizer,
            parameter,
            gradient if factor == 1.0 else gradient * factor,
            store.optimizer_state[path],
            lr * optimizer.lr_scale(path),
            optimizer.weight_decay if spec.decay else 0.0,
            store.updates,
        )
        if optimizer.ema_decay is not None:
            average(store.ema[path], parameter, optimizer.ema_decay, store.updates)
    store.touch()
    return norm
