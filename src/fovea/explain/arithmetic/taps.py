"""Which input elements a window reads, and which windows read an input element: the two directions of one equation.

Along an axis, output i meets for kernel offset m the input at ``q = i stride + m dilation - pad_lo``. Forward, i is
fixed and every m gives a q; backward, q is fixed and every m gives at most one i.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from fovea.explain.arithmetic.records import Index, ShapeStep
from fovea.ops import ConvTranspose, window
from fovea.ops.base import Op, Shape
from fovea.ops.window import Axis

__all__ = ["AXES", "Tap", "readers", "shape_steps", "window_taps"]

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""Names of the spatial axes, by their number."""


class Tap(NamedTuple):
    """One kernel offset and the position that it meets; ``cell`` is its place in a grid of all taps."""

    offset: Index
    position: Index
    cell: Index
    inside: bool


def window_taps(axes: tuple[Axis, ...], output: Index) -> Iterator[Tap]:
    """What the window at one output position reads, in row-major order of the offsets; also padding."""
    for offset in itertools.product(*(range(axis.kernel) for axis in axes)):
        position = tuple(
            i * axis.stride + m * axis.dilation - axis.pad_lo for i, m, axis in zip(output, offset, axes, strict=True)
        )
        inside = all(0 <= q < (axis.input or 0) for q, axis in zip(position, axes, strict=True))
        yield Tap(offset, position, offset, inside)


def readers(axes: tuple[Axis, ...], position: Index) -> Iterator[Tap]:
    """The windows that read one input position, in row-major order of the windows; ``position`` is the window's."""
    found: list[list[tuple[int, int]]] = []
    for q, axis in zip(position, axes, strict=True):
        pairs = []
        for m in range(axis.kernel):
            i, rest = divmod(q + axis.pad_lo - m * axis.dilation, axis.stride)
            if rest == 0 and 0 <= i < (axis.output or 0):
                pairs.append((i, m))
        found.append(sorted(pairs))
    firsts = [pairs[0][0] if pairs else 0 for pairs in found]
    for chosen in itertools.product(*found):
        place = tuple(i for i, _ in chosen)
        cell = tuple(i - first for i, first in zip(place, firsts, strict=True))
        yield Tap(tuple(m for _, m in chosen), place, cell, True)


def shape_steps(op: Op, shape: tuple[int, ...]) -> tuple[ShapeStep, ...]:
    """The output size of every axis of a windowed op with the numbers put in."""
    fields: Any = op
    axes: tuple[Axis, ...] = fields.windows(shape)
    paddings = window.per_axis(op.kind, "padding", fields.padding, len(axes))
    ceil_mode = getattr(op, "ceil_mode", False)
    steps = []
    for name, axis, padding in zip(AXES.get(len(axes), range(len(axes))), axes, paddings, strict=True):
        formula = _transposed(axis) if isinstance(op, ConvTranspose) else _window(axis, padding, ceil_mode)
        size = axis.input if isinstance(op, ConvTranspose) else axis.output
        steps.append(ShapeStep(str(name), formula, size or 0))
    return tuple(steps)


def _window(axis: Axis, padding: Any, ceil_mode: bool) -> str:
    size, stride = axis.input or 0, axis.stride
    if padding == "same":
        reach = max(axis.pad_hi, 0)
        return f"ceil({size} / {stride}), padded by {axis.pad_lo} in front and {reach} behind"
    lo, hi = padding if isinstance(padding, tuple) else (padding, padding)
    extent = f"(({axis.kernel} - 1) * {axis.dilation} + 1)" if axis.dilation > 1 else f"{axis.kernel}"
    formula = f"{'ceil' if ceil_mode else 'floor'}(({size} + {lo} + {hi} - {extent}) / {stride}) + 1"
    room = size + lo + hi - axis.extent
    dropped = ceil_mode and (axis.output or 0) <= -(-room // stride)
    return f"{formula} - 1 (the last window would begin in the padding)" if dropped else formula


def _transposed(axis: Axis) -> str:
    """``axis`` is that of the convolution which is transposed: its output is our input."""
    low, kernel = axis.output or 0, f"{axis.kernel} - 1"
    reach = (low - 1) * axis.stride + axis.extent - axis.pad_lo
    extra = (axis.input or 0) - reach
    end = f" - {-extra}" if extra < 0 else f" + {extra}" if extra else ""
    return f"({low} - 1) * {axis.stride} + ({kernel}) * {axis.dilation} + 1 - {axis.pad_lo}{end}"


def closed(shape: Shape) -> tuple[int, ...]:
    """A shape without open sizes."""
    return tuple(size or 0 for size in shape)
