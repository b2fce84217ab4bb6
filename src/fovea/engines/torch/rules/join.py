"""Ops that join several activations; shapes broadcast per sample, aligned at the channels."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch

from fovea.engines.torch.rules.rule import Layer, Mode, Rule, Run
from fovea.graph.graph import Node

__all__ = ["RULES"]


def _aligned(inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """Views of one number of axes: N,C beside N,H,W,C becomes N,1,1,C. Scalars (losses) stay scalars."""
    ndim = max(x.ndim for x in inputs)
    return [x.reshape(x.shape[0], *(1,) * (ndim - x.ndim), *x.shape[1:]) if x.ndim else x for x in inputs]


def _binary(function: Any) -> Rule:
    """A rule that folds a function of two tensors over the inputs."""

    def rule(node: Node, mode: Mode) -> Run:
        def run(layer: Layer, *inputs: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = functools.reduce(function, _aligned(inputs))
            return result

        return run

    return rule


def concat(node: Node, mode: Mode) -> Run:
    """Sizes along the axis add up."""
    op: Any = node.op
    return lambda layer, *inputs: torch.cat(inputs, op.axis)


RULES: dict[str, Rule] = {
    "add": _binary(operator.add),
    "sub": _binary(operator.sub),
    "multiply": _binary(operator.mul),
    "div": _binary(operator.truediv),
    "concat": concat,
}
