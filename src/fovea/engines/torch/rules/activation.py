"""Element-wise functions: PyTorch's own, but where its derivative at a kink is another than ours.

``hardtanh``, unlike ``clamp``, has derivative 0 at its bounds; ``hardswish`` has 1.5 at 3, a product with
``hardsigmoid`` has 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fovea.engines.torch.layout import channels_first, channels_last
from fovea.engines.torch.rules.rule import Mode, Rule, Run
from fovea.graph.graph import Node

__all__ = ["RULES"]

_LARGEST = float(np.finfo(np.float32).max)


class _Rectified(torch.autograd.Function):
    """min(max(0, x), top) that passes positive gradients only; ``guided``: only where the output moves with x, too."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, top: float, guided: bool) -> torch.Tensor:
        context.guided = guided
        context.save_for_backward((x > 0) & (x < top))
        return x.clamp(0, top)

    @staticmethod
    def backward(context: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (linear,) = context.saved_tensors
        passes = linear & (grad > 0) if context.guided else grad > 0
        return torch.where(passes, grad, 0), None, None


def _rectifier(function: Callable[[torch.Tensor], torch.Tensor], top: float) -> Rule:
    """PyTorch's function, or one of the other backward rules that the op may name."""

    def rule(node: Node, mode: Mode) -> Run:
        op: Any = node.op
        if op.backward_rule == "standard":
            return lambda layer, x: function(x)
        return lambda layer, x: _Rectified.apply(x, top, op.backward_rule == "guided")

    return rule


def prelu(node: Node, mode: Mode) -> Run:
    """A learned slope per channel for negative values."""
    return lambda layer, x: channels_last(F.prelu(channels_first(x), layer.weight))


def clip(node: Node, mode: Mode) -> Run:
    """min(max(x, low), high); bounds that float32 cannot hold are none."""
    op: Any = node.op
    low, high = (bound if abs(bound) <= _LARGEST else float(np.copysign(np.inf, bound)) for bound in (op.low, op.high))
    if low == high:
        return lambda layer, x: torch.full_like(x, low)
    return lambda layer, x: F.hardtanh(x, low, high)


def _with(function: Callable[[Any, torch.Tensor], torch.Tensor]) -> Rule:
    """A rule from a function of op and input."""

    def rule(node: Node, mode: Mode) -> Run:
        op = node.op
        return lambda layer, x: function(op, x)

    return rule


RULES: dict[str, Rule] = {
    "relu": _rectifier(torch.relu, math.inf),
    "relu6": _rectifier(F.relu6, 6.0),
    "prelu": prelu,
    "clip": clip,
    "leakyrelu": _with(lambda op, x: F.leaky_relu(x, op.negative_slope)),
    "sigmoid": _with(lambda op, x: torch.sigmoid(x)),
    "tanh": _with(lambda op, x: torch.tanh(x)),
    "silu": _with(lambda op, x: F.silu(x)),
    "gelu": _with(lambda op, x: F.gelu(x, approximate=op.approximate)),
    "hardsigmoid": _with(lambda op, x: F.hardtanh(op.alpha * x + op.beta, 0.0, 1.0)),
    "hardswish": _with(lambda op, x: x * F.hardsigmoid(x)),
    "elu": _with(lambda op, x: F.elu(x, op.alpha)),
    "selu": _with(lambda op, x: op.gamma * F.elu(x, op.alpha)),
    "softplus": _with(lambda op, x: F.softplus(x)),
    "mish": _with(lambda op, x: F.mish(x)),
    "exp": _with(lambda op, x: torch.exp(x)),
    "log": _with(lambda op, x: torch.log(x)),
    "sqrt": _with(lambda op, x: torch.sqrt(x)),
    "abs": _with(lambda op, x: torch.abs(x)),
    "softmax": _with(lambda op, x: torch.softmax(x, op.axis)),
}
