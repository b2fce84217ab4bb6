"""Resampling of feature maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fovea.errors import OpError, ShapeError
from fovea.ops import window
from fovea.ops.base import Op, Shape, choice
from fovea.ops.conv import spatial_and_channels

__all__ = ["Resize"]


@dataclass(frozen=True)
class Resize(Op):
    """Resample all spatial axes to ``size``, or by an integer ``scale``: N,*spatial,C -> N,*out,C.

    Output position o reads input position ``(o + 1/2) in / out - 1/2`` ("half_pixel"; PyTorch's align_corners=False),
    ``o (in - 1) / (out - 1)`` ("align_corners") or ``o in / out`` ("asymmetric"). "nearest" takes the input at
    ``floor(o in / out)`` whatever the coordinates; "bilinear" is linear along every axis (trilinear in 3-D), edges
    clamped.
    """

    size: Any = None
    scale: Any = None
    mode: str = "nearest"
    coordinates: str = "half_pixel"

    def __post_init__(self) -> None:
        if (self.size is None) == (self.scale is None):
            raise OpError(
                self.kind,
                f"expected either size or scale, got size={self.size} and scale={self.scale}; give one of them",
            )
        for field in ("size", "scale"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, window.canonical_sizes(self.kind, field, getattr(self, field)))
        choice(self.kind, "mode", self.mode, ("nearest", "bilinear"))
        choice(self.kind, "coordinates", self.coordinates, ("half_pixel", "align_corners", "asymmetric"))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        spatial, channels = spatial_and_channels(self.kind, inputs[0])
        if self.size is not None:
            return ((*window.per_axis(self.kind, "size", self.size, len(spatial)), channels),)
        scales = window.per_axis(self.kind, "scale", self.scale, len(spatial))
        return (
            (*(None if size is None else size * scale for size, scale in zip(spatial, scales, strict=True)), channels),
        )

    def taps(self, in_size: int, out_size: int) -> tuple[list[int], list[int], list[float]]:
        """For one axis: lower index, upper index and the weight of the upper one, for every output position."""
        if out_size < 1 or in_size < 1:
            raise ShapeError(
                self.kind, f"expected sizes of at least 1, got {in_size} -> {out_size}; use a larger input"
            )
        low, high, weight = [], [], []
        for o in range(out_size):
            if self.mode == "nearest":
                position = float(min(o * in_size // out_size, in_size - 1))
            elif self.coordinates == "half_pixel":
                position = (o + 0.5) * in_size / out_size - 0.5
            elif self.coordinates == "align_corners":
                position = o * (in_size - 1) / (out_size - 1) if out_size > 1 else 0.0
            else:
                position = o * in_size / out_size
            position = min(max(position, 0.0), in_size - 1.0)
            low.append(int(position))
            high.append(min(int(position) + 1, in_size - 1))
            weight.append(position - int(position))
        return low, high, weight
