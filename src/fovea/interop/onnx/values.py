"""What an imported ONNX value is while a graph is read: a known array, or a node's output with its axis order.

ONNX keeps channels second, fovea last, and nothing is transposed at run time for that. Every ONNX axis is a product of
factors, and a ``Tensor`` knows in which order all factors lie in memory. So a Transpose in the file only renames axes,
a Reshape only regroups factors, and elements are moved where an operator needs an order that memory does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.graph.graph import Ref

__all__ = ["BATCH", "Const", "Tensor", "Traced", "channels_last_order", "regrouped"]

Array = npt.NDArray[Any]

BATCH = 1_000_003
"""Stands for the batch size in shape arithmetic: a prime that no real size is divisible by."""


@dataclass(frozen=True)
class Const:
    """An array known at import, in ONNX's axis order."""

    array: Array


@dataclass(frozen=True)
class Tensor:
    """A node's output.

    ``factors``: for every ONNX axis the sizes whose product it is (none for size 1, None for an open size).
    ``memory``: the order in which these factors, counted through all axes, lie in memory; the batch lies first.
    """

    ref: Ref
    factors: tuple[tuple[int | None, ...], ...]
    memory: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Number of ONNX axes, the batch included."""
        return len(self.factors)

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """The shape in ONNX's order; BATCH stands for the batch size, None for an open size."""
        return tuple(None if None in one else math.prod(f for f in one if f is not None) for one in self.factors)

    @property
    def flat(self) -> tuple[int | None, ...]:
        """The factors of all axes, one after the other."""
        return tuple(size for one in self.factors for size in one)

    def members(self, axis: int) -> tuple[int, ...]:
        """Which of the flat factors an ONNX axis consists of."""
        start = sum(len(one) for one in self.factors[:axis])
        return tuple(range(start, start + len(self.factors[axis])))

    def memory_of(self, order: Sequence[int]) -> tuple[int, ...]:
        """The order of factors in memory if the ONNX axes lay in this order."""
        return tuple(index for axis in order for index in self.members(axis))

    def at(self, ref: Ref) -> Tensor:
        """Another node's output with the same axes in the same order."""
        return Tensor(ref, self.factors, self.memory)

    def renamed(self, perm: Sequence[int]) -> Tensor:
        """ONNX's Transpose: axis i is what axis ``perm[i]`` was. Memory stays as it is."""
        moved = self.memory_of(perm)  # new flat factor i was factor moved[i]
        return Tensor(
            self.ref, tuple(self.factors[axis] for axis in perm), tuple(moved.index(index) for index in self.memory)
        )

    @property
    def batch_axis(self) -> int | None:
        """The ONNX axis that is the batch and nothing else."""
        return next((axis for axis, one in enumerate(self.factors) if one == (BATCH,)), None)


Traced = Const | Tensor


def channels_last_order(ndim: int) -> tuple[int, ...]:
    """The order in which convolutions want ONNX's N,C,*spatial: N,*spatial,C."""
    return (0, *range(2, ndim), 1) if ndim > 1 else (0,)


def regrouped(value: Tensor, sizes: Sequence[int]) -> Tensor | None:
    """The value with other ONNX axes of the given sizes (their product unchanged), or None when an axis would have to
    take part of one factor and part of the next."""
    pending = [(size, [index]) for index, size in enumerate(value.flat)]
    pieces: list[list[int]] = [[] for _ in pending]  # how every old factor is cut, outermost first
    axes: list[list[tuple[int, int]]] = []  # (old factor, number of the piece) of every new axis
    for size in sizes:
        axes.append([])
        remaining = size
        while remaining > 1:
            if not pending:
                return None
            factor, (old,) = pending[0]
            if factor is None or (remaining % factor and factor % remaining):
                return None
            taken = factor if remaining % factor == 0 else remaining
            axes[-1].append((old, len(pieces[old])))
            pieces[old].append(taken)
            remaining //= taken
            if taken == factor:
                pending.pop(0)
            else:
                pending[0] = (factor // taken, [old])
    if pending:
        return None
    number = {piece: index for index, piece in enumerate(piece for axis in axes for piece in axis)}
    memory = tuple(number[old, cut] for old in value.memory for cut in range(len(pieces[old])))
    factors = tuple(tuple(pieces[old][cut] for old, cut in axis) for axis in axes)
    return Tensor(value.ref, factors, memory)


def by_factors(array: Array, value: Tensor) -> Array:
    """An array that broadcasts against the ONNX axes (as many of them), with one axis for every factor."""
    shape: list[int] = []
    for size, one in zip(array.shape, value.factors, strict=True):
        if size == 1:
            shape.extend([1] * len(one))
        else:
            shape.extend(1 if f is None else f for f in one)
    return np.reshape(array, shape)
