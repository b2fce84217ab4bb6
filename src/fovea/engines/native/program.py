"""The lowered program as data: operands, instructions, sections. No sizes are derived after this point."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ALIGNMENT", "Bound", "Buffer", "Fixed", "Gradient", "Instruction", "Operand", "Section", "item_bytes"]

ALIGNMENT = 64
"""Bytes: buffers and gradients begin at multiples of it (one cache line, one vector of the widest set)."""


class Section(IntEnum):
    """The lists of instructions, in the order in which their buffers live."""

    PREPARE = 0
    """Derived from weights; run when the store's version has changed."""
    FORWARD = 1
    BACKWARD = 2
    """From given grad_outputs."""
    LOSS = 3
    LOSS_BACKWARD = 4
    ACCUMULATE = 5
    UPDATE = 6


def item_bytes(dtype: str) -> int:
    """Bytes of one element; NumPy has no bfloat16."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


@dataclass(eq=False)
class Buffer:
    """A run of the arena: ``elements`` for each sample, or in all when not ``per_sample``. The planner places it."""

    elements: int
    dtype: str = "float32"
    per_sample: bool = True
    pinned: bool = False
    """Read from Python: never recycled after it was written."""

    def bytes(self, capacity: int) -> int:
        """Bytes for a batch of ``capacity`` samples, a multiple of ALIGNMENT."""
        count = self.elements * (capacity if self.per_sample else 1)
        return -(-max(count, 1) * item_bytes(self.dtype) // ALIGNMENT) * ALIGNMENT


@dataclass(eq=False)
class Fixed:
    """An array at a fixed address: a parameter, a buffer of the store, a constant of the plan."""

    array: npt.NDArray[Any]

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""
        return self.array.dtype.name


@dataclass(frozen=True)
class Bound:
    """Array number ``index`` of those given at each run, with so many elements for each sample."""

    index: int
    elements: int
    dtype: str = "float32"


@dataclass(frozen=True)
class Gradient:
    """A parameter's gradient, ``offset`` floats behind the start of all gradients."""

    offset: int
    dtype: str = "float32"


Operand = Buffer | Fixed | Bound | Gradient | None


@dataclass(eq=False)
class Instruction:
    """One call of a kernel: what it writes, what it reads, resolved numbers.

    ``kernel`` names a kernel of the core, or "conv_forward", "conv_backward_data", "conv_backward_weight".
    ``inplace``: pairs (written, read) of operands that may share memory when the read one is not needed any more.
    ``fixed_n``: 0 for the samples of the run, else that many.
    """

    section: Section
    node: str
    kernel: str
    outs: tuple[Operand, ...]
    ins: tuple[Operand, ...]
    ints: tuple[int, ...] = ()
    reals: tuple[float, ...] = ()
    inplace: tuple[tuple[int, int], ...] = ()
    fixed_n: int = 0
    precision: str = "fp32"
    """ "bf16": the form of the kernel for activations that are stored so."""
    algorithm: str = ""
