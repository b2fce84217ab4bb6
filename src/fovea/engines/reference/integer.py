"""Quantised graphs in NumPy: the sums in float64, where they are exact, everything else as ``fovea.graph.integer``
says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fovea.engines.reference.ops import PAIRS
from fovea.engines.reference.pair import Array
from fovea.graph.graph import Node, Ref
from fovea.graph.integer import (
    IntegerStep,
    clamp_range,
    find_steps,
    mean_factor,
    pixel_numbers,
    weighted_numbers,
)
from fovea.graph.quantization import Grid, Quantization
from fovea.graph.winograd import INPUT, MIDDLE, SCALES, WinogradNumbers, winograd_numbers
from fovea.ops import Normalize

if TYPE_CHECKING:
    from fovea.engines.spec import PlanSpec
    from fovea.graph.store import ParameterStore

__all__ = ["IntegerForward"]


class IntegerForward:
    """One forward pass over a quantised graph; ``values`` (float32) and ``bytes`` hold what was computed."""

    def __init__(self, spec: PlanSpec, store: ParameterStore, quantization: Quantization) -> None:
        self.quantization, self.store, self.graph = quantization, store, spec.graph
        self.steps = find_steps(spec.graph, quantization, spec.keep)
        self.values: dict[Ref, Array] = {}
        self.bytes: dict[Ref, Array] = {}

    def run(self, node: Node, run_float: Callable[[Node], None]) -> None:
        """The value of one node: by its step, else in float32 on values made from bytes."""
        if node.name not in self.steps:  # an input, too
            for ref in node.inputs:
                self.floats(ref)
            run_float(node)
            return
        step = self.steps[node.name]
        if step is None:
            return
        result = getattr(self, f"_{step.kind}")(step)
        (self.values if step.grid is None else self.bytes)[Ref(step.last.name)] = result

    def floats(self, ref: Ref) -> Array:
        """A value as float32."""
        if ref not in self.values:
            grid = self.quantization.grids[ref.node]
            self.values[ref] = (self.bytes[ref].astype(np.float32) - grid.zero) * np.float32(grid.scale)
        return self.values[ref]

    def _bytes_of(self, ref: Ref) -> Array:
        if ref not in self.bytes:
            grid = self.quantization.grids[ref.node]
            y = self.values[ref].astype(np.float32) * np.float32(1 / grid.scale)
            self.bytes[ref] = _rounded(y, *clamp_range(None, grid), grid)
        return self.bytes[ref]

    def _centred(self, ref: Ref) -> Array:
        """q - zero, as float64."""
        return self._bytes_of(ref).astype(np.float64) - self.quantization.grids[ref.node].zero

    def _conv(self, step: IntegerStep) -> Array:
        numbers = weighted_numbers(step, self.quantization, self.store.parameters)
        weight = numbers.weight.astype(np.float64)
        zero = self.quantization.grids[step.inputs[0].node].zero
        bias = numbers.bias + zero * weight.reshape(-1, weight.shape[-1]).sum(0)
        given, params = (self._centred(step.inputs[0]),), {"weight": weight, "bias": bias}
        sums, _, _ = PAIRS[step.node.op.kind].forward(step.node.op, given, params, {}, training=False, key=None)
        return self._with_residual(sums[0].astype(np.float32) * numbers.factor, step, numbers.residual_factor)

    _depthwise = _conv

    def _with_residual(self, y: Array, step: IntegerStep, factor: float) -> Array:
        if len(step.inputs) > 1:
            y = y + self._centred(step.inputs[1]).astype(np.float32) * np.float32(factor)
        return _finished(y, step)

    def _winograd(self, step: IntegerStep) -> Array:
        numbers = winograd_numbers(step, self.quantization, self.store.parameters)
        axes = step.node.op.windows(step.node.input_shapes[0])  # type: ignore[attr-defined]
        pads, size = [axis.pad_lo for axis in axes], [axis.output for axis in axes]
        y = _winograd_sums(self._bytes_of(step.inputs[0]), numbers, pads, size)
        return self._with_residual(y, step, numbers.residual_factor)

    def _add(self, step: IntegerStep) -> Array:
        assert step.grid is not None
        scales = [self.quantization.grids[ref.node].scale / step.grid.scale for ref in step.inputs]
        a, b = (
            self._centred(ref).astype(np.float32) * np.float32(scale)
            for ref, scale in zip(step.inputs, scales, strict=True)
        )
        return _finished(a + b, step)

    def _mean(self, step: IntegerStep) -> Array:
        centred = self._centred(step.inputs[0])
        sums = centred.sum(axis=tuple(range(1, centred.ndim - 1)), keepdims=step.node.op.keepdims)  # type: ignore[attr-defined]
        return _finished(sums.astype(np.float32) * np.float32(mean_factor(step, self.quantization)), step)

    def _maxpool(self, step: IntegerStep) -> Array:
        pooled, _, _ = PAIRS["maxpool"].forward(
            step.node.op, (self._bytes_of(step.inputs[0]).astype(np.float32),), {}, {}, training=False, key=None
        )
        return pooled[0].astype(np.uint8)

    def _alias(self, step: IntegerStep) -> Array:
        source = self._bytes_of(step.inputs[0])
        return source.reshape(len(source), *(size or 0 for size in step.node.output_shapes[0]))

    def _pixels(self, step: IntegerStep) -> Array:
        assert isinstance(step.node.op, Normalize)
        assert step.grid is not None
        pixels = self.values[step.inputs[0]].astype(np.float32)
        factor, offset = pixel_numbers(step.node.op, pixels.shape[-1], step.grid)
        return _rounded(pixels * factor + offset, *clamp_range(None, step.grid), step.grid)


def _winograd_sums(x: Array, numbers: WinogradNumbers, pads: list[int], size: list[int]) -> Array:
    """What ``fovea.graph.winograd`` says, before a residual."""
    n, *given, channels = x.shape
    tiles = [-(-side // 2) for side in size]
    whole = np.zeros((n, *(2 * count + 2 for count in tiles), channels), np.int64)
    inner = [slice(pad, pad + side) for pad, side in zip(pads, given, strict=True)]
    room = whole[:, inner[0], inner[1]]
    room[...] = x[:, : room.shape[1], : room.shape[2]]
    d = np.lib.stride_tricks.sliding_window_view(whole, (4, 4), (1, 2))[:, ::2, ::2]
    wide = np.einsum("ai,bj,nyxcij->abnyxc", INPUT, INPUT, d, optimize=True)
    v = (wide * SCALES[:, :, None, None, None, None] + (1 << 14)) >> 15
    signed = np.clip(v, -MIDDLE, MIDDLE - 1) + MIDDLE
    signed[1, 1] = np.clip(v[1, 1], 0, 255)
    sums = signed.reshape(4, 4, -1, channels).astype(np.float64) @ numbers.weight.astype(np.float64)
    m = (sums + numbers.bias[:, :, None]).astype(np.float32) * numbers.factor[:, :, None]
    m[1, 1] += numbers.offset
    t = [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
    y = np.stack([[row[0] + row[1] + row[2], row[1] - row[2] - row[3]] for row in t])
    y = y.reshape(2, 2, n, *tiles, -1).transpose(2, 3, 0, 4, 1, 5)
    return y.reshape(n, 2 * tiles[0], 2 * tiles[1], -1)[:, : size[0], : size[1]]


def _finished(y: Array, step: IntegerStep) -> Array:
    low, high = clamp_range(step.clamp, step.grid)
    if step.grid is None:
        return np.minimum(np.maximum(y, np.float32(low)), np.float32(high))
    return _rounded(y, low, high, step.grid)


def _rounded(y: Array, low: float, high: float, grid: Grid) -> Array:
    clamped = np.minimum(np.maximum(y, np.float32(low)), np.float32(high))
    return (np.rint(clamped).astype(np.int64) + grid.zero).astype(np.uint8)
