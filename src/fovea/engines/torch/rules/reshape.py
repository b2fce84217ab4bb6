"""Ops that move or pick elements, and Reduce."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fovea.engines.torch.rules.pool import first_maximum
from fovea.engines.torch.rules.rule import Fixed, Layer, Mode, Rule, Run
from fovea.graph.graph import Node

__all__ = ["RULES"]

_NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def constant(node: Node, mode: Mode) -> Run:
    """The same for every sample; ``like`` is any value of the batch, which tells their number."""
    return lambda layer, like: layer.value.expand(like.shape[0], *layer.value.shape)  # N,*shape


def flatten(node: Node, mode: Mode) -> Run:
    """N,*any -> N,(product of all), in the order of the array."""
    return lambda layer, x: x.reshape(x.shape[0], -1)


def reshape(node: Node, mode: Mode) -> Run:
    """N,*any -> N,*shape."""
    shape = node.output_shapes[0]
    return lambda layer, x: x.reshape(x.shape[0], *shape)


def transpose(node: Node, mode: Mode) -> Run:
    """Axes in another order."""
    op: Any = node.op
    return lambda layer, x: x.permute(op.perm)


def slice_(node: Node, mode: Mode) -> Run:
    """The chosen part; steps backwards are steps forwards, then turned round."""
    op: Any = node.op
    shape = node.input_shapes[0]
    taken, turned = [slice(None)], []
    for axis, (one, size) in enumerate(zip(op.slices(shape), shape, strict=True), 1):
        places = range(size or 0)[one]
        if places.step < 0:
            turned.append(axis)
            places = places[::-1]
        taken.append(slice(places.start, places.stop, places.step))
    where = tuple(taken)

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        part = x[where]
        return part.flip(turned) if turned else part

    return run


def split(node: Node, mode: Mode) -> Run:
    """One input -> as many outputs as sizes."""
    op: Any = node.op
    return lambda layer, x: torch.split(x, op.sizes, op.axis)


def channelshuffle(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> the same."""
    op: Any = node.op
    return lambda layer, x: x.unflatten(-1, (op.groups, -1)).transpose(-1, -2).flatten(-2)  # N,*spatial,C/G,G


def pad(node: Node, mode: Mode) -> Run:
    """N,*any -> N,*larger. What is not a number is an element of the input: an index along each axis."""
    op: Any = node.op
    shape = node.input_shapes[0]
    pairs = op.pairs(shape)
    if op.mode == "zero":
        widths = [width for pair in reversed(pairs) for width in pair]
        return lambda layer, x: F.pad(x, widths, value=op.value)
    sources = {
        axis: Fixed(np.pad(np.arange(size or 0), pair, _NUMPY_MODES[op.mode]))
        for axis, (size, pair) in enumerate(zip(shape, pairs, strict=True), 1)
        if pair != (0, 0)
    }

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        for axis, source in sources.items():
            x = x.index_select(axis, source.index(x))
        return x

    return run


def reduce(node: Node, mode: Mode) -> Run:
    """N,*any -> the reduced axes gone, or of size 1."""
    op: Any = node.op
    axes = tuple(axis + 1 for axis in op.sample_axes(node.input_shapes[0]))
    if op.reduction == "max":
        return lambda layer, x: first_maximum(x, axes, op.keepdims)
    if op.reduction == "sum":
        return lambda layer, x: x.sum(axes, keepdim=op.keepdims)
    return lambda layer, x: x.mean(axes, keepdim=op.keepdims)


RULES: dict[str, Rule] = {
    "constant": constant,
    "flatten": flatten,
    "reshape": reshape,
    "transpose": transpose,
    "slice": slice_,
    "split": split,
    "channelshuffle": channelshuffle,
    "pad": pad,
    "reduce": reduce,
}
