"""Resampling of feature maps: PyTorch's interpolation where it reads the same positions, else axis by axis."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fovea.engines.torch.layout import channels_first, channels_last
from fovea.engines.torch.rules.rule import Fixed, Layer, Mode, Rule, Run
from fovea.graph.graph import Node

__all__ = ["RULES", "lies_as_torch", "reads_as_torch"]

_LINEAR = ("linear", "bilinear", "trilinear")


def resize(node: Node, mode: Mode) -> Run:
    """N,*spatial,C -> N,*out,C."""
    op: Any = node.op
    given = [size or 0 for size in node.input_shapes[0][:-1]]
    size = [size or 0 for size in node.output_shapes[0][:-1]]
    if len(size) <= 3 and op.mode == "nearest" and reads_as_torch(op, given, size):
        return lambda layer, x: channels_last(F.interpolate(channels_first(x), size, mode="nearest"))
    if len(size) <= 3 and op.mode == "bilinear" and lies_as_torch(op, size):
        corners = op.coordinates == "align_corners"
        name = _LINEAR[len(size) - 1]
        return lambda layer, x: channels_last(F.interpolate(channels_first(x), size, mode=name, align_corners=corners))
    return _by_taps(op, given, size)


def reads_as_torch(op: Any, given: list[int], size: list[int]) -> bool:
    """Whether every position reads ``floor(o * in / out)``, computed in float32."""
    for axis, (wanted, held) in enumerate(zip(size, given, strict=True)):
        there = np.floor(np.arange(wanted, dtype=np.float32) * np.float32(held / wanted))
        if not np.array_equal(op.taps(axis, held, wanted)[0][:, 0], np.minimum(there, held - 1).astype(np.int64)):
            return False
    return True


def lies_as_torch(op: Any, size: list[int]) -> bool:
    """Whether PyTorch has these coordinates, and the scale that they come from is that of the sizes."""
    scales = op.scale if isinstance(op.scale, tuple) else (op.scale,)
    plain = op.size is not None or all(isinstance(scale, int) for scale in scales)
    half = op.coordinates == "half_pixel" or (op.coordinates == "pytorch_half_pixel" and min(size) > 1)
    return plain and (half or op.coordinates == "align_corners")


def _by_taps(op: Any, given: list[int], size: list[int]) -> Run:
    """Along each axis: ``y[o] = sum over taps t of w_ot x[i_ot]``."""
    steps = []
    for axis, (held, wanted) in enumerate(zip(given, size, strict=True)):
        index, weight = op.taps(axis, held, wanted)  # out,taps
        columns = weight.reshape(*weight.shape, *(1,) * (len(size) - axis))  # out,taps,1..
        steps.append((axis + 1, [(Fixed(index[:, tap]), Fixed(columns[:, tap])) for tap in range(index.shape[1])]))

    def run(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        for axis, taps in steps:
            parts = [weight.like(x) * x.index_select(axis, index.index(x)) for index, weight in taps]
            x = functools.reduce(torch.add, parts)
        return x

    return run


RULES: dict[str, Rule] = {"resize": resize}
