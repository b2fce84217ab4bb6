"""Resampling of feature maps, one axis after the other."""

from __future__ import annotations

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.resize import Resize

__all__ = ["resize_backward", "resize_forward"]


# along each axis: y[o] = (1 - w_o) x[low_o] + w_o x[high_o]
def resize_forward(
    op: Resize, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> N,*out,C."""
    (x,) = inputs
    (target,) = op.output_shapes(x.shape[1:])
    shape = x.shape
    for axis in range(1, x.ndim - 1):
        low, high, weight = _taps(op, x, axis, target[axis - 1] or 0)
        x = (1 - weight) * x.take(low, axis) + weight * x.take(high, axis) if weight.any() else x.take(low, axis)
    return (x,), shape, {}


# along each axis, in the opposite order: dL/dx[low_o] += (1 - w_o) delta[o],   dL/dx[high_o] += w_o delta[o]
def resize_backward(
    op: Resize, grad_outputs: Arrays, saved: tuple[int, ...], params: Params, *, needs: Needs
) -> BackwardResult:
    """Every tap gets its share back."""
    (gradient,) = grad_outputs
    for axis in reversed(range(1, len(saved) - 1)):
        shape = (*gradient.shape[:axis], saved[axis], *gradient.shape[axis + 1 :])
        folded = np.zeros(shape, gradient.dtype)
        low, high, weight = _taps(op, folded, axis, gradient.shape[axis])
        np.add.at(folded.swapaxes(0, axis), low, ((1 - weight) * gradient).swapaxes(0, axis))
        np.add.at(folded.swapaxes(0, axis), high, (weight * gradient).swapaxes(0, axis))
        gradient = folded
    return (gradient,), {}


def _taps(op: Resize, x: Array, axis: int, out_size: int) -> tuple[Array, Array, Array]:
    """low and high indices, and the weight of high in a shape that broadcasts along the axis."""
    low, high, weight = op.taps(x.shape[axis], out_size)
    column = np.asarray(weight, x.dtype).reshape(-1, *(1,) * (x.ndim - 1 - axis))  # out,1..
    return np.asarray(low), np.asarray(high), column
