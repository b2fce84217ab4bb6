"""Ops that behave differently in training or only touch the gradient, and LayerScale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fovea import random
from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.dropout import Dropout, LayerScale, StochasticDepth, StopGradient

__all__ = [
    "dropout_backward",
    "dropout_forward",
    "layerscale_backward",
    "layerscale_forward",
    "stochasticdepth_backward",
    "stochasticdepth_forward",
    "stopgradient_backward",
    "stopgradient_forward",
]


def scaled_mask(key: np.uint64, count: int, rate: float, dtype: np.dtype[Any]) -> Array:
    """count factors: 0 with probability rate, else ``1 / (1 - rate)``; word w is kept when ``w >= rate * 2**32``."""
    kept = random.bits(key, count) >= np.uint64(math.ceil(rate * 2**32))
    return kept.astype(dtype) / (1 - rate)


# training: y_e = x_e mask_e / (1 - rate);   inference: y = x
def dropout_forward(
    op: Dropout, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """One random word per element, in the order of the array."""
    (x,) = inputs
    if not training or key is None:
        return (x,), None, {}
    mask = scaled_mask(key, x.size, op.rate, x.dtype).reshape(x.shape)
    return (x * mask,), mask, {}


# dL/dx_e = delta_e mask_e / (1 - rate)
def dropout_backward(
    op: Dropout, grad_outputs: Arrays, saved: Array | None, params: Params, *, needs: Needs
) -> BackwardResult:
    """The same mask."""
    (delta,) = grad_outputs
    return (delta if saved is None else delta * saved,), {}


# training: y[n] = x[n] mask[n] / (1 - rate);   inference: y = x
def stochasticdepth_forward(
    op: StochasticDepth, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """One random word per sample."""
    (x,) = inputs
    if not training or key is None:
        return (x,), None, {}
    mask = scaled_mask(key, x.shape[0], op.rate, x.dtype).reshape(-1, *(1,) * (x.ndim - 1))  # N,1..
    return (x * mask,), mask, {}


# dL/dx[n] = delta[n] mask[n] / (1 - rate)
def stochasticdepth_backward(
    op: StochasticDepth, grad_outputs: Arrays, saved: Array | None, params: Params, *, needs: Needs
) -> BackwardResult:
    """The same mask."""
    (delta,) = grad_outputs
    return (delta if saved is None else delta * saved,), {}


# y_c = x_c weight_c
def layerscale_forward(
    op: LayerScale, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """One learned factor per channel."""
    (x,) = inputs
    return (x * params["weight"],), x, {}


# dL/dx_c = delta_c weight_c,   dL/dweight_c = sum delta_c x_c
def layerscale_backward(
    op: LayerScale, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of the input and the factors."""
    (delta,), x = grad_outputs, saved
    grad_params = {}
    if "weight" in needs.params:
        grad_params["weight"] = (delta * x).sum(axis=tuple(range(x.ndim - 1)))  # C
    return (delta * params["weight"],), grad_params


# y = x
def stopgradient_forward(
    op: StopGradient, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Identity."""
    return inputs, None, {}


# dL/dx = 0
def stopgradient_backward(
    op: StopGradient, grad_outputs: Arrays, saved: None, params: Params, *, needs: Needs
) -> BackwardResult:
    """No gradient passes."""
    return (np.zeros_like(grad_outputs[0]),), {}
