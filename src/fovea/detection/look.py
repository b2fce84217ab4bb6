"""Looks at an image: the parts, mirror images and sizes of it that a network sees, and the way back for boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.preprocess import Preprocessing
from fovea.data.spatial import Placement
from fovea.detection.tiles import Tile
from fovea.errors import ConfigError

__all__ = ["Look", "look_at", "sizes_for"]

Array = npt.NDArray[Any]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Look:
    """``pixels`` uint8 h,w,C as the network takes them: the part ``tile`` of an image, resized as ``place`` says, then
    ``mirrored`` or not. ``group`` numbers the looks whose boxes are put together before looks are fused."""

    pixels: U8
    tile: Tile
    place: Placement
    mirrored: bool = False
    group: int = 0

    def to_image(self, boxes: Array) -> Array:
        """Boxes ``(n, 4)`` xyxy in pixels of the input -> in pixels of the image, cut at the edges of the part."""
        corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2).copy()
        if self.mirrored:
            corners[..., 0] = self.pixels.shape[1] - corners[:, ::-1, 0]
        top, left, bottom, right = self.tile
        moved = self.place.to_source(corners) + np.array([left, top])
        return np.asarray(np.clip(moved, [left, top], [right, bottom]).reshape(-1, 4))


def look_at(image: U8, tile: Tile, how: Preprocessing, mirrored: bool = False, group: int = 0) -> Look:
    """The part of an image as ``how`` prepares it."""
    top, left, bottom, right = tile
    part = image[top:bottom, left:right]
    pixels = how.apply_to_sample(part)
    where = how.placement(part.shape[0], part.shape[1])
    seen = np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels
    return Look(seen, tile, where, mirrored, group)


def sizes_for(how: Preprocessing, scales: Sequence[float], multiple: int) -> list[Preprocessing]:
    """The record at other sizes, each rounded to a multiple. Raises ConfigError for one without a size."""
    if how.size is None:
        raise ConfigError("tta", "expected a model with an input size, got one that takes images as they come")
    found = []
    for scale in scales:
        size = tuple(max(1, round(side * scale / multiple)) * multiple for side in how.size)
        found.append(how if scale == 1 else replace(how, size=size, resize_to=None))
    return found
