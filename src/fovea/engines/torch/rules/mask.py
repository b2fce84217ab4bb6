"""Ops that behave differently in training or only touch the gradient, and LayerScale."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from fovea.engines.torch.philox import bits
from fovea.engines.torch.rules.rule import Layer, Mode, Rule, Run
from fovea.graph.graph import Node

__all__ = ["RULES"]


def _factors(layer: Layer, x: torch.Tensor, count: int, per_sample: int, rate: float) -> torch.Tensor:
    """count factors, from the first sample's position on: 0 with probability rate, else ``1 / (1 - rate)``."""
    assert layer.key is not None
    words = bits(layer.key[:2], layer.key[2] * per_sample, count)
    return (words >= math.ceil(rate * 2**32)).to(x.dtype) / (1 - rate)


def dropout(node: Node, mode: Mode) -> Run:
    """One random word per element, in the order of the array."""
    op: Any = node.op
    if not mode.training or op.rate == 0:
        return _identity
    if not mode.keyed:
        return lambda layer, x: F.dropout(x, op.rate)

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        return x * _factors(layer, x, x.numel(), math.prod(x.shape[1:]), op.rate).reshape(x.shape)

    return run


def stochasticdepth(node: Node, mode: Mode) -> Run:
    """One random word per sample."""
    op: Any = node.op
    if not mode.training or op.rate == 0:
        return _identity

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        if mode.keyed:
            factors = _factors(layer, x, x.shape[0], 1, op.rate)
        else:
            factors = F.dropout(torch.ones(x.shape[0], dtype=x.dtype, device=x.device), op.rate)
        return x * factors.reshape(-1, *(1,) * (x.ndim - 1))  # N,1..

    return run


def _identity(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    return x


def layerscale(node: Node, mode: Mode) -> Run:
    """One learned factor per channel."""
    return lambda layer, x: x * layer.weight


def stopgradient(node: Node, mode: Mode) -> Run:
    """Identity forward, no gradient backward."""
    return lambda layer, x: x.detach()


RULES: dict[str, Rule] = {
    "dropout": dropout,
    "stochasticdepth": stochasticdepth,
    "layerscale": layerscale,
    "stopgradient": stopgradient,
}
