"""Convolution and its transpose, for any number of spatial axes.

With input X, filter F, output O and delta = dL/dO, and for 2-D, stride 1, no padding:

    O[i, j]     = sum_{m, n}  X[i + m, j + n] @ F[m, n]
    dL/dF[m, n] = sum_{i, j}  X[i + m, j + n]^T @ delta[i, j]
    dL/dX[p, q] = sum_{m, n}  delta[p - m, q - n] @ F[m, n]^T        (only where delta exists)

Each F[m, n] is a C_in x C_out matrix, so for one offset (m, n) all positions together are one matrix product. Stride,
dilation and padding only change which slice of the padded input an offset meets.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.engines.reference.shifted import crop, offsets, pad, shifted
from fovea.ops.conv import Conv, ConvTranspose
from fovea.ops.window import Axis

__all__ = ["conv_backward", "conv_forward", "convtranspose_backward", "convtranspose_forward"]


# O[n, i] = bias + sum_m X[n, i s + m d - p] @ F[m]
def conv_forward(
    op: Conv, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C_in -> N,*out,C_out."""
    (x,) = inputs
    output = correlate(x, params["weight"], op.windows(x.shape[1:]), op.groups)  # N,*out,Cout
    if op.use_bias:
        output += params["bias"]
    return (output,), x, {}


# dL/dX[n, i s + m d - p] += delta[n, i] @ F[m]^T,   dL/dF[m] = sum_{n, i} X[n, i s + m d - p]^T @ delta[n, i]
def conv_backward(op: Conv, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs) -> BackwardResult:
    """Gradients of the input, the weight and the bias."""
    (delta,), x = grad_outputs, saved
    axes = op.windows(x.shape[1:])
    grad_params = {}
    if "weight" in needs.params:
        grad_params["weight"] = weight_gradient(x, delta, axes, op.groups)  # *kernel,Cin/groups,Cout
    if "bias" in needs.params:
        grad_params["bias"] = delta.sum(axis=tuple(range(delta.ndim - 1)))  # Cout
    grad_x = correlate_transposed(delta, params["weight"], axes, op.groups) if needs.inputs[0] else None
    return (grad_x,), grad_params


# O[n, i s + m d - p] += X[n, i] @ F[m]^T: what Conv's backward does to delta
def convtranspose_forward(
    op: ConvTranspose, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """N,*spatial,C_in -> N,*larger,C_out."""
    (x,) = inputs
    output = correlate_transposed(x, params["weight"], op.windows(x.shape[1:]), op.groups)  # N,*larger,Cout
    if op.use_bias:
        output = output + params["bias"]
    return (output,), x, {}


# dL/dX[n, i] = sum_m delta[n, i s + m d - p] @ F[m]: a plain convolution of delta
def convtranspose_backward(
    op: ConvTranspose, grad_outputs: Arrays, saved: Array, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of the input, the weight and the bias: Conv's with X and delta in exchanged roles."""
    (delta,), x = grad_outputs, saved
    axes = op.windows(x.shape[1:])
    grad_params = {}
    if "weight" in needs.params:
        grad_params["weight"] = weight_gradient(delta, x, axes, op.groups)  # *kernel,Cout/groups,Cin
    if "bias" in needs.params:
        grad_params["bias"] = delta.sum(axis=tuple(range(delta.ndim - 1)))  # Cout
    grad_x = correlate(delta, params["weight"], axes, op.groups) if needs.inputs[0] else None
    return (grad_x,), grad_params


# --- the three sums, each a loop over kernel offsets


def correlate(x: Array, weight: Array, axes: tuple[Axis, ...], groups: int) -> Array:
    """``out += X[shifted] @ F[m]`` for every m: N,*spatial,C_in -> N,*out,C_out; F: *kernel,C_in/groups,C_out."""
    padded = pad(x, axes)  # N,*padded,Cin
    sizes = tuple(axis.output or 0 for axis in axes)
    output = np.zeros((x.shape[0], *sizes, weight.shape[-1]), x.dtype)
    for ins, outs in channel_slices(x.shape[-1], weight.shape[-1], groups):
        for m in offsets(axes):
            rows = padded[shifted(axes, m)][..., ins].reshape(-1, ins.stop - ins.start)  # N*out,Cin/groups
            output[..., outs] += (rows @ weight[m][:, outs]).reshape(*output.shape[:-1], -1)  # N,*out,Cout/groups
    return output


def correlate_transposed(delta: Array, weight: Array, axes: tuple[Axis, ...], groups: int) -> Array:
    """``grad_X[shifted] += delta @ F[m]^T`` for every offset m: N,*out,C_out -> N,*spatial,C_in."""
    in_channels = weight.shape[-2] * groups
    reach = tuple((axis.input or 0) + axis.pad_lo + max(axis.pad_hi, 0) for axis in axes)
    padded = np.zeros((delta.shape[0], *reach, in_channels), delta.dtype)  # N,*padded,Cin
    for ins, outs in channel_slices(in_channels, delta.shape[-1], groups):
        rows = delta[..., outs].reshape(-1, outs.stop - outs.start)  # N*out,Cout/groups
        for m in offsets(axes):
            product = rows @ weight[m][:, outs].T  # N*out,Cin/groups
            padded[shifted(axes, m)][..., ins] += product.reshape(*delta.shape[:-1], -1)  # N,*out,Cin/groups
    return crop(padded, axes)  # N,*spatial,Cin


def weight_gradient(x: Array, delta: Array, axes: tuple[Axis, ...], groups: int) -> Array:
    """``grad_F[m] = X[shifted]^T @ delta`` for every offset m: -> *kernel,C_in/groups,C_out."""
    padded = pad(x, axes)  # N,*padded,Cin
    kernel = tuple(axis.kernel for axis in axes)
    grad_weight = np.zeros((*kernel, x.shape[-1] // groups, delta.shape[-1]), x.dtype)
    for ins, outs in channel_slices(x.shape[-1], delta.shape[-1], groups):
        columns = delta[..., outs].reshape(-1, outs.stop - outs.start)  # N*out,Cout/groups
        for m in offsets(axes):
            rows = padded[shifted(axes, m)][..., ins].reshape(-1, ins.stop - ins.start)  # N*out,Cin/groups
            grad_weight[m][:, outs] = rows.T @ columns  # Cin/groups,Cout/groups
    return grad_weight


def channel_slices(in_channels: int, out_channels: int, groups: int) -> Iterator[tuple[slice, slice]]:
    """The input and output channels of each group."""
    ins, outs = in_channels // groups, out_channels // groups
    for g in range(groups):
        yield slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)
