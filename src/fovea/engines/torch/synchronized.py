"""Batch normalisation with the statistics of all processes: two sums and a count are added up among them.

The same formula on CPUs and GPUs, and shares of different sizes count by their samples. PyTorch's own SyncBatchNorm has
faster kernels, but for GPUs alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

__all__ = ["batch_norm_of_all"]


class _Sum(torch.autograd.Function):
    """y = sum over processes of x, which all of them use: the gradient of x is the sum of all gradients of y."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        y = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
        grad_input = grad_output.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad_input)
        return grad_input


def _sum_of_all(x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = _Sum.apply(x)
    return found


def batch_norm_of_all(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """N,*spatial,C of every process -> the same, normalised over all of them; running statistics are renewed.

    Two passes, as the mean must be known before deviations from it are squared: else large means cancel.
    """
    values = x.float()
    axes = tuple(range(x.ndim - 1))
    own = torch.full((1,), float(x.numel() // x.shape[-1]), device=x.device)
    sums = _sum_of_all(torch.cat((values.sum(axes), own)))  # C+1
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = values - mean
    var = _sum_of_all(centred.square().sum(axes)) / count  # C
    with torch.no_grad():
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * (count / (count - 1).clamp_min(1)), momentum)
    return (centred * torch.rsqrt(var + eps) * weight + bias).to(x.dtype)
