"""Where the images of a batch are drawn: the random numbers of a :class:`Scene` become tiles.

All is drawn from one key a sample: ``fold_in(key, 0)`` decides about the canvas, ``fold_in(key, 1 + slot)`` about each
of its tiles, slots 0 to 3 those of the sample's own canvas and 4 to 7 those of the canvas that MixUp lays over it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment.warp import Rect, Tile, content

if TYPE_CHECKING:
    from fovea.data.augment.scene import Scene

__all__ = ["Draws"]

Array = npt.NDArray[Any]
_SLOTS = 8
_CENTRE = (0.3, 0.7)
"""Where the four tiles of a mosaic meet, as a share of the sides."""
_PART = 0.5
"""The least share of each side that a random crop keeps."""
_TILE = (
    "scale", "angle", "shear_x", "shear_y", "left", "top", "shift_x", "shift_y", "flip", "flip_vertical", "hue",
    "saturation", "value", "crop", "crop_width", "crop_height", "crop_left", "crop_top",
    "quarter_turn",
)  # fmt: skip


class Draws:
    """The random numbers of a batch: ``canvases(i)`` are the one or two lists of tiles of sample ``i``."""

    def __init__(
        self, scene: Scene, inputs: Array, targets: Array, rows: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64], size: tuple[int, int], fill: int,
    ) -> None:  # fmt: skip
        self.scene, self.inputs, self.targets, self.size, self.fill = scene, inputs, targets, size, fill
        own = random.fold_in(keys[:, None], 1 + np.arange(_SLOTS))  # n,slots
        self._canvas = random.uniform(random.fold_in(keys, 0), 7).astype(np.float64)
        self._tiles = random.uniform(own, len(_TILE)).astype(np.float64)
        self._rows = random.integers(random.fold_in(own, 0), 1, 0, len(inputs))[..., 0]
        self._rows[:, 0] = rows

    def canvases(self, index: int) -> list[list[Tile]]:
        """The tiles of the sample's own canvas, and of a second one where MixUp blends two."""
        draws = self._canvas[index]
        both = [self._one(index, 0, *draws[1:4])]
        if draws[0] < self.scene.mixup:
            both.append(self._one(index, 4, *draws[4:7]))
        return both

    def _one(self, index: int, slot: int, mosaic: float, across: float, down: float) -> list[Tile]:
        height, width = self.size
        if mosaic >= self.scene.mosaic:
            return [self._tile(index, slot, (0, 0, width, height), mosaic=False)]
        low, high = _CENTRE
        x, y = round(width * (low + across * (high - low))), round(height * (low + down * (high - low)))
        windows = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
        return [self._tile(index, slot + number, window, mosaic=True) for number, window in enumerate(windows)]

    def _tile(self, index: int, slot: int, window: Rect, mosaic: bool) -> Tile:
        scene, row = self.scene, int(self._rows[index, slot])
        draw = dict(zip(_TILE, self._tiles[index, slot], strict=True))
        part = content(self.inputs[row], self.targets[row], self.fill)
        cropped = draw["crop"] < scene.crop
        if cropped:
            part = _crop(part, draw)
        low, high = scene.scale
        scale = low * (high / low) ** draw["scale"]
        sides = np.array([part[2] - part[0], part[3] - part[1]], np.float64)
        room = np.array([window[2] - window[0], window[3] - window[1]], np.float64)
        old = np.array(self.inputs.shape[2:0:-1], np.float64)
        quarter = draw["quarter_turn"] < scene.quarter_turn
        if quarter:
            sides, old = sides[::-1], old[::-1]
        scale *= float((np.array(self.size[::-1]) / (sides if cropped and not mosaic else old)).min())
        middle = np.array([part[0] + part[2], part[1] + part[3]]) / 2
        if mosaic:
            scale = max(scale, float((room / sides).max()))  # no tile leaves a part of its window empty
        centre = room / 2
        slack = np.abs(room - scale * sides) / 2
        if not mosaic and not cropped:  # the image as it was drawn, with its borders, stays where it is at scale 1
            centre = centre if quarter else (room - scale * old) / 2 + scale * middle
            slack = np.minimum(slack, np.abs(room - scale * old) / 2)
        spread = np.array([draw["left"], draw["top"]]) * 2 - 1
        centre = centre + spread * slack + np.array(window[:2])
        if not mosaic:
            centre += (np.array([draw["shift_x"], draw["shift_y"]]) * 2 - 1) * scene.translate * room
        linear = scale * self._turn(draw, quarter)
        matrix = np.concatenate([linear, (centre - linear @ middle)[:, None]], axis=1)
        return Tile(row, part, matrix, window, self._color(draw))

    def _turn(self, draw: dict[str, float], quarter: bool) -> Array:
        scene = self.scene
        linear = np.diag([-1.0 if draw["flip"] < scene.flip else 1.0, 1.0])
        if draw["flip_vertical"] < scene.flip_vertical:
            linear[1, 1] = -1
        if quarter:
            linear = np.array([[0.0, -1.0], [1.0, 0.0]]) @ linear
        if scene.shear:
            x, y = (math.tan(math.radians((2 * draw[name] - 1) * scene.shear)) for name in ("shear_x", "shear_y"))
            linear = np.array([[1, x], [y, 1]]) @ linear
        if scene.degrees:
            angle = math.radians((2 * draw["angle"] - 1) * scene.degrees)
            linear = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) @ linear
        return linear

    def _color(self, draw: dict[str, float]) -> tuple[float, float, float]:
        scene = self.scene
        hue, saturation, value = (2 * draw[name] - 1 for name in ("hue", "saturation", "value"))
        return hue * scene.hue, 1 + saturation * scene.saturation, 1 + value * scene.value


def _crop(part: Rect, draw: dict[str, float]) -> Rect:
    """A random part of at least half of each side."""
    ends = []
    for low, high, length, place in (
        (part[0], part[2], draw["crop_width"], draw["crop_left"]),
        (part[1], part[3], draw["crop_height"], draw["crop_top"]),
    ):
        side = max(1, round((high - low) * (_PART + length * (1 - _PART))))
        begin = low + round(place * (high - low - side))
        ends.append((begin, begin + side))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]
