"""Resampling of feature maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import OpError, ShapeError
from fovea.ops import window
from fovea.ops.base import Op, Shape, choice, is_number, number
from fovea.ops.conv import spatial_and_channels

__all__ = ["Resize"]

LARGEST_SCALE = 1 << 31
_ROUNDED: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "half_down": lambda p: np.ceil(p - 0.5),
    "half_up": lambda p: np.floor(p + 0.5),
}


@dataclass(frozen=True)
class Resize(Op):
    """Resample all spatial axes to ``size``, or by a ``scale``: N,*spatial,C -> N,*out,C.

    ``size``, ``scale``: one for all axes or one each; with a scale, which need not be whole, out = floor(in * scale)
    in float32, as runtimes compute it. With s = scale, or out / in where a size is given, output position o reads
    input position ``(o + 1/2) / s - 1/2`` ("half_pixel"; PyTorch's align_corners=False), the same but 0 where out = 1
    ("pytorch_half_pixel"), ``o (in - 1) / (out - 1)`` ("align_corners") or ``o / s`` ("asymmetric").

    "nearest" takes one element: at ``floor(o / s)`` whatever the coordinates, as PyTorch does; with ``rounding`` at
    the position that the coordinates give, rounded by "floor", "ceil", "half_down" or "half_up" (ties). "bilinear" is
    linear along every axis (trilinear in 3-D), "bicubic" the convolution with Keys's kernel of four elements (1981),
    a = ``cubic``; edges are repeated outside.
    """

    size: Any = None
    scale: Any = None
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str | None = None
    cubic: float = -0.75

    def __post_init__(self) -> None:
        if (self.size is None) == (self.scale is None):
            raise OpError(
                self.kind,
                f"expected either size or scale, got size={self.size} and scale={self.scale}; give one of them",
            )
        if self.size is not None:
            object.__setattr__(self, "size", window.canonical_sizes(self.kind, "size", self.size))
        else:
            object.__setattr__(self, "scale", self._canonical_scale())
        choice(self.kind, "mode", self.mode, ("nearest", "bilinear", "bicubic"))
        choice(
            self.kind, "coordinates", self.coordinates,
            ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"),
        )  # fmt: skip
        if self.rounding is not None:
            choice(self.kind, "rounding", self.rounding, tuple(_ROUNDED))
            if self.mode != "nearest":
                raise OpError(self.kind, f'expected rounding with mode="nearest" only, got {self.mode!r}; leave it out')
        object.__setattr__(self, "cubic", number(self.kind, "cubic", self.cubic, -2.0, 0.0))

    def _canonical_scale(self) -> Any:
        several = isinstance(self.scale, (tuple, list))
        scales = tuple(self.scale) if several else (self.scale,)
        if not scales or not all(is_number(one) and 0 < one < LARGEST_SCALE for one in scales):
            raise OpError(
                self.kind,
                f"expected scale to be positive numbers below 2^31, got {str(self.scale)[:60]}; give one, or one per "
                "spatial axis",
            )
        plain = tuple(int(one) if one == int(one) else float(one) for one in scales)
        return plain if several else plain[0]

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        spatial, channels = spatial_and_channels(self.kind, inputs[0])
        if self.size is not None:
            return ((*window.per_axis(self.kind, "size", self.size, len(spatial)), channels),)
        scales = window.per_axis(self.kind, "scale", self.scale, len(spatial))
        return ((*(self._scaled(size, scale) for size, scale in zip(spatial, scales, strict=True)), channels),)

    def _scaled(self, size: int | None, scale: float) -> int | None:
        if size is None:
            return None
        scaled = size * scale if isinstance(scale, int) else int(np.float32(size) * np.float32(scale))
        if scaled < 1:
            raise ShapeError(
                self.kind, f"expected an output of at least 1, got {size} times {scale:g}; use a larger input"
            )
        return scaled

    def taps(self, axis: int, in_size: int, out_size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Along one spatial axis: which input elements every output position mixes, and their weights: both out,taps.

        The weights of a position add up to 1.
        """
        if out_size < 1 or in_size < 1:
            raise ShapeError(
                self.kind, f"expected sizes of at least 1, got {in_size} -> {out_size}; use a larger input"
            )
        position = self._positions(axis, in_size, out_size)
        if self.mode == "nearest":
            index, weight = _ROUNDED[self.rounding or "floor"](position)[:, None], np.ones((out_size, 1))
        elif self.mode == "bilinear":
            position = np.clip(position, 0, in_size - 1)
            index = np.floor(position)[:, None] + np.arange(2)
            part = (position - index[:, 0])[:, None]
            weight = np.concatenate((1 - part, part), 1)
        else:
            index = np.floor(position)[:, None] + np.arange(-1, 3)
            weight = _keys(np.abs(position[:, None] - index), self.cubic)
        return np.clip(index, 0, in_size - 1).astype(np.int64), weight

    def _positions(self, axis: int, in_size: int, out_size: int) -> npt.NDArray[np.float64]:
        """The position in the input that every output position reads."""
        o = np.arange(out_size, dtype=np.float64)
        coordinates = "asymmetric" if self.mode == "nearest" and self.rounding is None else self.coordinates
        if coordinates == "align_corners":
            return o * (in_size - 1) / max(out_size - 1, 1)
        if coordinates == "pytorch_half_pixel" and out_size == 1:
            return o
        offset = 0.0 if coordinates == "asymmetric" else 0.5
        if self.size is not None:
            return (o + offset) * in_size / out_size - offset
        scale = float(self.scale[axis] if isinstance(self.scale, tuple) else self.scale)
        if self.mode == "nearest":  # in float32 ties fall as they do in runtimes
            return ((o + offset).astype(np.float32) / np.float32(scale)).astype(np.float64) - offset
        return (o + offset) / scale - offset


def _keys(distance: npt.NDArray[np.float64], a: float) -> npt.NDArray[np.float64]:
    """Keys's cubic convolution kernel at distances up to 2."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
