"""Resampling of feature maps, one axis after the other."""

from __future__ import annotations

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.resize import Resize

__all__ = ["resize_backward", "resize_forward"]


# along each axis: y[o] = sum over taps t of w_ot x[i_ot]
def resize_forward(
    op: Resize, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> N,*out,C."""
    (x,) = inputs
    (target,) = op.output_shapes(x.shape[1:])
    shape = x.shape
    for axis in range(1, x.ndim - 1):
        y = np.zeros((*x.shape[:axis], target[axis - 1] or 0, *x.shape[axis + 1 :]), x.dtype)
        for index, weight in _taps(op, x, axis, y.shape[axis]):
            y += weight * x.take(index, axis)
        x = y
    return (x,), shape, {}


# along each axis, in the opposite order: dL/dx[i_ot] += w_ot delta[o]
def resize_backward(
    op: Resize, grad_outputs: Arrays, saved: tuple[int, ...], params: Params, *, needs: Needs
) -> BackwardResult:
    """Every tap gets its share back."""
    (gradient,) = grad_outputs
    for axis in reversed(range(1, len(saved) - 1)):
        shape = (*gradient.shape[:axis], saved[axis], *gradient.shape[axis + 1 :])
        folded = np.zeros(shape, gradient.dtype)
        for index, weight in _taps(op, folded, axis, gradient.shape[axis]):
            np.add.at(folded.swapaxes(0, axis), index, (weight * gradient).swapaxes(0, axis))
        gradient = folded
    return (gradient,), {}


def _taps(op: Resize, x: Array, axis: int, out_size: int) -> list[tuple[Array, Array]]:
    """For every tap: its index for all outputs, and its weight in a shape that broadcasts along the axis."""
    index, weight = op.taps(axis - 1, x.shape[axis], out_size)
    columns = np.asarray(weight, x.dtype).reshape(*weight.shape, *(1,) * (x.ndim - 1 - axis))  # out,taps,1..
    return [(index[:, tap], columns[:, tap]) for tap in range(index.shape[1])]
