"""Convolutions and matrix products."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from fovea.engines.torch.rules.rule import Layer, Mode, Rule, Run
from fovea.engines.torch.rules.window import Windows
from fovea.graph.graph import Node

__all__ = ["RULES"]


def _weight(layer: Layer, windows: Windows) -> torch.Tensor:
    return layer.weight.unsqueeze(2) if windows.lifted else layer.weight  # out,in,*kernel


def conv(node: Node, mode: Mode) -> Run:
    """N,*spatial,C_in -> N,*out,C_out."""
    op: Any = node.op
    windows = Windows.of(node.name, op.windows(node.input_shapes[0]))
    function, stride, dilation = windows.function("conv"), windows.field("stride"), windows.field("dilation")

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        bias = layer.bias if op.use_bias else None
        y = function(windows.enter(x), _weight(layer, windows), bias, stride, windows.padding, dilation, op.groups)
        return windows.leave(y)

    return run


def convtranspose(node: Node, mode: Mode) -> Run:
    """N,*spatial,C_in -> N,*larger,C_out. Where PyTorch has no such geometry: the whole reach, then our part of it."""
    op: Any = node.op
    windows = Windows.transposed(node.name, op.windows(node.input_shapes[0]))
    function, stride, dilation = windows.function("conv_transpose"), windows.field("stride"), windows.field("dilation")
    surplus = (axis.pad_lo - axis.pad_hi for axis in windows.axes)
    extra = tuple(0 if windows.widths else one for one in surplus)

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        bias = layer.bias if op.use_bias else None
        inside = None if windows.widths else bias  # what is cut off, or added, has a bias too
        y = function(
            windows.seen(x), _weight(layer, windows), inside, stride, windows.padding, extra, op.groups, dilation
        )
        y = windows.leave(y)
        if windows.widths:
            y = windows.cut(y)
            return y if bias is None else y + bias
        return y

    return run


def dense(node: Node, mode: Mode) -> Run:
    """N,*any,C_in -> N,*any,C_out."""
    op: Any = node.op

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, layer.weight, layer.bias if op.use_bias else None)

    return run


def matmul(node: Node, mode: Mode) -> Run:
    """N,*b,m,k and N,*b,k,n -> N,*b,m,n."""
    return lambda layer, a, b: torch.matmul(a, b)


RULES: dict[str, Rule] = {"conv": conv, "convtranspose": convtranspose, "dense": dense, "matmul": matmul}
