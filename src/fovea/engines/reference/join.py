"""Ops that join several activations.

Shapes broadcast per sample, aligned at the channels; the gradient is summed over what was repeated.
"""

from __future__ import annotations

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.join import Add, Concat, Div, Multiply, Sub

__all__ = [
    "add_backward",
    "add_forward",
    "concat_backward",
    "concat_forward",
    "div_backward",
    "div_forward",
    "multiply_backward",
    "multiply_forward",
    "sub_backward",
    "sub_forward",
]

Shapes = tuple[tuple[int, ...], ...]


def aligned(inputs: Arrays) -> Arrays:
    """Views of one number of axes: N,C beside N,H,W,C becomes N,1,1,C. Scalars (losses) stay scalars."""
    ndim = max(x.ndim for x in inputs)
    return tuple(x.reshape(x.shape[0], *(1,) * (ndim - x.ndim), *x.shape[1:]) if x.ndim else x for x in inputs)


def summed_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of an input of that shape: summed over the axes in which the input was repeated."""
    if not shape:
        return gradient.sum()  # type: ignore[no-any-return]
    full = (shape[0], *(1,) * (gradient.ndim - len(shape)), *shape[1:])  # N,1..,*shape
    repeated = tuple(i for i, (big, small) in enumerate(zip(gradient.shape, full, strict=True)) if big != small)
    return gradient.sum(axis=repeated, keepdims=True).reshape(shape)  # type: ignore[no-any-return]


# y = x_1 + x_2 + ...
def add_forward(op: Add, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """Two or more inputs -> their broadcast shape."""
    first, *others = aligned(inputs)
    for other in others:
        first = first + other
    return (first,), tuple(x.shape for x in inputs), {}


# dL/dx_i = delta
def add_backward(op: Add, grad_outputs: Arrays, saved: Shapes, params: Params, *, needs: Needs) -> BackwardResult:
    """Everyone gets the gradient."""
    (delta,) = grad_outputs
    return tuple(summed_to(delta, shape) if need else None for shape, need in zip(saved, needs.inputs, strict=True)), {}


# y = a - b
def sub_forward(op: Sub, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """Two inputs -> their broadcast shape."""
    a, b = aligned(inputs)
    return (a - b,), tuple(x.shape for x in inputs), {}


# dL/da = delta,   dL/db = -delta
def sub_backward(op: Sub, grad_outputs: Arrays, saved: Shapes, params: Params, *, needs: Needs) -> BackwardResult:
    """The second with the other sign."""
    (delta,) = grad_outputs
    grad_a = summed_to(delta, saved[0]) if needs.inputs[0] else None
    grad_b = summed_to(-delta, saved[1]) if needs.inputs[1] else None
    return (grad_a, grad_b), {}


# y = a b
def multiply_forward(
    op: Multiply, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Two inputs -> their broadcast shape."""
    a, b = aligned(inputs)
    return (a * b,), inputs, {}


# dL/da = delta b,   dL/db = delta a
def multiply_backward(
    op: Multiply, grad_outputs: Arrays, saved: Arrays, params: Params, *, needs: Needs
) -> BackwardResult:
    """Each with the other factor."""
    (delta,), (a, b) = grad_outputs, aligned(saved)
    grad_a = summed_to(delta * b, saved[0].shape) if needs.inputs[0] else None
    grad_b = summed_to(delta * a, saved[1].shape) if needs.inputs[1] else None
    return (grad_a, grad_b), {}


# y = a / b
def div_forward(op: Div, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """Two inputs -> their broadcast shape."""
    a, b = aligned(inputs)
    return (a / b,), inputs, {}


# dL/da = delta / b,   dL/db = -delta a / b^2
def div_backward(op: Div, grad_outputs: Arrays, saved: Arrays, params: Params, *, needs: Needs) -> BackwardResult:
    """Quotient rule."""
    (delta,), (a, b) = grad_outputs, aligned(saved)
    grad_a = summed_to(delta / b, saved[0].shape) if needs.inputs[0] else None
    grad_b = summed_to(-delta * a / (b * b), saved[1].shape) if needs.inputs[1] else None
    return (grad_a, grad_b), {}


# y = [x_1, x_2, ...] along one axis
def concat_forward(
    op: Concat, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Sizes along the axis add up."""
    return (np.concatenate(inputs, axis=op.axis),), [x.shape[op.axis] for x in inputs], {}


# dL/dx_i = the i-th piece of delta
def concat_backward(
    op: Concat, grad_outputs: Arrays, saved: list[int], params: Params, *, needs: Needs
) -> BackwardResult:
    """The gradient is cut where the inputs met."""
    pieces = np.split(grad_outputs[0], np.cumsum(saved)[:-1], axis=op.axis)
    return tuple(piece if need else None for piece, need in zip(pieces, needs.inputs, strict=True)), {}
