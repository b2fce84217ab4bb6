"""How far activations are from kinks and ties, where a derivative jumps: rounding must not cross one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fovea.ops as ops
from fovea.graph.graph import Graph, Ref
from fovea.ops.base import Op
from tests.fuzz.results import Array, off

__all__ = ["KINKED", "degenerate", "well_defined"]

SAFE = 24
"""Times the rounding of float32 at that place."""

_POINTS: dict[str, Callable[[Any], tuple[float, ...]]] = {
    "relu": lambda op: (0.0,),
    "relu6": lambda op: (0.0, 6.0),
    "leakyrelu": lambda op: (0.0,),
    "prelu": lambda op: (0.0,),
    "selu": lambda op: (0.0,),
    "elu": lambda op: (0.0,),
    "abs": lambda op: (0.0,),
    "clip": lambda op: (op.low, op.high),
    "hardsigmoid": lambda op: (-op.beta / op.alpha, (1 - op.beta) / op.alpha),
    "hardswish": lambda op: (-3.0, 3.0),
}
KINKED = {*_POINTS, "maxpool", "globalmaxpool", "reduce"}
"""Kinds of op whose derivative jumps somewhere."""


def degenerate(graph: Graph, exact: dict[Ref, Array], training: bool) -> bool:
    """Whether a norm divides by a variance that is zero but for rounding: then rounding is all that one sees."""
    for node in graph.nodes.values():
        x = exact[node.inputs[0]] if node.inputs else None
        if x is None or node.op.kind not in ("batchnorm", "groupnorm", "layernorm"):
            continue
        if node.op.kind == "batchnorm":
            groups = x.reshape(-1, x.shape[-1]) if training else None
        elif node.op.kind == "layernorm":
            groups = x.reshape(-1, x.shape[-1]).T
        else:
            count = node.op.groups  # type: ignore[attr-defined]  # of the kind of op that was asked for
            split = x.reshape(len(x), -1, count, x.shape[-1] // count)
            groups = split.transpose(1, 3, 0, 2).reshape(-1, len(x) * count)
        several = groups is not None and (len(groups) > 1 or node.op.kind == "batchnorm")
        if several and np.any(groups.var(0) <= 1e-9 * np.square(groups).max(0)):
            return True
    return False


def well_defined(graph: Graph, exact: dict[Ref, Array], single: dict[Ref, Array]) -> bool:
    """Whether float32 takes the same side of every kink as float64, with room to spare. Values by node."""
    for node in graph.nodes.values():
        if node.op.kind not in KINKED:
            continue
        ref = node.inputs[0]
        x, noise = exact[ref], off(single[ref], exact[ref])
        room = SAFE * (noise + 2.0**-23 * float(np.abs(x).max()))
        if _gap(node.op, x) <= room:
            return False
    return True


def _gap(op: Op, x: Array) -> float:
    """The smallest distance from a kink, or between the two largest elements of a window. Exact zeros do not count:
    they come from ReLU, and every engine computes them exactly."""
    if op.kind in _POINTS:
        distances = np.abs(x[..., None] - np.array(_POINTS[op.kind](op)))
        inner = distances[distances > 0] if 0.0 in _POINTS[op.kind](op) else distances
        return float(inner.min(initial=np.inf))
    windows = _windows(op, x)
    if windows is None or windows.shape[-1] < 2:
        return np.inf
    top = np.sort(windows, -1)[..., -2:]
    gaps = (top[..., 1] - top[..., 0])[(top[..., 1] != 0) & np.isfinite(top[..., 0])]
    return float(gaps.min(initial=np.inf))


def _windows(op: Op, x: Array) -> Array | None:
    """The elements of every window along the last axis."""
    if isinstance(op, ops.Reduce):
        if op.reduction != "max":
            return None
        axes = [axis + 1 for axis in op.sample_axes(x.shape[1:])]
    elif isinstance(op, ops.GlobalMaxPool):
        axes = list(range(1, x.ndim - 1))
    else:
        return _pooled(op, x)
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    return x.transpose(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)


def _pooled(op: Any, x: Array) -> Array:
    axes = op.windows(x.shape[1:])
    pads = [(axis.pad_lo, max(axis.pad_hi, 0)) for axis in axes]
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=-np.inf)
    taps = []
    for tap in np.ndindex(*(axis.kernel for axis in axes)):
        starts = [m * axis.dilation for m, axis in zip(tap, axes, strict=True)]
        stops = [start + (axis.output - 1) * axis.stride + 1 for start, axis in zip(starts, axes, strict=True)]
        inner = [slice(a, b, axis.stride) for a, b, axis in zip(starts, stops, axes, strict=True)]
        taps.append(padded[(slice(None), *inner)])
    return np.stack(taps, -1)
