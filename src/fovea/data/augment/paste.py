"""Objects of other images pasted into a scene, mostly of rare classes (Dwibedi et al. 2017, "Cut, paste and learn";
Kisantal et al. 2019, "Augmentation for small object detection").

Without masks a pasted object is its box with a margin. Where it lies among others is left to chance, but it covers
little of what is there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment.base import Keys
from fovea.data.augment.warp import Rect, Tile, content, draw, moved
from fovea.data.boxes import BOX, FLAGS, LABEL, is_box

if TYPE_CHECKING:
    from fovea.data.augment.scene import Scene

__all__ = ["Pastes"]

Array = npt.NDArray[Any]
MOST = 3
"""Objects pasted into one scene."""
_KEYS = 16  # folded into a sample's key: from here on, after those of tiles and canvas
_IMAGES = 8  # images an object is chosen from
_PLACES = 4  # places that are tried
_MARGIN = 0.15  # of the sides, around an object
_COVERED = 0.1  # the largest share of an object's box that one pasted beside it may hide
_LEAST = 8.0  # pixels: smaller objects are not worth it
_LARGEST = 0.5  # of the sides of the canvas: larger ones would hide the scene


class Pastes:
    """The random numbers of a batch; ``onto`` pastes what they say into one scene."""

    def __init__(
        self, scene: Scene, inputs: Array, targets: Array, keys: Keys, size: tuple[int, int], fill: int
    ) -> None:
        self.scene, self.inputs, self.targets, self.fill = scene, inputs, targets, fill
        self.room = np.array(size[::-1])
        self._ratio = float((self.room / np.array(inputs.shape[2:0:-1])).min())
        own = random.fold_in(np.asarray(keys)[:, None], _KEYS + np.arange(MOST))  # n,objects
        self._images = random.integers(random.fold_in(own, 0), _IMAGES, 0, len(inputs))
        self._draws = random.uniform(own, 6 + 2 * _PLACES).astype(np.float64)

    def onto(self, index: int, image: Array, rows: Array) -> Array:
        """Paste into ``image``, the scene of sample ``index`` with the boxes ``rows (m, 9)``; gives all rows."""
        for images, draws in zip(self._images[index], self._draws[index], strict=True):
            found = self._object(images, draws) if draws[0] < self.scene.paste else None
            tile = None if found is None else self._tile(*found, draws, rows[:, BOX])
            if tile is not None:
                draw(image, self.inputs[tile.row], tile, self.fill)
                rows = np.concatenate([rows, moved(self.targets[tile.row], tile, self.scene.visible)])
        return rows

    def _object(self, images: npt.NDArray[np.int64], draws: Array) -> tuple[int, Array] | None:
        """Image and box of an object: all classes that these images show are as likely, so rare ones come often."""
        offered = self.targets[images]
        sides = offered[..., 2:4] - offered[..., :2]
        fit = is_box(offered) & (offered[..., FLAGS] == 0) & (sides >= _LEAST).all(axis=-1)
        labels = np.unique(offered[fit][:, LABEL])
        if not len(labels):
            return None
        image, place = np.nonzero(fit & (offered[..., LABEL] == labels[int(draws[1] * len(labels))]))
        one = int(draws[2] * len(image))
        return int(images[image[one]]), offered[image[one], place[one], BOX]

    def _tile(self, row: int, box: Array, draws: Array, others: Array) -> Tile | None:
        """Where the object goes; None where there is no room for it."""
        scene, (low, high) = self.scene, self.scene.scale
        whole = content(self.inputs[row], self.targets[row], self.fill)
        margin = _MARGIN * (box[2:] - box[:2])
        x1, y1 = (max(whole[axis], math.floor(box[axis] - margin[axis])) for axis in (0, 1))
        x2, y2 = (min(whole[axis + 2], math.ceil(box[axis + 2] + margin[axis])) for axis in (0, 1))
        scale = self._ratio * low * (high / low) ** draws[3]
        room = np.maximum(np.rint(scale * np.array([x2 - x1, y2 - y1])), 1).astype(int)
        if (room > _LARGEST * self.room).any():
            return None
        for place in draws[6:].reshape(_PLACES, 2):
            left, top = (int(offset) for offset in place * (self.room - room + 1))
            window = (left, top, left + int(room[0]), top + int(room[1]))
            if _hidden(others, window) <= _COVERED:
                break
        else:
            return None
        linear = scale * np.diag(
            [-1.0 if draws[4] < scene.flip else 1.0, -1.0 if draws[5] < scene.flip_vertical else 1.0]
        )
        offset = np.array([left, top]) + room / 2 - linear @ np.array([x1 + x2, y1 + y2]) / 2
        return Tile(row, (x1, y1, x2, y2), np.concatenate([linear, offset[:, None]], axis=1), window)


def _hidden(boxes: Array, window: Rect) -> float:
    """The largest share of one of the boxes ``(m, 4)`` that lies in the window."""
    if not len(boxes):
        return 0.0
    common = np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return float((common.clip(0).prod(axis=1) / areas).max())
