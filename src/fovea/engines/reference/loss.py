"""Losses: values and targets -> one number for the whole batch; backward scales its gradient by grad_output."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fovea.engines.reference.activation import stable_sigmoid
from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.errors import DataError
from fovea.ops.loss import (
    BinaryCrossEntropy,
    FocalLoss,
    MeanSquaredError,
    QualityFocalLoss,
    SmoothL1,
    SoftmaxCrossEntropy,
)

__all__ = [
    "binarycrossentropy_backward",
    "binarycrossentropy_forward",
    "focalloss_backward",
    "focalloss_forward",
    "meansquarederror_backward",
    "meansquarederror_forward",
    "qualityfocalloss_backward",
    "qualityfocalloss_forward",
    "smoothl1_backward",
    "smoothl1_forward",
    "softmaxcrossentropy_backward",
    "softmaxcrossentropy_forward",
]


class CrossEntropyTerms(NamedTuple):
    """log p, the weighted smoothed targets q, sum_i w_i, and the loss."""

    log_p: Array
    q: Array
    total_weight: Array
    loss: Array


# loss = -sum_i sum_c q_ic log p_ic / sum_i w_i,   q_ic = class_weight_c ((1 - s) t_ic + s / C),   p = softmax(logits)
def softmaxcrossentropy_forward(
    op: SoftmaxCrossEntropy, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Logits N,*spatial,C; targets N,*spatial (integers) or N,*spatial,C -> a scalar; 0 when no target counts."""
    logits, targets = inputs
    classes = logits.shape[-1]
    weights = np.asarray(op.class_weights or (1.0,) * classes, logits.dtype)  # C
    if op.soft_targets:
        t, counted = targets, np.ones(targets.shape[:-1], logits.dtype)
        w = counted if op.class_weights is None else t @ weights  # N,*spatial
    else:
        t, counted = one_hot(targets, classes, logits.dtype)  # N,*spatial,C  N,*spatial
        w = t @ weights
    smooth = (1 - op.label_smoothing) * t + op.label_smoothing / classes
    q = weights * smooth * counted[..., None]  # N,*spatial,C
    shift = logits - logits.max(axis=-1, keepdims=True)  # so that exp never overflows
    log_p = shift - np.log(np.exp(shift).sum(axis=-1, keepdims=True))  # N,*spatial,C
    total = w.sum()
    loss = -(q * log_p).sum() / total if total else total
    return (np.asarray(loss, logits.dtype),), CrossEntropyTerms(log_p, q, total, loss), {}


