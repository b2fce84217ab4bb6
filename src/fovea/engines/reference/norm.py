"""Normalisation: ``y = (x - mean) / sqrt(var + eps) * weight + bias``; the layers differ in what mean and var run over.

Backward, for all that take mean and var from their own input: with x^ = (x - mean) / sigma, g = delta * weight, and all
means over the same elements as the forward statistics,

    dL/dx = (g - mean(g) - x^ mean(g x^)) / sigma

The two subtracted terms are the paths through mean and var (Ioffe and Szegedy 2015, section 3, simplified).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.norm import LRN, BatchNorm, GroupNorm, LayerNorm, Normalize

__all__ = [
    "batchnorm_backward",
    "batchnorm_forward",
    "groupnorm_backward",
    "groupnorm_forward",
    "layernorm_backward",
    "layernorm_forward",
    "lrn_backward",
    "lrn_forward",
    "normalize_backward",
    "normalize_forward",
]


class Standardized(NamedTuple):
    """What backward needs: x^, 1 / sigma, and the axes of the statistics (None: they were constants)."""

    x_hat: Array
    inverse_sigma: Array
    axes: tuple[int, ...] | None


def standardize(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Standardized, Array, Array]:
    """x^ with mean 0 and variance 1 over the axes, and the mean and biased variance, of the shape that broadcasts."""
    mean = x.mean(axis=axes, keepdims=True)
    centred = x - mean
    var = np.square(centred).mean(axis=axes, keepdims=True)
    inverse_sigma = 1 / np.sqrt(var + eps)
    return Standardized(centred * inverse_sigma, inverse_sigma, axes), mean, var


# dL/dx = (g - mean(g) - x^ mean(g x^)) / sigma;   dL/dx = g / sigma where mean and var are constants
def standardize_backward(g: Array, saved: Standardized) -> Array:
    """The gradient through x^."""
    if saved.axes is None:
        return g * saved.inverse_sigma
    mean_g = g.mean(axis=saved.axes, keepdims=True)
    mean_gx = (g * saved.x_hat).mean(axis=saved.axes, keepdims=True)
    return (g - mean_g - saved.x_hat * mean_gx) * saved.inverse_sigma  # type: ignore[no-any-return]


def affine_gradients(delta: Array, x_hat: Array, needs: Needs) -> dict[str, Array]:
    """dL/dweight = sum(delta x^), dL/dbias = sum(delta), over all but the channels."""
    axes = tuple(range(delta.ndim - 1))
    gradients = {}
    if "weight" in needs.params:
        gradients["weight"] = (delta * x_hat).sum(axis=axes)  # C
    if "bias" in needs.params:
        gradients["bias"] = delta.sum(axis=axes)  # C
    return gradients


# training:  mean_c, var_c over N and all positions; running = (1 - momentum) running + momentum batch (var unbiased)
# inference: mean_c, var_c = running_mean, running_var
def batchnorm_forward(
    op: BatchNorm, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> the same."""
    (x,) = inputs
    new_buffers = {}
    if training:
        saved, mean, var = standardize(x, tuple(range(x.ndim - 1)), op.eps)
        count = x.size // x.shape[-1]
        unbiased = var * (count / max(count - 1, 1))  # of one single value there is no unbiased variance
        for name, batch in (("running_mean", mean), ("running_var", unbiased)):
            new_buffers[name] = (1 - op.momentum) * buffers[name] + op.momentum * batch.reshape(-1)  # C
    else:
        inverse_sigma = 1 / np.sqrt(buffers["running_var"] + op.eps)  # C
        saved = Standardized((x - buffers["running_mean"]) * inverse_sigma, inverse_sigma, None)
    return (saved.x_hat * params["weight"] + params["bias"],), saved, new_buffers


