"""Ops that join several activations."""

from __future__ import annotations

from dataclasses import dataclass

from fovea.errors import ShapeError
from fovea.ops.base import Op, Shape, normal_axis

__all__ = ["Add", "Concat", "Div", "Multiply", "Sub", "broadcast_shapes"]


def broadcast_shapes(op: str, *shapes: Shape) -> Shape:
    """NumPy's rule on the samples' shapes, aligned at the channels: (H, W, C) with (C,) or (1, 1, C) gives (H, W,
    C)."""
    ndim = max(len(shape) for shape in shapes)
    padded = [(1,) * (ndim - len(shape)) + tuple(shape) for shape in shapes]
    result: list[int | None] = []
    for sizes in zip(*padded, strict=True):
        larger = {size for size in sizes if size != 1}
        if len(larger) > 1:
            raise ShapeError(
                op,
                f"expected shapes that broadcast, got {' and '.join(str(('N', *shape)) for shape in shapes)}; "
                "make them equal, or 1 where they differ",
            )
        result.append(larger.pop() if larger else 1)
    return tuple(result)


@dataclass(frozen=True)
class _Binary(Op):
    arity = 2

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (broadcast_shapes(self.kind, *inputs),)


@dataclass(frozen=True)
class Add(Op):
    """Sum of two or more activations, broadcast per sample."""

    arity = None

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (broadcast_shapes(self.kind, *inputs),)


@dataclass(frozen=True)
class Sub(_Binary):
    """``a - b``, broadcast per sample."""


@dataclass(frozen=True)
class Multiply(_Binary):
    """``a * b``, broadcast per sample (squeeze-and-excitation: feature map times N,C; Hu et al. 2018)."""


@dataclass(frozen=True)
class Div(_Binary):
    """``a / b``, broadcast per sample."""


@dataclass(frozen=True)
class Concat(Op):
    """Join along one axis of N,*spatial,C (the channels by default); all other sizes must agree."""

    arity = None
    axis: int = -1

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axis = normal_axis(self.kind, self.axis, inputs[0])
        first = inputs[0]
        for shape in inputs[1:]:
            if len(shape) != len(first) or any(
                a != b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != axis
            ):
                raise ShapeError(
                    self.kind,
                    f"expected equal sizes but for axis {self.axis}, got "
                    f"{' and '.join(str(('N', *s)) for s in inputs)}; crop, pad or resize one branch",
                )
        sizes = [shape[axis] for shape in inputs]
        total = None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)
        return ((*first[:axis], total, *first[axis + 1 :]),)