# dloss/dlogits_ic = (p_ic sum_k q_ik - q_ic) / sum_i w_i
# dloss/dt_ic      = (-(1 - s) class_weight_c log p_ic - loss dw_i/dt_ic) / sum_i w_i
def softmaxcrossentropy_backward(
    op: SoftmaxCrossEntropy, grad_outputs: Arrays, saved: CrossEntropyTerms, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of the logits, and of soft targets where wanted."""
    log_p, q, total, loss = saved
    scale = grad_outputs[0] / total if total else np.zeros_like(grad_outputs[0])
    grad_logits = scale * (np.exp(log_p) * q.sum(axis=-1, keepdims=True) - q) if needs.inputs[0] else None
    grad_targets = None
    if needs.inputs[1]:
        weights = np.asarray(op.class_weights or (1.0,) * q.shape[-1], q.dtype)  # C
        through_w = 0 if op.class_weights is None else loss * weights
        grad_targets = scale * (-(1 - op.label_smoothing) * weights * log_p - through_w)
    return (grad_logits, grad_targets), {}


def one_hot(targets: Array, classes: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """N,*spatial integers -> N,*spatial,C of 0 and 1, and 1 for every target that counts (negative ones do not)."""
    if targets.size and targets.max() >= classes:
        raise DataError("targets", f"expected classes from 0 to {classes - 1}, got {targets.max()}; check the labels")
    counted = (targets >= 0).astype(dtype)
    return (targets[..., None] == np.arange(classes)).astype(dtype), counted


# loss = 1/m sum_e -t log s(x) - (1 - t) log(1 - s(x)) = 1/m sum_e max(x, 0) - x t + log(1 + exp(-|x|))
def binarycrossentropy_forward(
    op: BinaryCrossEntropy, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Logits and targets of one shape -> the mean over all elements."""
    return (np.asarray(binary_cross_entropy(*inputs).mean()),), inputs, {}


# dloss/dx = (s(x) - t) / m,   dloss/dt = -x / m
def binarycrossentropy_backward(
    op: BinaryCrossEntropy, grad_outputs: Arrays, saved: Arrays, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of logits and targets."""
    (x, t), scale = saved, grad_outputs[0] / saved[0].size
    grad_x = scale * (stable_sigmoid(x) - t) if needs.inputs[0] else None
    return (grad_x, scale * -x if needs.inputs[1] else None), {}


def binary_cross_entropy(x: Array, t: Array) -> Array:
    """The element-wise cross-entropy of logits x, without overflow."""
    return np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))  # type: ignore[no-any-return]


# loss = 1/N sum_e a_t (1 - p_t)^gamma ce,   p_t = t p + (1 - t)(1 - p),   a_t = t alpha + (1 - t)(1 - alpha)
def focalloss_forward(
    op: FocalLoss, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Logits and targets of one shape -> the sum over all elements / N."""
    x, t = inputs
    miss, balance = _miss_and_balance(op, x, t)
    return (np.asarray((balance * miss**op.gamma * binary_cross_entropy(x, t)).sum() / x.shape[0]),), inputs, {}


# with u = 1 - p_t and a = a_t:
# dloss/dx = a (u^gamma (p - t) + gamma u^(gamma - 1) ce p (1 - p) (1 - 2 t)) / N
# dloss/dt = (u^gamma (ce da/dt - a x) + a gamma u^(gamma - 1) ce (1 - 2 p)) / N
def focalloss_backward(
    op: FocalLoss, grad_outputs: Arrays, saved: Arrays, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of logits and targets."""
    x, t = saved
    scale, p, ce = grad_outputs[0] / x.shape[0], stable_sigmoid(x), binary_cross_entropy(x, t)
    miss, balance = _miss_and_balance(op, x, t)
    power = miss**op.gamma
    # u^(gamma - 1) is infinite at u = 0 for gamma < 1; there ce is 0 as well and the product vanishes
    lower = op.gamma * np.divide(power, miss, out=np.zeros_like(power), where=miss > 0)
    grad_x = scale * balance * (power * (p - t) + lower * ce * p * (1 - p) * (1 - 2 * t)) if needs.inputs[0] else None
    grad_t = None
    if needs.inputs[1]:
        slope = 2 * op.alpha - 1 if op.alpha >= 0 else 0.0
        grad_t = scale * (power * (ce * slope - balance * x) + balance * lower * ce * (1 - 2 * p))
    return (grad_x, grad_t), {}


def _miss_and_balance(op: FocalLoss, x: Array, t: Array) -> tuple[Array, Array]:
    """1 - p_t, from the sigmoids of x and -x so that neither cancels, and a_t."""
    miss = t * stable_sigmoid(-x) + (1 - t) * stable_sigmoid(x)
    balance = t * op.alpha + (1 - t) * (1 - op.alpha) if op.alpha >= 0 else np.ones_like(x)
    return miss, balance


# loss = 1/N sum_e |t - p|^beta ce
def qualityfocalloss_forward(
    op: QualityFocalLoss, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Logits and targets of one shape -> the sum over all elements / N."""
    x, t = inputs
    miss = np.abs(t - stable_sigmoid(x))
    return (np.asarray((miss**op.beta * binary_cross_entropy(x, t)).sum() / x.shape[0]),), inputs, {}


# with d = p - t:
# dloss/dx = (|d|^beta d + beta |d|^(beta - 1) sign(d) p (1 - p) ce) / N
# dloss/dt = (-|d|^beta x - beta |d|^(beta - 1) sign(d) ce) / N
def qualityfocalloss_backward(
    op: QualityFocalLoss, grad_outputs: Arrays, saved: Arrays, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of logits and targets."""
    x, t = saved
    scale, p, ce = grad_outputs[0] / x.shape[0], stable_sigmoid(x), binary_cross_entropy(x, t)
    d = p - t
    power, slope = np.abs(d) ** op.beta, op.beta * np.abs(d) ** (op.beta - 1) * np.sign(d)
    grad_x = scale * (power * d + slope * p * stable_sigmoid(-x) * ce) if needs.inputs[0] else None
    return (grad_x, scale * (-power * x - slope * ce) if needs.inputs[1] else None), {}


# loss = 1/m sum_e (x - t)^2
def meansquarederror_forward(
    op: MeanSquaredError, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Values and targets of one shape -> the mean over all elements."""
    difference = inputs[0] - inputs[1]
    return (np.asarray(np.square(difference).mean()),), difference, {}


# dloss/dx = 2 (x - t) / m = -dloss/dt
def meansquarederror_backward(
    op: MeanSquaredError, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of values and targets."""
    gradient = grad_outputs[0] * 2 * saved / saved.size
    return (gradient if needs.inputs[0] else None, -gradient if needs.inputs[1] else None), {}


# loss = 1/m sum_e (d^2 / (2 beta) if d < beta else d - beta / 2),   d = |x - t|
def smoothl1_forward(
    op: SmoothL1, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Values and targets of one shape -> the mean over all elements."""
    difference = inputs[0] - inputs[1]
    d = np.abs(difference)
    return (np.asarray(np.where(d < op.beta, np.square(d) / (2 * op.beta), d - op.beta / 2).mean()),), difference, {}


# dloss/dx = clip((x - t) / beta, -1, 1) / m = -dloss/dt
def smoothl1_backward(
    op: SmoothL1, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of values and targets."""
    gradient = grad_outputs[0] * np.clip(saved / op.beta, -1, 1) / saved.size
    return (gradient if needs.inputs[0] else None, -gradient if needs.inputs[1] else None), {}
