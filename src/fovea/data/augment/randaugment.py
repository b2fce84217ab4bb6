"""RandAugment (Cubuk et al. 2019): a few operations drawn from a fixed list, all of one strength."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from fovea import random
from fovea.data.augment.base import Keys, Step, check_range, need_pictures

__all__ = ["OPERATIONS", "RandAugment"]

Array = npt.NDArray[Any]
Picture = Image.Image
_MIDDLE = 128  # what geometry uncovers becomes mid grey


def _affine(image: Picture, matrix: tuple[float, ...]) -> Picture:
    fill: Any = _MIDDLE if image.mode == "L" else (_MIDDLE,) * 3
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill)


def _rotate(image: Picture, strength: float) -> Picture:
    fill: Any = _MIDDLE if image.mode == "L" else (_MIDDLE,) * 3
    return image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=fill)


# Each takes an image and a strength in [-1, 1]; those that have no sign use its size. Ends of the ranges: the paper's.
OPERATIONS: dict[str, Callable[[Picture, float], Picture]] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "rotate": _rotate,
    "solarize": lambda image, strength: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "color": lambda image, strength: ImageEnhance.Color(image).enhance(1 + 0.9 * strength),
    "contrast": lambda image, strength: ImageEnhance.Contrast(image).enhance(1 + 0.9 * strength),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(1 + 0.9 * strength),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength),
    "shear_x": lambda image, strength: _affine(image, (1, 0.3 * strength, 0, 0, 1, 0)),
    "shear_y": lambda image, strength: _affine(image, (1, 0, 0, 0.3 * strength, 1, 0)),
    "translate_x": lambda image, strength: _affine(image, (1, 0, 0.3 * strength * image.width, 0, 1, 0)),
    "translate_y": lambda image, strength: _affine(image, (1, 0, 0, 0, 1, 0.3 * strength * image.height)),
}
_FUNCTIONS = tuple(OPERATIONS.values())


@dataclass(frozen=True)
class RandAugment(Step):
    """``count`` operations a sample, drawn with equal chance, each of strength ``magnitude / 30`` and a random sign."""

    name: ClassVar[str] = "randaugment"
    count: int = 2
    magnitude: float = 9.0

    def __post_init__(self) -> None:
        check_range(self.name, "count", self.count, 1, 10, whole=True)
        check_range(self.name, "magnitude", self.magnitude, 0, 30)

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        need_pictures(self.name, inputs)
        which = random.integers(keys, self.count, 0, len(_FUNCTIONS))
        signs = random.integers(random.fold_in(keys, 1), self.count, 0, 2) * 2 - 1
        strength = self.magnitude / 30
        result = np.empty_like(inputs)
        for index, image in enumerate(inputs):
            picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
            for operation, sign in zip(which[index], signs[index], strict=True):
                picture = _FUNCTIONS[operation](picture, float(sign) * strength)
            result[index] = np.asarray(picture).reshape(image.shape)
        return result
