"""Scene: augmentation for detection, where boxes follow their pixels.

Every image is drawn once, by one affine map; four of them share a canvas in a mosaic (Bochkovskiy et al. 2020,
"YOLOv4", section 3.3). All of it is a function of one key a sample, and the other images of a mosaic are drawn from the
whole split by that key: how batches are cut, and how many threads compute them, changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment.base import Keys, check_pair, check_range, need_pictures, option_error
from fovea.data.augment.paste import Pastes
from fovea.data.augment.tiles import Draws
from fovea.data.augment.warp import draw, moved, scaled
from fovea.data.boxes import SCALE, padded
from fovea.data.mix import symmetric_beta
from fovea.errors import ConfigError

__all__ = ["Scene"]

Array = npt.NDArray[Any]
_NAME = "scene"
_STRIDE = 32
"""Sides of other sizes are multiples of this: the coarsest stride of a detector."""
_BLEND = 8.0
"""MixUp's share of the first image is Beta(8, 8): both are seen."""
_SHARES = (
    "mosaic", "mixup", "translate", "flip", "flip_vertical", "quarter_turn", "crop", "paste", "saturation", "value",
    "visible",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """Random scenes of annotated images, for training a detector. Zero switches each part off.

    * ``mosaic``, ``mixup``, ``flip``, ``flip_vertical``, ``quarter_turn``, ``crop``: probabilities. A mosaic shows
      parts of four images about a random point; MixUp lays a second scene over the first, with the boxes of both; a
      crop keeps a random part of at least half of each side, enlarged to the canvas. Vertical flips and quarter turns
      suit images without an up and down (microscopes, satellites).
    * ``scale``: the range of enlargement (log-uniform); where the image then is larger than the canvas, a random part
      of it is seen, and where it is smaller it lies anywhere. ``translate``: the largest shift besides, as a share of
      the sides. ``degrees``, ``shear``: the largest angles, in degrees. Boxes of turned images are looser.
    * ``paste``: the chance of each of up to three objects that are pasted from other images where they cover little;
      of classes evenly, so mostly of rare ones.
    * ``hue`` (in turns), ``saturation``, ``value``: the largest change of colours.
    * ``sizes``: multi-scale training; each batch is drawn at a random share of the input's size, in multiples of 32.
    * ``visible``: an object of which less than this share is left becomes a crowd, which is neither demanded nor wrong
      to find. ``calm_epochs``: the share of the epochs, at the end and at least one, without mosaic, MixUp and
      pasting (Ge et al. 2021, "YOLOX", section 2.1).

    Raises ConfigError for values out of range.

    >>> Scene(mosaic=1.0, degrees=10).at(99, 100).mosaic
    0.0
    """

    mosaic: float = 0.5
    mixup: float = 0.0
    degrees: float = 0.0
    translate: float = 0.1
    scale: tuple[float, float] = (0.6, 1.5)
    shear: float = 0.0
    flip: float = 0.5
    flip_vertical: float = 0.0
    quarter_turn: float = 0.0
    crop: float = 0.0
    paste: float = 0.0
    hue: float = 0.015
    saturation: float = 0.5
    value: float = 0.3
    sizes: tuple[float, float] = (1.0, 1.0)
    visible: float = 0.25
    calm_epochs: float = 0.15

    def __post_init__(self) -> None:
        for name in (*_SHARES, "calm_epochs"):
            check_range(_NAME, name, getattr(self, name), 0, 1)
        for name, most in (("degrees", 180), ("shear", 30), ("hue", 0.5)):
            check_range(_NAME, name, getattr(self, name), 0, most)
        for name, low, high in (("scale", 0.05, 20), ("sizes", 0.1, 4)):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
            check_pair(_NAME, name, getattr(self, name), low, high)

    def __call__(
        self, inputs: Array, targets: Array, rows: npt.NDArray[np.int64], keys: Keys, *,
        size: tuple[int, int] | None = None, fill: int = 114,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Scenes of the images ``rows``, from the whole split: ``inputs uint8 (N, H, W, C)``, ``targets (N, M, 9)``
        (see fovea.data.boxes), one key a row -> images ``uint8 (n, *size, C)``, targets ``float32 (n, m, 9)``.

        ``size``: height and width of the scenes (None: those of the inputs). ``fill``: the grey of empty canvas.
        Raises DataError for anything but uint8 images with 1 or 3 channels.
        """
        need_pictures(_NAME, inputs)
        size = size or (int(inputs.shape[1]), int(inputs.shape[2]))
        images = np.full((len(rows), *size, inputs.shape[3]), fill, np.uint8)
        draws = Draws(self, inputs, targets, rows, keys, size, fill)
        pastes = Pastes(self, inputs, targets, keys, size, fill) if self.paste else None
        blend = symmetric_beta(random.fold_in(keys, 9), _BLEND) if self.mixup else np.ones(len(rows))
        found, scales = [], np.ones((len(rows), 2), np.float32)
        for index, image in enumerate(images):
            own, *other = canvases = draws.canvases(index)
            for tile in own:
                draw(image, inputs[tile.row], tile, fill)
            for tiles in other:
                above = np.full_like(image, fill)
                for tile in tiles:
                    draw(above, inputs[tile.row], tile, fill)
                image[:] = _blended(image, above, float(blend[index]))
            seen = [moved(targets[tile.row], tile, self.visible) for part in canvases for tile in part]
            found.append(np.concatenate(seen) if pastes is None else pastes.onto(index, image, np.concatenate(seen)))
            scales[index] = scaled(targets[own[0].row, 0, SCALE], own[0])
        return images, padded(found, scales)

    def size(self, base: tuple[int, int], key: np.uint64) -> tuple[int, int]:
        """The size of one batch: ``base`` itself, or a share of it in multiples of 32, each as likely as the others."""
        low, high = self.sizes
        if low == high == 1:
            return base
        side = max(base)
        first, last = max(1, math.ceil(side * low / _STRIDE - 1e-9)), math.floor(side * high / _STRIDE + 1e-9)
        drawn = _STRIDE * int(random.integers(key, 1, first, max(first, last) + 1)[0])
        height, width = (max(_STRIDE, round(drawn * length / side / _STRIDE) * _STRIDE) for length in base)
        return height, width

    def at(self, epoch: int, epochs: int) -> Scene:
        """What epoch ``epoch`` (from 0) of ``epochs`` trains with: the last ones are calm."""
        calm = max(1, round(self.calm_epochs * epochs)) if self.calm_epochs else 0
        return replace(self, mosaic=0.0, mixup=0.0, paste=0.0) if epoch >= epochs - calm else self

    @classmethod
    def none(cls) -> Scene:
        """The scene that changes nothing."""
        nothing: dict[str, Any] = dict.fromkeys((*_SHARES[:-1], "hue", "calm_epochs"), 0.0)
        return cls(scale=(1.0, 1.0), **nothing)

    @classmethod
    def from_text(cls, text: str) -> Scene:
        """From ``"standard"``, ``"none"`` or settings joined by commas, on top of one of them.

        >>> Scene.from_text("mosaic=1,scale=0.5:2") == Scene(mosaic=1.0, scale=(0.5, 2.0))
        True
        """
        words = [word.strip().lower().replace("-", "_") for word in text.split(",")]
        values: dict[str, Any] = {}
        for word in words:
            name, equals, number = word.partition("=")
            if word in ("standard", "none", ""):
                continue
            if not equals:
                known = ", ".join(field.name for field in fields(cls))
                raise option_error(
                    _NAME, f"expected standard, none or NAME=NUMBER, got {word!r}; names are {known} (boxes move along)"
                )
            values[name.strip()] = _numbers(word, number)
        return cls.from_dict({**(asdict(cls.none()) if "none" in words else {}), **values})

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kind": _NAME,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Scene:
        """From JSON, fields that are left out at their defaults. Raises ConfigError for unknown names and values."""
        if not isinstance(record, Mapping) or record.get("kind", _NAME) != _NAME or "steps" in record:
            raise ConfigError("augment", f"expected a Scene, whose boxes move along, got {str(record)[:80]}")
        values = {name: value for name, value in record.items() if name != "kind"}
        known = [field.name for field in fields(cls)]
        if not set(values) <= set(known):
            unknown = ", ".join(sorted(map(str, set(values) - set(known))))
            raise option_error(_NAME, f"has no {unknown}; it has {', '.join(known)}")
        return cls(**values)


def _numbers(word: str, text: str) -> Any:
    try:
        numbers = tuple(float(number) for number in text.split(":"))
    except ValueError:
        raise option_error(_NAME, f"expected a number, or two as in scale=0.5:2, got {word!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _blended(first: Array, second: Array, share: float) -> Array:
    weight = round(share * 256)
    total = first.astype(np.uint16) * np.uint16(weight) + second.astype(np.uint16) * np.uint16(256 - weight)
    return ((total + np.uint16(128)) >> np.uint16(8)).astype(np.uint8)
