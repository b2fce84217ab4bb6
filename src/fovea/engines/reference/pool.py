"""Pooling: the maximum or mean of windows, of bins, of whole feature maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.engines.reference.shifted import crop, offsets, pad, shifted
from fovea.ops.pool import AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool

__all__ = [
    "adaptiveavgpool_backward",
    "adaptiveavgpool_forward",
    "avgpool_backward",
    "avgpool_forward",
    "globalavgpool_backward",
    "globalavgpool_forward",
    "globalmaxpool_backward",
    "globalmaxpool_forward",
    "maxpool_backward",
    "maxpool_forward",
]


# Y[n, i, c] = max_m X[n, i s + m d - p, c]; winner[n, i, c] = the first m that reaches it
def maxpool_forward(
    op: MaxPool, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> N,*out,C."""
    (x,) = inputs
    axes = op.windows(x.shape[1:])
    padded = pad(x, axes, value=-np.inf)  # N,*padded,C: padding never wins
    output = np.full((x.shape[0], *(axis.output or 0 for axis in axes), x.shape[-1]), -np.inf, x.dtype)
    winner = np.zeros(output.shape, np.int64)
    for number, m in enumerate(offsets(axes)):
        candidate = padded[shifted(axes, m)]  # N,*out,C
        winner[candidate > output] = number  # strictly greater: a tie stays with the first
        output = np.maximum(output, candidate)  # and not a number stays visible
    return (output,), (winner, x.shape), {}


# dL/dX[n, i s + m d - p, c] += delta[n, i, c] where winner[n, i, c] == m
def maxpool_backward(
    op: MaxPool, grad_outputs: Arrays, saved: tuple[Array, tuple[int, ...]], params: Params, *, needs: Needs
) -> BackwardResult:
    """The gradient goes to the first maximum of each window."""
    (delta,), (winner, shape) = grad_outputs, saved
    axes = op.windows(shape[1:])
    padded = pad(np.zeros(shape, delta.dtype), axes)  # N,*padded,C
    for number, m in enumerate(offsets(axes)):
        padded[shifted(axes, m)] += np.where(winner == number, delta, 0)
    return (crop(padded, axes),), {}


# Y[n, i, c] = 1 / count[i] sum_m X[n, i s + m d - p, c]
def avgpool_forward(
    op: AvgPool, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> N,*out,C."""
    (x,) = inputs
    axes = op.windows(x.shape[1:])
    padded = pad(x, axes)  # N,*padded,C
    total = np.zeros((x.shape[0], *(axis.output or 0 for axis in axes), x.shape[-1]), x.dtype)
    for m in offsets(axes):
        total += padded[shifted(axes, m)]  # N,*out,C
    return (total / window_counts(op, x.shape, x.dtype),), x.shape, {}


# dL/dX[n, i s + m d - p, c] += delta[n, i, c] / count[i]
def avgpool_backward(
    op: AvgPool, grad_outputs: Arrays, saved: tuple[int, ...], params: Params, *, needs: Needs
) -> BackwardResult:
    """Every element of a window gets an equal share."""
    (delta,), shape = grad_outputs, saved
    axes = op.windows(shape[1:])
    share = delta / window_counts(op, shape, delta.dtype)  # N,*out,C
    padded = pad(np.zeros(shape, delta.dtype), axes)  # N,*padded,C
    for m in offsets(axes):
        padded[shifted(axes, m)] += share
    return (crop(padded, axes),), {}


def window_counts(op: AvgPool, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """How many elements each window counts: *out,1."""
    counts = np.ones((), dtype)
    for one_axis in op.counts(shape[1:]):
        counts = counts[..., None] * np.asarray(one_axis, dtype)  # one more spatial axis
    return counts[..., None]  # *out,1


# Y[n, i, c] = mean of X[n, start_i : stop_i, c]
def adaptiveavgpool_forward(
    op: AdaptiveAvgPool, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> N,*output_size,C."""
    (x,) = inputs
    bins = op.bins(x.shape[1:])
    output = np.empty((x.shape[0], *(len(axis) for axis in bins), x.shape[-1]), x.dtype)
    spatial = tuple(range(1, x.ndim - 1))
    for i in np.ndindex(*output.shape[1:-1]):
        box = tuple(slice(*axis[position]) for axis, position in zip(bins, i, strict=True))
        output[(slice(None), *i)] = x[(slice(None), *box)].mean(axis=spatial)  # N,C
    return (output,), x.shape, {}


# dL/dX[n, start_i : stop_i, c] += delta[n, i, c] / size of the bin
def adaptiveavgpool_backward(
    op: AdaptiveAvgPool, grad_outputs: Arrays, saved: tuple[int, ...], params: Params, *, needs: Needs
) -> BackwardResult:
    """Every element of a bin gets an equal share; bins may overlap."""
    (delta,), shape = grad_outputs, saved
    bins = op.bins(shape[1:])
    grad_x = np.zeros(shape, delta.dtype)
    for i in np.ndindex(*delta.shape[1:-1]):
        box = tuple(slice(*axis[position]) for axis, position in zip(bins, i, strict=True))
        share = delta[(slice(None), *i)] / math.prod(one.stop - one.start for one in box)  # N,C
        grad_x[(slice(None), *box)] += share.reshape(shape[0], *(1,) * len(box), shape[-1])  # N,*bin,C
    return (grad_x,), {}


# Y[n, c] = 1 / P sum_p X[n, p, c] over all P positions
def globalavgpool_forward(
    op: GlobalAvgPool, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> N,C (keepdims: N,1..,C)."""
    (x,) = inputs
    return (x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=op.keepdims),), x.shape, {}


# dL/dX[n, p, c] = delta[n, c] / P
def globalavgpool_backward(
    op: GlobalAvgPool, grad_outputs: Arrays, saved: tuple[int, ...], params: Params, *, needs: Needs
) -> BackwardResult:
    """Every position gets an equal share."""
    (delta,), shape = grad_outputs, saved
    share = delta.reshape(shape[0], *(1,) * (len(shape) - 2), shape[-1]) / math.prod(shape[1:-1])  # N,1..,C
    return (np.broadcast_to(share, shape),), {}


# Y[n, c] = max_p X[n, p, c]; winner[n, c] = the first p that reaches it
def globalmaxpool_forward(
    op: GlobalMaxPool, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> N,C (keepdims: N,1..,C)."""
    (x,) = inputs
    flat = x.reshape(x.shape[0], -1, x.shape[-1])  # N,P,C
    winner = flat.argmax(axis=1, keepdims=True)  # N,1,C
    output = np.take_along_axis(flat, winner, axis=1)  # N,1,C
    kept = (1,) * (x.ndim - 2) if op.keepdims else ()
    return (output.reshape(x.shape[0], *kept, x.shape[-1]),), (winner, x.shape), {}


# dL/dX[n, p, c] = delta[n, c] where p == winner[n, c], else 0
def globalmaxpool_backward(
    op: GlobalMaxPool, grad_outputs: Arrays, saved: tuple[Array, tuple[int, ...]], params: Params, *, needs: Needs
) -> BackwardResult:
    """The gradient goes to the first maximum."""
    (delta,), (winner, shape) = grad_outputs, saved
    grad_x = np.zeros((shape[0], math.prod(shape[1:-1]), shape[-1]), delta.dtype)  # N,P,C
    np.put_along_axis(grad_x, winner, delta.reshape(shape[0], 1, shape[-1]), axis=1)
    return (grad_x.reshape(shape),), {}  # N,*spatial,C
