"""Element-wise activations, and softmax. All: any shape -> the same shape."""

from __future__ import annotations

import math

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.activation import (
    GELU,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)

__all__ = [
    "gelu_backward",
    "gelu_forward",
    "hardsigmoid_backward",
    "hardsigmoid_forward",
    "hardswish_backward",
    "hardswish_forward",
    "leakyrelu_backward",
    "leakyrelu_forward",
    "prelu_backward",
    "prelu_forward",
    "relu6_backward",
    "relu6_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softmax_backward",
    "softmax_forward",
    "stable_sigmoid",
    "tanh_backward",
    "tanh_forward",
]

# The error function of the standard library, element by element: NumPy has none.
_erf = np.vectorize(math.erf, otypes=[np.float64])


def stable_sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))`` without overflow: for x < 0 it is ``exp(x) / (1 + exp(x))``."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)  # type: ignore[no-any-return]


# y = max(0, x)
def relu_forward(
    op: ReLU, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Negative values become 0."""
    (x,) = inputs
    return (np.maximum(x, 0),), x > 0, {}


# standard: delta [x > 0];   deconv: delta [delta > 0];   guided: delta [x > 0] [delta > 0]
def relu_backward(op: ReLU, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """The rule that the op names; the derivative at 0 is 0."""
    (delta,) = grad_outputs
    return (np.where(_passes(op, saved, delta), delta, 0),), {}


def _passes(op: ReLU | ReLU6, linear: Array, delta: Array) -> Array:
    """Where the gradient passes; ``linear``: where the output moves with the input."""
    return {"standard": linear, "deconv": delta > 0, "guided": linear & (delta > 0)}[op.backward_rule]


# y = min(max(0, x), 6)
def relu6_forward(
    op: ReLU6, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Values are held between 0 and 6."""
    (x,) = inputs
    return (np.minimum(np.maximum(x, 0), 6),), (x > 0) & (x < 6), {}


# standard: delta [0 < x < 6];   deconv: delta [delta > 0];   guided: delta [0 < x < 6] [delta > 0]
def relu6_backward(op: ReLU6, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """The rule that the op names; the derivative at both ends is 0."""
    (delta,) = grad_outputs
    return (np.where(_passes(op, saved, delta), delta, 0),), {}


# y = x [x > 0] + slope x [x <= 0]
def leakyrelu_forward(
    op: LeakyReLU, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Negative values are scaled."""
    (x,) = inputs
    return (np.where(x > 0, x, op.negative_slope * x),), x > 0, {}


# dL/dx = delta ([x > 0] + slope [x <= 0])
def leakyrelu_backward(
    op: LeakyReLU, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """The gradient is scaled where the value was."""
    (delta,) = grad_outputs
    return (np.where(saved, delta, op.negative_slope * delta),), {}


# y_c = x_c [x_c > 0] + weight_c x_c [x_c <= 0]
def prelu_forward(
    op: PReLU, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Negative values are scaled by a learned slope per channel."""
    (x,) = inputs
    return (np.where(x > 0, x, params["weight"] * x),), x, {}


# dL/dx_c = delta_c ([x_c > 0] + weight_c [x_c <= 0]),   dL/dweight_c = sum delta_c x_c [x_c <= 0]
def prelu_backward(op: PReLU, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """Gradients of the input and the slopes."""
    (delta,), x = grad_outputs, saved
    grad_params = {}
    if "weight" in needs.params:
        grad_params["weight"] = np.where(x > 0, 0, delta * x).sum(axis=tuple(range(x.ndim - 1)))  # C
    return (np.where(x > 0, delta, params["weight"] * delta),), grad_params


# y = s(x) = 1 / (1 + exp(-x))
def sigmoid_forward(
    op: Sigmoid, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Any number to (0, 1)."""
    output = stable_sigmoid(inputs[0])
    return (output,), output, {}


# dL/dx = delta y (1 - y)
def sigmoid_backward(
    op: Sigmoid, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """From the output alone."""
    return (grad_outputs[0] * saved * (1 - saved),), {}


# y = tanh(x)
def tanh_forward(
    op: Tanh, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Any number to (-1, 1)."""
    output = np.tanh(inputs[0])
    return (output,), output, {}


# dL/dx = delta (1 - y^2)
def tanh_backward(op: Tanh, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """From the output alone."""
    return (grad_outputs[0] * (1 - np.square(saved)),), {}


# y = x s(x)
def silu_forward(
    op: SiLU, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """The input, gated by its own sigmoid."""
    (x,) = inputs
    return (x * stable_sigmoid(x),), x, {}


# dL/dx = delta s (1 + x (1 - s))
def silu_backward(op: SiLU, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """Product rule on x s(x)."""
    s = stable_sigmoid(saved)
    return (grad_outputs[0] * s * (1 + saved * (1 - s)),), {}


# y = x Phi(x),  Phi(x) = (1 + erf(x / sqrt 2)) / 2
# tanh form: y = x (1 + tanh u) / 2,  u = sqrt(2 / pi) (x + 0.044715 x^3)
def gelu_forward(
    op: GELU, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """The input times the probability that a normal number is below it."""
    (x,) = inputs
    return (x * _phi(op, x),), x, {}


# dL/dx = delta (Phi(x) + x Phi'(x))
def gelu_backward(op: GELU, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """Product rule; Phi' is the normal density, or the tanh form's own derivative."""
    x = saved
    if op.approximate == "tanh":
        u, du = _tanh_argument(x)
        slope = (1 - np.square(np.tanh(u))) * du / 2
    else:
        slope = np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)
    return (grad_outputs[0] * (_phi(op, x) + x * slope),), {}


def _phi(op: GELU, x: Array) -> Array:
    if op.approximate == "tanh":
        return (1 + np.tanh(_tanh_argument(x)[0])) / 2
    return ((1 + _erf(x / math.sqrt(2))) / 2).astype(x.dtype)  # type: ignore[no-any-return]


def _tanh_argument(x: Array) -> tuple[Array, Array]:
    """u and du/dx of the tanh form."""
    factor = math.sqrt(2 / math.pi)
    return factor * (x + 0.044715 * x**3), factor * (1 + 3 * 0.044715 * np.square(x))


# y = min(max(alpha x + beta, 0), 1)
def hardsigmoid_forward(
    op: HardSigmoid, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """A straight line, held between 0 and 1."""
    line = op.alpha * inputs[0] + op.beta
    return (np.clip(line, 0, 1),), (line > 0) & (line < 1), {}


# dL/dx = delta alpha [0 < alpha x + beta < 1]
def hardsigmoid_backward(
    op: HardSigmoid, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """The slope between the two ends."""
    return (np.where(saved, op.alpha * grad_outputs[0], 0),), {}


# y = x h(x),   h(x) = min(max(x / 6 + 1/2, 0), 1)
def hardswish_forward(
    op: HardSwish, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """The input, gated by a straight line."""
    (x,) = inputs
    return (x * np.clip(x / 6 + 0.5, 0, 1),), x, {}


# dL/dx = delta (h(x) + x / 6 [-3 < x < 3])
def hardswish_backward(
    op: HardSwish, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """Product rule on x h(x)."""
    x = saved
    return (grad_outputs[0] * (np.clip(x / 6 + 0.5, 0, 1) + np.where(np.abs(x) < 3, x / 6, 0)),), {}


# y_i = exp(x_i) / sum_j exp(x_j), shifted by the maximum so that nothing overflows
def softmax_forward(
    op: Softmax, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Logits to probabilities along one axis."""
    (x,) = inputs
    raised = np.exp(x - x.max(axis=op.axis, keepdims=True))
    output = raised / raised.sum(axis=op.axis, keepdims=True)
    return (output,), output, {}


# dL/dx_i = y_i (delta_i - sum_j delta_j y_j)
def softmax_backward(
    op: Softmax, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """From the output alone."""
    (delta,), y = grad_outputs, saved
    return (y * (delta - (delta * y).sum(axis=op.axis, keepdims=True)),), {}
