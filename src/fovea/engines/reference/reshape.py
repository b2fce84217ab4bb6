"""Ops that move or pick elements. Backward moves the gradient back, and adds where an element was used twice."""

from __future__ import annotations

import math

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.reshape import ChannelShuffle, Constant, Flatten, Pad, Reduce, Reshape, Slice, Split, Transpose

__all__ = [
    "channelshuffle_backward",
    "channelshuffle_forward",
    "constant_backward",
    "constant_forward",
    "flatten_backward",
    "flatten_forward",
    "pad_backward",
    "pad_forward",
    "reduce_backward",
    "reduce_forward",
    "reshape_backward",
    "reshape_forward",
    "slice_backward",
    "slice_forward",
    "split_backward",
    "split_forward",
    "transpose_backward",
    "transpose_forward",
]

ShapeOf = tuple[int, ...]

_NUMPY_MODES = {"zero": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


# y = value, the same for every sample
def constant_forward(
    op: Constant, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """No input -> 1,*shape; the plan repeats it for the n samples of the call."""
    return (buffers["value"][None],), None, {}  # 1,*shape


# nothing to differentiate
def constant_backward(
    op: Constant, grad_outputs: Arrays, saved: None, params: Params, *, needs: Needs
) -> BackwardResult:
    """A constant has no inputs."""
    return (), {}


# y[n, flat(i, j, c)] = x[n, i, j, c]
def flatten_forward(
    op: Flatten, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*any -> N,(product of all)."""
    (x,) = inputs
    return (x.reshape(x.shape[0], -1),), x.shape, {}  # N,size


# dL/dx[n, i, j, c] = delta[n, flat(i, j, c)]
def flatten_backward(
    op: Flatten, grad_outputs: Arrays, saved: ShapeOf, params: Params, *, needs: Needs
) -> BackwardResult:
    """The same numbers in the old shape."""
    return (grad_outputs[0].reshape(saved),), {}


# the same numbers in the same order
def reshape_forward(
    op: Reshape, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*any -> N,*shape."""
    (x,) = inputs
    return (x.reshape(x.shape[0], *op.shape),), x.shape, {}  # N,*shape


# the same numbers in the same order
def reshape_backward(
    op: Reshape, grad_outputs: Arrays, saved: ShapeOf, params: Params, *, needs: Needs
) -> BackwardResult:
    """The same numbers in the old shape."""
    return (grad_outputs[0].reshape(saved),), {}


# output axis i = input axis perm[i]
def transpose_forward(
    op: Transpose, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Axes in another order."""
    return (inputs[0].transpose(op.perm),), None, {}


# input axis perm[i] = output axis i
def transpose_backward(
    op: Transpose, grad_outputs: Arrays, saved: None, params: Params, *, needs: Needs
) -> BackwardResult:
    """The inverse permutation."""
    return (grad_outputs[0].transpose(np.argsort(op.perm)),), {}


# y = x[start:stop:step, ...]
def slice_forward(
    op: Slice, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """The chosen part."""
    (x,) = inputs
    return (x[(slice(None), *op.slices(x.shape[1:]))],), x.shape, {}


# dL/dx[start:stop:step, ...] = delta, 0 elsewhere
def slice_backward(op: Slice, grad_outputs: Arrays, saved: ShapeOf, params: Params, *, needs: Needs) -> BackwardResult:
    """The gradient in its place among zeros."""
    (delta,) = grad_outputs
    grad_x = np.zeros(saved, delta.dtype)
    grad_x[(slice(None), *op.slices(saved[1:]))] = delta
    return (grad_x,), {}


# y_1, y_2, ... = consecutive pieces of x along one axis
def split_forward(
    op: Split, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """One input -> as many outputs as sizes."""
    return tuple(np.split(inputs[0], np.cumsum(op.sizes)[:-1], axis=op.axis)), None, {}


# dL/dx = [delta_1, delta_2, ...]
def split_backward(op: Split, grad_outputs: Arrays, saved: None, params: Params, *, needs: Needs) -> BackwardResult:
    """The pieces joined again."""
    return (np.concatenate(grad_outputs, axis=op.axis),), {}


# y[..., i G + g] = x[..., g (C / G) + i] with G groups
def channelshuffle_forward(
    op: ChannelShuffle, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C -> the same."""
    (x,) = inputs
    table = x.reshape(*x.shape[:-1], op.groups, -1)  # N,*spatial,G,C/G
    return (table.swapaxes(-1, -2).reshape(x.shape),), None, {}  # N,*spatial,C


# dL/dx[..., g (C / G) + i] = delta[..., i G + g]
def channelshuffle_backward(
    op: ChannelShuffle, grad_outputs: Arrays, saved: None, params: Params, *, needs: Needs
) -> BackwardResult:
    """The shuffle undone."""
    (delta,) = grad_outputs
    table = delta.reshape(*delta.shape[:-1], -1, op.groups)  # N,*spatial,C/G,G
    return (table.swapaxes(-1, -2).reshape(delta.shape),), {}  # N,*spatial,C


# y[p] = x[source(p)], or the value where there is no source
def pad_forward(op: Pad, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key) -> ForwardResult:
    """N,*any -> N,*larger."""
    (x,) = inputs
    widths = [(0, 0), *op.pairs(x.shape[1:])]
    if op.mode == "zero":
        return (np.pad(x, widths, constant_values=op.value),), x.shape, {}
    return (np.pad(x, widths, _NUMPY_MODES[op.mode]),), x.shape, {}  # type: ignore[call-overload]


# dL/dx[q] = sum of delta[p] over all p with source(p) = q
def pad_backward(op: Pad, grad_outputs: Arrays, saved: ShapeOf, params: Params, *, needs: Needs) -> BackwardResult:
    """Axis by axis: what was repeated adds up, what was new is dropped."""
    (gradient,) = grad_outputs
    for axis, (lo, hi) in enumerate(op.pairs(saved[1:]), start=1):
        size = saved[axis]
        moved = gradient.swapaxes(0, axis)
        folded = np.zeros((size, *moved.shape[1:]), gradient.dtype)
        if op.mode == "zero":
            folded += moved[lo : lo + size]
        else:
            source = np.pad(np.arange(size), (lo, hi), _NUMPY_MODES[op.mode])  # type: ignore[call-overload]
            np.add.at(folded, source, moved)
        gradient = folded.swapaxes(0, axis)
    return (gradient,), {}


# mean: y = 1/m sum_i x_i;   sum: y = sum_i x_i;   max: y = max_i x_i
def reduce_forward(
    op: Reduce, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*any -> the reduced axes gone, or of size 1."""
    (x,) = inputs
    axes = tuple(axis + 1 for axis in op.sample_axes(x.shape[1:]))
    if op.reduction != "max":
        function = np.mean if op.reduction == "mean" else np.sum
        return (function(x, axis=axes, keepdims=op.keepdims),), (x.shape, None), {}
    rows = _rows(x, axes)  # N,*others,m
    winner = rows.argmax(axis=-1)[..., None]  # N,*others,1: the first maximum
    return (x.max(axis=axes, keepdims=op.keepdims),), (x.shape, winner), {}


# mean: dL/dx_i = delta / m;   sum: delta;   max: delta for the first maximum, else 0
def reduce_backward(
    op: Reduce, grad_outputs: Arrays, saved: tuple[ShapeOf, Array | None], params: Params, *, needs: Needs
) -> BackwardResult:
    """The gradient spread over what was reduced."""
    (delta,), (shape, winner) = grad_outputs, saved
    axes = tuple(axis + 1 for axis in op.sample_axes(shape[1:]))
    if winner is None:
        full = delta.reshape([1 if i in axes else size for i, size in enumerate(shape)])  # N,..1..
        count = math.prod(shape[axis] for axis in axes) if op.reduction == "mean" else 1
        return (np.broadcast_to(full / count, shape),), {}
    others = [i for i in range(len(shape)) if i not in axes]
    rows = np.zeros((*winner.shape[:-1], math.prod(shape[axis] for axis in axes)), delta.dtype)  # N,*others,m
    np.put_along_axis(rows, winner, delta.reshape(winner.shape), axis=-1)
    spread = rows.reshape([shape[i] for i in (*others, *axes)])  # N,*others,*reduced
    return (spread.transpose(np.argsort((*others, *axes))),), {}  # N,*any


def _rows(x: Array, axes: tuple[int, ...]) -> Array:
    """The reduced axes moved to the end and made one: N,*others,m."""
    others = [i for i in range(x.ndim) if i not in axes]
    return x.transpose(*others, *axes).reshape(*(x.shape[i] for i in others), -1)
