"""Normalisation: PyTorch's functions, whose momentum and running variance mean what ours mean."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from fovea.engines.torch.layout import channels_first, channels_last
from fovea.engines.torch.rules.rule import Fixed, Layer, Mode, Rule, Run
from fovea.engines.torch.synchronized import batch_norm_of_all
from fovea.graph.graph import Node
from fovea.ops.base import size_of

__all__ = ["RULES"]


class _InOrder(torch.autograd.Function):
    """The identity, whose gradient lies in memory as our axes do.

    PyTorch 2.13 gives wrong gradients of batch norm on a CPU when the gradient and the input of a map with an axis of
    size 1 lie in different orders.
    """

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad.contiguous()


def batchnorm(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> the same; training renews running_mean and running_var (with the unbiased variance)."""
    op: Any = node.op
    if mode.training and mode.synchronized:
        return lambda layer, x: batch_norm_of_all(
            x, layer.weight, layer.bias, layer.running_mean, layer.running_var, op.momentum, op.eps
        )
    positions = math.prod(size or 0 for size in node.input_shapes[0][:-1])

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        if mode.training and x.shape[0] * positions == 1:
            return _single(layer, x, op.momentum)
        y = torch.batch_norm(
            channels_first(x.contiguous()), layer.weight, layer.bias, layer.running_mean, layer.running_var,
            mode.training, op.momentum, op.eps, torch.backends.cudnn.enabled,
        )  # fmt: skip
        return _InOrder.apply(channels_last(y))

    return run


def _single(layer: Layer, x: torch.Tensor, momentum: float) -> torch.Tensor:
    """One value per channel is its own mean; of it there is no unbiased variance, where PyTorch refuses."""
    with torch.no_grad():
        layer.running_mean.lerp_(x.reshape(-1).to(layer.running_mean.dtype), momentum)
        layer.running_var.mul_(1 - momentum)
    return (x - x) * layer.weight + layer.bias


def layernorm(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> the same: over the channels of each position."""
    op: Any = node.op
    if node.input_shapes[0][-1] == 1:  # each value is its own mean, and PyTorch would divide rounding by sqrt(eps)
        return lambda layer, x: (x - x) * layer.weight + layer.bias
    return lambda layer, x: F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, op.eps)


def groupnorm(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> the same: over all positions and the channels of each group, per sample.

    On a CPU PyTorch's kernel for channels_last subtracts the squared mean from the mean of squares, which cancels where
    the mean is large (0.3 % off at a hundred deviations); the one for N,C,*spatial in memory does not.
    """
    op: Any = node.op
    if size_of(node.input_shapes[0]) == op.groups:  # each value is its own mean
        return lambda layer, x: (x - x) * layer.weight + layer.bias

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        y = torch.group_norm(channels_first(x).contiguous(), op.groups, layer.weight, layer.bias, op.eps)
        return channels_last(y).contiguous()

    return run


def lrn(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> the same: sums over neighbouring channels are averages along the last axis."""
    op: Any = node.op
    reach = ((op.size - 1) // 2, op.size // 2)

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        squares = F.pad(x * x, reach)  # N,*spatial,below+C+above
        mean = F.avg_pool1d(squares.reshape(-1, 1, squares.shape[-1]), op.size, 1)  # N*spatial,1,C
        return x * (op.k + op.alpha * mean.reshape(x.shape)) ** -op.beta

    return run


def normalize(node: Node, mode: Mode) -> Run:
    """N,*spatial,C, also uint8 -> the same, float."""
    op: Any = node.op
    mean, std = Fixed(op.mean), Fixed(op.std)

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        x = x if x.is_floating_point() else x.to(torch.float32)
        x = x.flip(-1) if op.order == "bgr" else x
        return (x * op.scale - mean.like(x)) / std.like(x)

    return run


RULES: dict[str, Rule] = {
    "batchnorm": batchnorm,
    "layernorm": layernorm,
    "groupnorm": groupnorm,
    "lrn": lrn,
    "normalize": normalize,
}
