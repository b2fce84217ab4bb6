"""Quantised graphs: the steps of ``fovea.graph.integer`` become instructions on bytes, all else runs in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fovea.engines.native.integer_fusion import ByteBlock, find_byte_fusions
from fovea.engines.native.program import Bound, Buffer, Operand, Section
from fovea.engines.native.rules.inverted import splits_of_rows
from fovea.engines.native.rules.window import conv_ints, pool_ints
from fovea.graph.graph import Node, Ref
from fovea.graph.integer import (
    IntegerStep,
    WeightedNumbers,
    clamp_range,
    find_steps,
    mean_factor,
    pixel_numbers,
    weighted_numbers,
)
from fovea.graph.quantization import Grid, Quantization
from fovea.graph.winograd import winograd_numbers
from fovea.ops import Normalize

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering

__all__ = ["IntegerLowering"]

_PANEL, _BLOCK = 16, 64
"""Columns, and channels of a depthwise layer, to which packed weights are padded at most (widest instruction set)."""


class IntegerLowering:
    """Lowers the forward pass of a quantised graph. ``bytes``: where values lie as bytes, channels padded to four."""

    def __init__(self, low: Lowering, quantization: Quantization) -> None:
        self.low, self.quantization = low, quantization
        self.steps = find_steps(low.spec.graph, quantization, low.spec.keep)
        self.bytes: dict[Ref, Operand] = {}
        self.fusions = find_byte_fusions(low.spec, self.steps)

    def forward(self, nodes: Iterable[Node], emit_float: Callable[[Node], None], wanted: Iterable[Ref]) -> None:
        """All nodes in order; afterwards the ``wanted`` values are there as float32."""
        for node in nodes:
            if node.name not in self.steps:  # an input, too
                for ref in node.inputs:
                    self._floats(ref)
                emit_float(node)
                continue
            step = self.steps[node.name]
            if step is not None and step.last.name not in self.fusions.inside:
                self.low.node = step.last.name
                _EMIT[step.kind](self, step)
        for ref in wanted:
            self._floats(ref)

    # --- values

    def _grid(self, ref: Ref) -> Grid:
        return self.quantization.grids[ref.node]

    def _rows(self, ref: Ref) -> tuple[int, int]:
        """Positions of one sample, and channels."""
        *spatial, channels = self.low.spec.graph.shape(ref)
        return math.prod(size or 0 for size in spatial), channels or 0

    def _byte_buffer(self, ref: Ref) -> Buffer:
        rows, channels = self._rows(ref)
        return self.low.buffer(rows * -(-channels // 4) * 4, "uint8")

    def _floats(self, ref: Ref) -> None:
        """A value as float32, made from bytes once."""
        if ref in self.low.values:
            return
        grid, out = self._grid(ref), self.low.buffer(self.low.size(ref))
        self.low.emit("int8_dequantize", [out], [self.bytes[ref]], [*self._rows(ref), grid.zero], [grid.scale])
        self.low.values[ref] = out

    def _bytes_of(self, ref: Ref) -> Operand:
        """A value on its grid, put there once."""
        if ref not in self.bytes:
            grid, channels = self._grid(ref), self._rows(ref)[1]
            self._quantize(ref, ref, np.full(channels, np.float32(1 / grid.scale)), np.zeros(channels, np.float32))
        return self.bytes[ref]

    def _quantize(self, source: Ref, target: Ref, factor: np.ndarray, offset: np.ndarray) -> None:
        low, value = self.low, self.low.values[source]
        dtype = "uint8" if isinstance(value, Bound) and value.dtype == "uint8" else "float32"
        if dtype == "float32" and value is not None and value.dtype != "float32":
            cast = low.buffer(low.size(source))
            low.emit(f"cast_{value.dtype}", [cast], [value], [low.size(source)])
            value = cast
        out = self._byte_buffer(target)
        ints = [*self._rows(source), self._grid(target).zero]
        low.emit(f"int8_quantize_{dtype}", [out], [value, low.constant(factor), low.constant(offset)], ints)
        self.bytes[target] = out

    def _result(self, step: IntegerStep) -> Operand:
        """Where a step writes: bytes, or float32."""
        ref = Ref(step.last.name)
        if step.grid is None:
            return self.low.output(step.last)
        out = self.bytes[ref] = self._byte_buffer(ref)
        return out

    def _filled(self, count: int, ref: Ref) -> Operand:
        """Bytes of the zero point: what padding reads."""
        return self.low.fixed(np.full(count, self._grid(ref).zero, np.uint8))

    # --- steps

    def conv(self, step: IntegerStep) -> None:
        """Convolution or dense layer, with an addition and a clamp."""
        if step.last.name in self.fusions.blocks:
            self._inverted(self.fusions.blocks[step.last.name])
            return
        low, ints, source = self.low, conv_ints(step.node), step.inputs[0]
        numbers = weighted_numbers(step, self.quantization, low.store.parameters)
        terms = [self._bytes_of(ref) for ref in step.inputs]
        residual = terms[1] if len(terms) > 1 else None
        padding = self._filled(-(-ints[1] // 4) * 4, source) if self._grid(source).zero else None
        ins = [terms[0], *self._packed(numbers, ints), residual, padding]
        zeros = [0 if step.grid is None else step.grid.zero, self._grid(step.inputs[-1]).zero]
        low.emit(
            "int8_conv", [self._result(step)], ins, [*ints, int(step.grid is None), *zeros],
            (*clamp_range(step.clamp, step.grid), numbers.residual_factor), inplace=((0, 4),),
        )  # fmt: skip

    def _packed(self, numbers: WeightedNumbers, ints: Sequence[int]) -> list[Operand]:
        """Weights as the register tiles read them, bias, factor."""
        groups, inputs, outputs = ints[:3]
        words, taps = -(-(inputs // groups) // 4), math.prod(ints[9:12])
        size = groups * -(-(outputs // groups) // _PANEL) * _PANEL * taps * words * 4
        packed = self._prepared("int8_pack", size, [self.low.fixed(numbers.weight)], ints)
        return [packed, self.low.fixed(numbers.bias), self.low.fixed(numbers.factor)]

    def winograd(self, step: IntegerStep) -> None:
        """A convolution 3x3 with fewer products, with an addition and a clamp."""
        low, ints = self.low, conv_ints(step.node)
        assert step.grid is not None
        numbers = winograd_numbers(step, self.quantization, low.store.parameters)
        (inputs, outputs), positions = ints[1:3], 16
        groups = [positions, positions * inputs, positions * outputs, *[1] * 15, *[0] * 3]
        size = positions * -(-outputs // _PANEL) * _PANEL * -(-inputs // 4) * 4
        weight = np.ascontiguousarray(numbers.weight.reshape(positions, inputs, outputs).swapaxes(0, 1))
        packed = self._prepared("int8_pack", size, [low.fixed(weight)], groups)
        constants = [low.fixed(one) for one in (numbers.bias, numbers.factor, numbers.offset)]
        terms = [self._bytes_of(ref) for ref in step.inputs]
        ins = [terms[0], packed, *constants, terms[1] if len(terms) > 1 else None]
        zeros = [step.grid.zero, self._grid(step.inputs[-1]).zero]
        reals = (*clamp_range(step.clamp, step.grid), numbers.residual_factor)
        low.emit("int8_winograd", [self._result(step)], ins, [*ints, *zeros], reals, inplace=((0, 5),))

    def depthwise(self, step: IntegerStep) -> None:
        """One input channel for every output channel."""
        low, ints, source = self.low, conv_ints(step.node), step.inputs[0]
        assert step.grid is not None
        numbers = weighted_numbers(step, self.quantization, low.store.parameters)
        padding = self._filled(ints[5] * -(-ints[1] // 4) * 4, source)
        ins = [self._bytes_of(source), self._packed_depthwise(numbers, ints), padding]
        reals = clamp_range(step.clamp, step.grid)
        low.emit("int8_depthwise", [self._result(step)], ins, [*ints, step.grid.zero], reals)

    def _packed_depthwise(self, numbers: WeightedNumbers, ints: Sequence[int]) -> Operand:
        """Weights, bias and factor of a depthwise layer as its kernel reads them."""
        groups = -(-ints[9] * ints[10] // 4)
        size = -(-ints[1] // _BLOCK) * _BLOCK * (ints[11] * groups * 4 + 8)
        operands = [self.low.fixed(array) for array in (numbers.weight, numbers.bias, numbers.factor)]
        return self._prepared("int8_depthwise_pack", size, operands, ints)

    def _inverted(self, block: ByteBlock) -> None:
        """An inverted residual block; what is between the convolutions is never stored."""
        low, up, deep, down = self.low, block.up, block.deep, block.down
        first, ints = up or deep, conv_ints(deep.node)
        residual = self._bytes_of(down.inputs[1]) if len(down.inputs) > 1 else None

        def numbers(step: IntegerStep) -> WeightedNumbers:
            return weighted_numbers(step, self.quantization, low.store.parameters)

        last = numbers(down)
        ins: list[Operand] = [self._bytes_of(first.inputs[0])]
        ins += [None] * 3 if up is None else self._packed(numbers(up), conv_ints(up.node))
        ins += [
            self._packed_depthwise(numbers(deep), ints),
            self._filled(ints[5] * -(-ints[1] // 4) * 4, deep.inputs[0]),
            *self._packed(last, conv_ints(down.node)),
            residual,
        ]
        inputs, outputs = conv_ints(first.node)[1], conv_ints(down.node)[2]
        sizes = [*ints[4:6], inputs, ints[1], *ints[7:9], outputs, ints[13], ints[19]]
        parts = [int(up is not None), splits_of_rows(ints[7], low.spec.batch_size, "int8")]
        grids = [self._grid(Ref(step.last.name)) for step in (first, deep, down)]
        zeros = [*(grid.zero for grid in grids), self._grid(down.inputs[-1]).zero]
        limits = [clamp_range(step.clamp, grid) for step, grid in zip((first, deep, down), grids, strict=True)]
        reals = [*(limit for pair in limits for limit in pair), last.residual_factor]
        low.emit("int8_inverted", [self._result(down)], ins, [*sizes, *parts, *zeros], reals)

    def _prepared(self, kernel: str, size: int, ins: Sequence[Operand], ints: Sequence[int]) -> Operand:
        """Packed weights: made once."""
        low, packed = self.low, Buffer(size, "int8", per_sample=False)
        section, low.section = low.section, Section.PREPARE
        low.emit(kernel, [packed], ins, ints)
        low.section = section
        return packed

    def add(self, step: IntegerStep) -> None:
        """Two values, with a clamp."""
        assert step.grid is not None
        grids, out = [self._grid(ref) for ref in step.inputs], step.grid
        terms = [self._bytes_of(ref) for ref in step.inputs]
        result = self._result(step)
        assert isinstance(result, Buffer)
        ints = [result.elements, *(grid.zero for grid in grids), out.zero]
        reals = [*(grid.scale / out.scale for grid in grids), *clamp_range(step.clamp, out)]
        self.low.emit("int8_add", [result], terms, ints, reals, inplace=((0, 0),))

    def maxpool(self, step: IntegerStep) -> None:
        """The largest byte is the largest value."""
        if step.last.name in self.fusions.pooled:
            self._convpool(self.fusions.pooled[step.last.name], step)
        else:
            self.low.emit("int8_maxpool", [self._result(step)], [self._bytes_of(step.inputs[0])], pool_ints(step.node))

    def _convpool(self, step: IntegerStep, pool: IntegerStep) -> None:
        """A convolution of one-channel images and the pooling behind it."""
        low, ints, source = self.low, conv_ints(step.node), step.inputs[0]
        assert step.grid is not None
        numbers = weighted_numbers(step, self.quantization, low.store.parameters)
        outputs, rows, columns = ints[2], *ints[10:12]
        words = np.zeros((rows, outputs, 2, 8), np.int8)  # even and odd columns of a window, over eight bytes
        weight = numbers.weight.reshape(rows, columns, outputs).swapaxes(1, 2)
        words[:, :, 0, :columns] = words[:, :, 1, 1 : columns + 1] = weight
        ins = [
            self._bytes_of(source),
            *(low.fixed(one) for one in (words.view(np.int32), numbers.bias, numbers.factor)),
        ]
        zeros = [self._grid(source).zero, step.grid.zero]
        reals = clamp_range(step.clamp, step.grid)
        low.emit("int8_convpool", [self._result(pool)], ins, [*ints, *pool_ints(pool.node)[5:7], *zeros], reals)

    def mean(self, step: IntegerStep) -> None:
        """The mean over all positions."""
        source = step.inputs[0]
        ints = [*self._rows(source), self._grid(source).zero, int(step.grid is None)]
        ints.append(0 if step.grid is None else step.grid.zero)
        reals = [mean_factor(step, self.quantization), *clamp_range(step.clamp, step.grid)]
        self.low.emit("int8_mean", [self._result(step)], [self._bytes_of(source)], ints, reals)

    def alias(self, step: IntegerStep) -> None:
        """The same bytes."""
        self.bytes[Ref(step.last.name)] = self._bytes_of(step.inputs[0])

    def pixels(self, step: IntegerStep) -> None:
        """Pixels onto the grid of what Normalize would make of them."""
        assert isinstance(step.node.op, Normalize)
        assert step.grid is not None
        source = step.inputs[0]
        numbers = pixel_numbers(step.node.op, self._rows(source)[1], step.grid)
        self._quantize(source, Ref(step.last.name), *numbers)


_EMIT: dict[str, Callable[[IntegerLowering, IntegerStep], None]] = {
    kind: getattr(IntegerLowering, kind)
    for kind in ("conv", "winograd", "depthwise", "add", "maxpool", "mean", "alias", "pixels")
}
