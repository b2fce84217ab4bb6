"""Windows: how our resolved geometry becomes the arguments of PyTorch's functions.

Our windows may be padded differently on both sides, PyTorch's only alike. Padding on both sides by what ours have in
front is the same wherever PyTorch's rounding then gives our number of windows, because what lies behind the last window
is not read; else the input itself is padded. One spatial axis is computed as two, the first of size 1: channels_last
memory exists from two on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from fovea.engines.torch.layout import channels_first, channels_last
from fovea.errors import EngineError
from fovea.ops.window import Axis

__all__ = ["Windows", "alike"]

_ONE = Axis(1, 1, 1, 1, 1, 0, 0)


@dataclass(frozen=True)
class Windows:
    """Geometry of two or three axes. ``widths``: what F.pad adds to (and cuts from) our axes before; else nothing."""

    axes: tuple[Axis, ...]
    padding: tuple[int, ...]
    widths: tuple[int, ...]
    fill: float
    lifted: bool

    @classmethod
    def of(
        cls, where: str, axes: tuple[Axis, ...], fill: float = 0.0, most: Callable[[Axis], int] | None = None
    ) -> Windows:
        """``most``: the largest padding that the function accepts; None for any. Raises EngineError for four axes."""
        axes, lifted = _lifted(where, axes)
        native = all(alike(axis) and (most is None or axis.pad_lo <= most(axis)) for axis in axes)
        padding = tuple(axis.pad_lo if native else 0 for axis in axes)
        return cls(axes, padding, () if native else _reaching(axes), fill, lifted)

    @classmethod
    def transposed(cls, where: str, axes: tuple[Axis, ...]) -> Windows:
        """Of a transposed convolution, whose padding cuts its output: PyTorch's, or ``widths`` of what it gives."""
        axes, lifted = _lifted(where, axes)
        native = all(0 <= axis.pad_lo - axis.pad_hi < max(axis.stride, axis.dilation) for axis in axes)
        padding = tuple(axis.pad_lo if native else 0 for axis in axes)
        return cls(axes, padding, () if native else tuple(-width for width in _reaching(axes)), 0.0, lifted)

    def field(self, name: str) -> tuple[int, ...]:
        """One field of every axis."""
        return tuple(getattr(axis, name) for axis in self.axes)

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        """N,*spatial,C -> N,C,*spatial, padded where PyTorch's own padding cannot."""
        return self.seen(F.pad(x, self._of(x), value=self.fill) if self.widths else x)

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """N,*spatial,C -> N,C,*spatial."""
        return channels_first(x.unsqueeze(1) if self.lifted else x)

    def leave(self, y: torch.Tensor) -> torch.Tensor:
        """N,C,*out -> N,*out,C."""
        y = channels_last(y)
        return y.squeeze(1) if self.lifted else y

    def cut(self, y: torch.Tensor) -> torch.Tensor:
        """N,*whole,C -> N,*out,C: our part of what a transposed convolution reaches."""
        return F.pad(y, self._of(y))

    def _of(self, x: torch.Tensor) -> tuple[int, ...]:
        """The widths for as many axes as x has."""
        return self.widths[: 2 * (x.ndim - 1)]

    def function(self, name: str) -> Callable[..., Any]:
        """``torch.nn.functional``'s function of that name for this number of axes."""
        found: Callable[..., Any] = getattr(F, f"{name}{len(self.axes)}d")
        return found


def alike(axis: Axis) -> bool:
    """Whether equal padding on both sides gives our windows."""
    room = (axis.input or 0) + 2 * axis.pad_lo - axis.extent
    return room // axis.stride + 1 == axis.output


def _lifted(where: str, axes: tuple[Axis, ...]) -> tuple[tuple[Axis, ...], bool]:
    if len(axes) > 3:
        raise EngineError(where, f"expected at most 3 spatial axes, got {len(axes)}; use the reference engine")
    return ((_ONE, *axes), True) if len(axes) == 1 else (axes, False)


def _reaching(axes: tuple[Axis, ...]) -> tuple[int, ...]:
    """F.pad's widths for N,*spatial,C: the last axis first, channels untouched."""
    return (0, 0, *(width for axis in reversed(axes) for width in (axis.pad_lo, axis.pad_hi)))
