"""Hands a lowered program to the core: operands become bases and byte offsets."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.native.memory import Layout, plan_memory
from fovea.engines.native.program import Bound, Buffer, Fixed, Gradient, Instruction, Operand, Section
from fovea.engines.native.rules.inverted import inverted_macs
from fovea.errors import EngineError
from fovea.ops.base import Shape

__all__ = ["Executable", "core"]

_ABSOLUTE, _ARENA, _GRADIENTS, _FIRST_BOUND = 0, 1, 2, 3
_ALGORITHMS = ("naive", "tiles", "batch_tiles", "merged", "depthwise", "panels", "winograd2", "winograd4",
               "converted", "planar")  # fmt: skip
_PER_ELEMENT = 8  # operations that an element counts outside of convolutions: about what moving it costs
_SIZES = 21  # of the ints of a convolution; one more says whether the output is clamped


def core() -> ModuleType:
    """The compiled module. Raises EngineError, saying how to build it, when it is missing."""
    try:
        return importlib.import_module("fovea.engines.native._core")
    except ImportError as error:
        raise EngineError(
            "native",
            f"expected the compiled core, got: {error}; build it with `make native`, or install fovea with pip",
        ) from None


def operations(instructions: Iterable[Instruction]) -> tuple[float, float]:
    """About how many operations instructions take: for each sample, and those that do not depend on the batch."""
    per_sample, once = 0.0, 0.0
    for one in instructions:
        if (
            one.kernel.startswith(("conv", "int8_conv", "int8_winograd", "int8_depthwise"))
            and one.section != Section.PREPARE
        ):
            groups, inputs, outputs = one.ints[:3]
            positions, taps = math.prod(one.ints[6:9]), math.prod(one.ints[9:12])
            per_sample += positions * taps * (inputs // groups) * outputs
            continue
        if one.kernel in ("inverted_residual", "int8_inverted"):
            per_sample += inverted_macs(one.ints[:11])
            continue
        for out in one.outs:
            if isinstance(out, Buffer):
                per_sample += _PER_ELEMENT * out.elements * out.per_sample
                once += _PER_ELEMENT * out.elements * (not out.per_sample)
            elif isinstance(out, Fixed):
                once += _PER_ELEMENT * out.array.size
    return per_sample, once


def _is_float(operand: Operand) -> bool:
    return operand is not None and operand.dtype == "float32"


class Executable:
    """A program of the core, the arrays that it reads, and the layout of its arena.

    ``renewed``: weights that change after every run; their packed copies are made where they are used and not kept.
    ``backward_again``: backward may run several times after one forward. ``lean``: no packed copies are kept at all.
    """

    def __init__(
        self,
        instructions: Sequence[Instruction],
        capacity: int,
        bound: int,
        renewed: Iterable[npt.NDArray[Any]] = (),
        backward_again: bool = True,
        lean: bool = False,
    ) -> None:
        module = core()
        order = sorted(instructions, key=lambda one: one.section)
        self.instructions: list[Instruction] = []
        self.layout: Layout = plan_memory(order, capacity, backward_again)
        self.capacity = capacity
        self._address = module.address
        self._renewed = {id(array) for array in renewed}
        self._lean = lean
        self._arrays: dict[Section, list[npt.NDArray[Any]]] = {}
        self._bound: dict[int, npt.NDArray[Any]] = {}
        self._program = module.Program(self.layout.arena_bytes, capacity, _FIRST_BOUND + bound, len(Section))
        self._arena = self._program.arena()
        for instruction in order:
            self._add(instruction)
        for section in Section:
            self._program.work(int(section), *operations(one for one in order if one.section == section))

    def replace(self, section: Section, instructions: Sequence[Instruction]) -> None:
        """Other instructions for one section; they use no buffers of the arena."""
        self._program.clear(int(section))
        self._arrays.pop(section, None)
        self.instructions = [one for one in self.instructions if one.section != section]
        for instruction in instructions:
            self._add(instruction)

    def _add(self, one: Instruction) -> None:
        operands = [self._operand(one.section, operand) for operand in (*one.outs, *one.ins)]
        if one.kernel.startswith("conv_"):
            weight = one.ins[1]
            renewed = isinstance(weight, Fixed) and id(weight.array) in self._renewed
            keep_packed = not renewed and not self._lean
            number = self._program.add_conv(
                int(one.section), one.kernel.removeprefix("conv_"), one.ints[:_SIZES], operands,
                bool(one.ints[_SIZES]), *one.reals, one.precision, _is_float(one.outs[0]), keep_packed,
            )  # fmt: skip
            one.algorithm = _ALGORITHMS[number] if number < len(_ALGORITHMS) else str(number)
        else:
            self._program.add(int(one.section), one.kernel, operands, one.ints, one.reals, one.fixed_n, one.precision)
        self.instructions.append(one)

    def _operand(self, section: Section, operand: Operand) -> tuple[int, int]:
        if operand is None:
            return -1, 0
        if isinstance(operand, Buffer):
            return _ARENA, self.layout.offsets[operand]
        if isinstance(operand, Gradient):
            return _GRADIENTS, 4 * operand.offset
        if isinstance(operand, Bound):
            return _FIRST_BOUND + operand.index, 0
        self._arrays.setdefault(section, []).append(operand.array)
        return _ABSOLUTE, self._address(operand.array)

    def bind_gradients(self, array: npt.NDArray[np.float32]) -> None:
        """Where parameter gradients are written from now on."""
        self._program.bind(_GRADIENTS, array)
        self._bound[-1] = array

    def bind(self, index: int, array: npt.NDArray[Any]) -> None:
        """Array number ``index`` of the run-time arrays; it is kept."""
        self._program.bind(_FIRST_BOUND + index, array)
        self._bound[index] = array

    def run(self, sections: Sequence[Section], n: int) -> None:
        """Run sections on n samples, without the interpreter lock."""
        self._program.run(list(sections), n)

    def packed_bytes(self) -> int:
        """Memory of the packed weights that are kept from run to run."""
        return int(self._program.packed_bytes())

    def weights_changed(self) -> None:
        """Packed weights are renewed before they are next used."""
        self._program.weights_changed()

    def view(self, operand: Operand, shape: Shape, n: int) -> npt.NDArray[Any]:
        """A value as an array N,*shape (``n`` = 0: of the shape alone) that shares memory with the plan."""
        closed = tuple(size or 0 for size in shape)
        if isinstance(operand, Bound):
            return self._bound[operand.index].reshape((n, *closed) if n else closed)
        if isinstance(operand, Fixed):
            return operand.array
        assert isinstance(operand, Buffer)
        whole = (n, *closed) if n else closed
        start = self.layout.offsets[operand]
        count = int(np.prod(whole, dtype=np.int64)) * np.dtype(operand.dtype).itemsize
        result: npt.NDArray[Any] = self._arena[start : start + count].view(operand.dtype).reshape(whole)
        return result

    def timed(self, on: bool) -> None:
        """Switch timing of instructions on (from zero) or off."""
        self._program.time(on)

    def milliseconds(self) -> list[float]:
        """Time that each of ``instructions`` took since timing was switched on."""
        times = {section: iter(self._program.times(int(section))) for section in Section}
        return [next(times[one.section]) * 1e-6 for one in self.instructions]