# g = delta weight, then through x^ (see the top of the file)
def batchnorm_backward(
    op: BatchNorm, grad_outputs: Arrays, saved: Standardized, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of the input, the weight and the bias."""
    (delta,) = grad_outputs
    grad_x = standardize_backward(delta * params["weight"], saved) if needs.inputs[0] else None
    return (grad_x,), affine_gradients(delta, saved.x_hat, needs)


# mean, var over the channels of each position
def layernorm_forward(
    op: LayerNorm, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> the same."""
    saved, _, _ = standardize(inputs[0], (inputs[0].ndim - 1,), op.eps)
    return (saved.x_hat * params["weight"] + params["bias"],), saved, {}


# g = delta weight, then through x^
def layernorm_backward(
    op: LayerNorm, grad_outputs: Arrays, saved: Standardized, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of the input, the weight and the bias."""
    (delta,) = grad_outputs
    grad_x = standardize_backward(delta * params["weight"], saved) if needs.inputs[0] else None
    return (grad_x,), affine_gradients(delta, saved.x_hat, needs)


# mean, var over all positions and the channels of one group, per sample
def groupnorm_forward(
    op: GroupNorm, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> the same."""
    (x,) = inputs
    grouped = x.reshape(x.shape[0], -1, op.groups, x.shape[-1] // op.groups)  # N,P,G,C/G
    saved, _, _ = standardize(grouped, (1, 3), op.eps)
    return (saved.x_hat.reshape(x.shape) * params["weight"] + params["bias"],), saved, {}  # N,*spatial,C


# g = delta weight, then through x^, group by group
def groupnorm_backward(
    op: GroupNorm, grad_outputs: Arrays, saved: Standardized, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of the input, the weight and the bias."""
    (delta,) = grad_outputs
    grad_x = None
    if needs.inputs[0]:
        g = (delta * params["weight"]).reshape(saved.x_hat.shape)  # N,P,G,C/G
        grad_x = standardize_backward(g, saved).reshape(delta.shape)  # N,*spatial,C
    return (grad_x,), affine_gradients(delta, saved.x_hat.reshape(delta.shape), needs)


# y_c = x_c D_c^-beta,   D_c = k + alpha / size * sum_{c' in window(c)} x_{c'}^2
def lrn_forward(op: LRN, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """N,*spatial,C -> the same."""
    (x,) = inputs
    below, above = (op.size - 1) // 2, op.size // 2
    scale = op.k + op.alpha / op.size * channel_window_sum(np.square(x), below, above)  # N,*spatial,C
    return (x * scale**-op.beta,), (x, scale), {}


# dL/dx_c = delta_c D_c^-beta - 2 alpha beta / size x_c sum_{c': c in window(c')} delta_{c'} x_{c'} D_{c'}^(-beta - 1)
def lrn_backward(op: LRN, grad_outputs: Arrays, saved: Arrays, params: Params, *, needs: Needs) -> BackwardResult:
    """The gradient of the input; a channel lies in the windows of its neighbours, seen from the other side."""
    (delta,), (x, scale) = grad_outputs, saved
    below, above = (op.size - 1) // 2, op.size // 2
    shared = channel_window_sum(delta * x * scale ** (-op.beta - 1), above, below)  # N,*spatial,C
    return (delta * scale**-op.beta - 2 * op.alpha * op.beta / op.size * x * shared,), {}


def channel_window_sum(x: Array, below: int, above: int) -> Array:
    """Sum over the channels c - below .. c + above that exist."""
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(below, above)])  # N,*spatial,below+C+above
    channels = x.shape[-1]
    total = np.zeros_like(x)
    for start in range(below + above + 1):
        total += padded[..., start : start + channels]
    return total


# y = (x scale - mean) / std
def normalize_forward(
    op: Normalize, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C, also uint8 -> the same, float."""
    (x,) = inputs
    x = x.astype(np.result_type(x.dtype, np.float32))
    x = x[..., ::-1] if op.order == "bgr" else x
    mean, std = np.asarray(op.mean, x.dtype), np.asarray(op.std, x.dtype)
    return ((x * op.scale - mean) / std,), None, {}


# dL/dx = delta scale / std
def normalize_backward(
    op: Normalize, grad_outputs: Arrays, saved: None, params: Params, *, needs: Needs
) -> BackwardResult:
    """The gradient of the input, in its own order of channels."""
    (delta,) = grad_outputs
    grad_x = delta * op.scale / np.asarray(op.std, delta.dtype)
    return (grad_x[..., ::-1] if op.order == "bgr" else grad_x,), {}
