"""Ops that move or pick elements: no arithmetic but Reduce."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fovea.errors import OpError, ShapeError
from fovea.ops import window
from fovea.ops.base import OPS, Op, ParamSpec, Shape, choice, normal_axis, number, positive_int, size_of

__all__ = ["ChannelShuffle", "Constant", "Flatten", "Input", "Pad", "Reduce", "Reshape", "Slice", "Split", "Transpose"]


@dataclass(frozen=True)
class _Input(Op):
    """The declaration behind ``fovea.Input``: one graph input with the shape of a sample; ``None`` leaves a size
    open."""

    shape: Shape
    dtype: str = "float32"
    arity = 0

    def __post_init__(self) -> None:
        items = tuple(self.shape) if isinstance(self.shape, (tuple, list)) else (self.shape,)
        if not all(item is None or (_is_int(item) and item > 0) for item in items):
            raise OpError(
                "input",
                "expected the shape of one sample such as (32, 32, 3), None for an open size, got "
                f"{self.shape!r}; leave the batch axis out",
            )
        object.__setattr__(self, "shape", items)
        choice("input", "dtype", self.dtype, ("float32", "uint8", "int64"))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (self.shape,)


_Input.kind = "input"
OPS[_Input.kind] = _Input


def Input(shape: Any, dtype: str = "float32", name: str | None = None) -> Any:
    """A symbolic network input: the shape of ONE sample, ``(H, W, C)``; ``None`` leaves a spatial size open.

    >>> x = Input((32, 32, 3))
    """
    return _Input(shape, dtype)(name=name)


@dataclass(frozen=True)
class Constant(Op):
    """A fixed array, the same for every sample: no input -> N,*shape. Stored as the buffer ``value``.

    ``Constant([[1.0, 2.0]])(name="offset")``. Raises OpError for anything but finite numbers.
    """

    value: Any = field(default=None, metadata={"stored": False}, compare=False)
    shape: Any = None
    arity = 0

    def __post_init__(self) -> None:
        if self.shape is None:
            try:
                array = np.asarray(self.value, np.float32)
            except (TypeError, ValueError):
                raise OpError(
                    self.kind,
                    f"expected an array of numbers, got {type(self.value).__name__}; give a list or NumPy array",
                ) from None
            if not np.isfinite(array).all():
                raise OpError(self.kind, "expected finite numbers, got NaN or infinity; check the array")
            object.__setattr__(self, "shape", array.shape)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (self.shape,)

    def buffers(self, *inputs: Shape) -> dict[str, ParamSpec]:
        return {"value": ParamSpec(self.shape, "value", value=0.0 if self.value is None else self.value)}


@dataclass(frozen=True)
class Flatten(Op):
    """N,*spatial,C -> N,(product of all), in the order of the array (channels vary fastest)."""

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if any(size is None for size in inputs[0]):
            raise ShapeError(
                self.kind,
                f"expected closed sizes, got {('N', *inputs[0])}; use GlobalAvgPool, which works for any size, "
                "or fix the input size",
            )
        return ((size_of(inputs[0]),),)


@dataclass(frozen=True)
class Reshape(Op):
    """N,*any -> N,*shape; one entry may be -1 (whatever remains)."""

    shape: Any

    def __post_init__(self) -> None:
        items = tuple(self.shape) if isinstance(self.shape, (tuple, list)) else (self.shape,)
        good = all(_is_int(item) and (item > 0 or item == -1) for item in items)
        if not good or items.count(-1) > 1:
            raise OpError(
                self.kind, f"expected positive sizes with at most one -1, got {self.shape!r}; leave the batch axis out"
            )
        object.__setattr__(self, "shape", items)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        total, known = size_of(inputs[0]), math.prod(item for item in self.shape if item > 0)
        if total % known or (-1 not in self.shape and total != known):
            raise ShapeError(
                self.kind,
                f"expected {total} elements per sample, got shape {self.shape}; the product must agree with "
                f"{('N', *inputs[0])}",
            )
        return (tuple(total // known if item == -1 else item for item in self.shape),)


@dataclass(frozen=True)
class Transpose(Op):
    """Permute axes: output axis i is input axis ``perm[i]``; perm counts the batch axis, which stays first: perm[0] =
    0."""

    perm: tuple[int, ...]

    def __post_init__(self) -> None:
        perm = tuple(self.perm) if isinstance(self.perm, (tuple, list)) else (self.perm,)
        if not all(map(_is_int, perm)) or sorted(perm) != list(range(len(perm))) or perm[:1] != (0,):
            raise OpError(
                self.kind,
                f"expected a permutation that begins with 0 (the batch axis), got {perm}; for example (0, 3, 1, 2)",
            )
        object.__setattr__(self, "perm", perm)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if len(self.perm) != len(inputs[0]) + 1:
            raise ShapeError(
                self.kind,
                f"expected perm with {len(inputs[0]) + 1} entries for input {('N', *inputs[0])}, got "
                f"{self.perm}; name every axis",
            )
        return (tuple(inputs[0][axis - 1] for axis in self.perm[1:]),)


@dataclass(frozen=True)
class Slice(Op):
    """``x[..., start:stop:step, ...]`` along the given axes of N,*spatial,C, with Python's rules (negative steps
    too)."""

    starts: tuple[int | None, ...]
    stops: tuple[int | None, ...]
    axes: tuple[int, ...]
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("starts", "stops", "axes", "steps"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, (tuple, list)) else (value,))
        if not self.steps:
            object.__setattr__(self, "steps", (1,) * len(self.axes))
        good = all(map(_is_int, (*self.axes, *self.steps))) and all(
            item is None or _is_int(item) for item in (*self.starts, *self.stops)
        )
        one_length = len({len(self.starts), len(self.stops), len(self.axes), len(self.steps)}) == 1
        if not good or not one_length or 0 in self.steps:
            raise OpError(
                self.kind,
                f"expected starts, stops, axes (and steps, not 0) as integers of one length, got {self.starts}, "
                f"{self.stops}, {self.axes}, {self.steps}; give one entry per sliced axis",
            )

    def slices(self, shape: Shape) -> tuple[slice, ...]:
        """One slice per axis of the sample."""
        result = [slice(None)] * len(shape)
        for start, stop, axis, step in zip(self.starts, self.stops, self.axes, self.steps, strict=True):
            result[normal_axis(self.kind, axis, shape)] = slice(start, stop, step)
        return tuple(result)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        result: list[int | None] = []
        for one, size in zip(self.slices(inputs[0]), inputs[0], strict=True):
            result.append(size if one == slice(None) or size is None else len(range(size)[one]))
            if result[-1] == 0:
                raise ShapeError(
                    self.kind, f"expected at least one element, got none from {one} of size {size}; widen the slice"
                )
        return (tuple(result),)


@dataclass(frozen=True)
class Split(Op):
    """Cut one axis of N,*spatial,C into pieces of the given sizes: as many outputs as sizes."""

    sizes: tuple[int, ...]
    axis: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.sizes, (tuple, list)) or not self.sizes:
            raise OpError(
                self.kind, f"expected sizes as a tuple such as (16, 16), got {self.sizes!r}; give one size per piece"
            )
        object.__setattr__(self, "sizes", tuple(positive_int(self.kind, "sizes", size) for size in self.sizes))

    @property
    def num_outputs(self) -> int:
        return len(self.sizes)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axis = normal_axis(self.kind, self.axis, inputs[0])
        if inputs[0][axis] != sum(self.sizes):
            raise ShapeError(
                self.kind, f"expected sizes that add up to {inputs[0][axis]}, got {self.sizes}; change a size"
            )
        return tuple((*inputs[0][:axis], size, *inputs[0][axis + 1 :]) for size in self.sizes)


@dataclass(frozen=True)
class ChannelShuffle(Op):
    """Interleave the channels of ``groups`` groups: channel ``g * (C / groups) + i`` moves to ``i * groups + g``.

    Source: Zhang et al. 2018, "ShuffleNet", figure 1.
    """

    groups: int

    def __post_init__(self) -> None:
        positive_int(self.kind, "groups", self.groups)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        channels = inputs[0][-1] if inputs[0] else None
        if channels is None or channels % self.groups:
            raise ShapeError(
                self.kind, f"in_channels={channels} is not divisible by groups={self.groups}; choose a divisor"
            )
        return (inputs[0],)


@dataclass(frozen=True)
class Pad(Op):
    """Add elements around the sample: N,*any -> N,*larger.

    ``padding``: an integer or (lo, hi) for every spatial axis (channels stay), or one (lo, hi) per axis of the sample,
    channels included. ``mode``: "zero" (or ``value``), "reflect" (edge not repeated), "replicate", "circular".
    """

    padding: Any
    mode: str = "zero"
    value: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", window.canonical_padding(self.kind, self.padding))
        if self.padding == "same":
            raise OpError(
                self.kind,
                'expected numbers, got "same"; only windows know their same padding, give for example padding=1',
            )
        choice(self.kind, "mode", self.mode, ("zero", "reflect", "replicate", "circular"))
        number(self.kind, "value", self.value, -1e30, 1e30)

    def pairs(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        """(lo, hi) for every axis of the sample."""
        padding = self.padding
        if isinstance(padding, int):
            return ((padding, padding),) * (len(shape) - 1) + ((0, 0),)
        entries = tuple(item if isinstance(item, tuple) else (item, item) for item in padding)
        if len(entries) == len(shape) - 1:
            entries += ((0, 0),)
        if len(entries) != len(shape):
            raise ShapeError(
                self.kind,
                f"expected padding for {len(shape) - 1} spatial axes or all {len(shape)} axes, got {padding}; "
                f"input is {('N', *shape)}",
            )
        return entries

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        result: list[int | None] = []
        for size, (lo, hi) in zip(inputs[0], self.pairs(inputs[0]), strict=True):
            limit = None if size is None else {"reflect": size - 1, "circular": size}.get(self.mode)
            if limit is not None and max(lo, hi) > limit:
                raise ShapeError(
                    self.kind,
                    f"expected {self.mode} padding of at most {limit} for size {size}, got ({lo}, {hi}); pad "
                    "less or use another mode",
                )
            result.append(None if size is None else size + lo + hi)
        return (tuple(result),)


@dataclass(frozen=True)
class Reduce(Op):
    """Reduce axes of N,*spatial,C: ``reduction`` "mean", "sum" or "max" (gradient to the first maximum).

    ``axes`` count the whole array (the batch axis 0 is refused); ``keepdims`` keeps them with size 1.
    """

    axes: tuple[int, ...]
    reduction: str = "mean"
    keepdims: bool = False

    def __post_init__(self) -> None:
        axes = tuple(self.axes) if isinstance(self.axes, (tuple, list)) else (self.axes,)
        if not axes:
            raise OpError(self.kind, "expected one axis or more, got none; (1, 2) are those of an image")
        object.__setattr__(self, "axes", axes)
        choice(self.kind, "reduction", self.reduction, ("mean", "sum", "max"))

    def sample_axes(self, shape: Shape) -> tuple[int, ...]:
        """The reduced axes as sorted indices into the sample's shape."""
        return tuple(sorted({normal_axis(self.kind, axis, shape) for axis in self.axes}))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axes = self.sample_axes(inputs[0])
        sizes = [(1 if i in axes else size) for i, size in enumerate(inputs[0]) if self.keepdims or i not in axes]
        return (tuple(sizes),)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
