"""Element-wise functions: activations of the exponential family, and arithmetic. Any shape -> the same shape."""

from __future__ import annotations

import numpy as np

from fovea.engines.reference.activation import stable_sigmoid
from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.activation import ELU, SELU, Abs, Clip, Exp, Log, Mish, Softplus, Sqrt

__all__ = [
    "abs_backward",
    "abs_forward",
    "clip_backward",
    "clip_forward",
    "elu_backward",
    "elu_forward",
    "exp_backward",
    "exp_forward",
    "log_backward",
    "log_forward",
    "mish_backward",
    "mish_forward",
    "selu_backward",
    "selu_forward",
    "softplus_backward",
    "softplus_forward",
    "sqrt_backward",
    "sqrt_forward",
]


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))`` without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# y = x [x > 0] + alpha (exp(x) - 1) [x <= 0]
def elu_forward(op: ELU, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """Negative values approach -alpha."""
    (x,) = inputs
    return (np.where(x > 0, x, op.alpha * np.expm1(np.minimum(x, 0))),), x, {}


# dL/dx = delta ([x > 0] + alpha exp(x) [x <= 0])
def elu_backward(op: ELU, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """The slope of the exponential where the value was negative."""
    return (grad_outputs[0] * np.where(saved > 0, 1, op.alpha * np.exp(np.minimum(saved, 0))),), {}


# y = gamma (x [x > 0] + alpha (exp(x) - 1) [x <= 0])
def selu_forward(
    op: SELU, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """ELU, scaled."""
    (x,) = inputs
    return (op.gamma * np.where(x > 0, x, op.alpha * np.expm1(np.minimum(x, 0))),), x, {}


# dL/dx = delta gamma ([x > 0] + alpha exp(x) [x <= 0])
def selu_backward(op: SELU, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """As ELU, scaled."""
    slope = np.where(saved > 0, 1, op.alpha * np.exp(np.minimum(saved, 0)))
    return (grad_outputs[0] * op.gamma * slope,), {}


# y = log(1 + exp(x))
def softplus_forward(
    op: Softplus, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """A smooth ReLU."""
    (x,) = inputs
    return (softplus(x),), x, {}


# dL/dx = delta / (1 + exp(-x))
def softplus_backward(
    op: Softplus, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """The derivative is the sigmoid."""
    return (grad_outputs[0] * stable_sigmoid(saved),), {}


# y = x t,   t = tanh(log(1 + exp(x)))
def mish_forward(
    op: Mish, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """The input, gated smoothly."""
    (x,) = inputs
    return (x * np.tanh(softplus(x)),), x, {}


# dL/dx = delta (t + x (1 - t^2) / (1 + exp(-x)))
def mish_backward(op: Mish, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """Product rule, then the chain through tanh and softplus."""
    t = np.tanh(softplus(saved))
    return (grad_outputs[0] * (t + saved * (1 - t * t) * stable_sigmoid(saved)),), {}


# y = min(max(x, low), high)
def clip_forward(
    op: Clip, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Values are held between two ends."""
    (x,) = inputs
    return (np.minimum(np.maximum(x, op.low), op.high),), (x > op.low) & (x < op.high), {}


# dL/dx = delta [low < x < high]
def clip_backward(op: Clip, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """The gradient passes between the two ends."""
    return (np.where(saved, grad_outputs[0], 0),), {}


# y = exp(x)
def exp_forward(op: Exp, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """The exponential."""
    (x,) = inputs
    y = np.exp(x)
    return (y,), y, {}


# dL/dx = delta y
def exp_backward(op: Exp, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """Its own derivative."""
    return (grad_outputs[0] * saved,), {}


# y = log(x)
def log_forward(op: Log, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """The natural logarithm."""
    (x,) = inputs
    with np.errstate(divide="ignore", invalid="ignore"):  # -inf and NaN reach the user
        return (np.log(x),), x, {}


# dL/dx = delta / x
def log_backward(op: Log, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """One over the input."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (grad_outputs[0] / saved,), {}


# y = sqrt(x)
def sqrt_forward(
    op: Sqrt, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """The square root."""
    (x,) = inputs
    with np.errstate(invalid="ignore"):  # NaN reaches the user
        y = np.sqrt(x)
    return (y,), y, {}


# dL/dx = delta / (2 y)
def sqrt_backward(op: Sqrt, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """One over twice the output."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (grad_outputs[0] / (2 * saved),), {}


# y = |x|
def abs_forward(op: Abs, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """The magnitude."""
    (x,) = inputs
    return (np.abs(x),), x, {}


# dL/dx = delta sign(x)
def abs_backward(op: Abs, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """The sign, 0 at 0."""
    return (grad_outputs[0] * np.sign(saved),), {}
