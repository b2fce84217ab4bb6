"""What colour pixels have: brightness, contrast and saturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment.base import Keys, Step, check_range, need_pictures
from fovea.data.spatial import luma

__all__ = ["ColorJitter"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ColorJitter(Step):
    """Brightness, contrast and saturation, each times a random factor in ``[1 - x, 1 + x]``.

    ``x * b``, then ``(x - mean) * c + mean`` with the image's mean luma, then ``(x - luma) * s + luma``; clipped and
    rounded once at the end. Grey images have no saturation.
    """

    name: ClassVar[str] = "color"
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3

    def __post_init__(self) -> None:
        for option in ("brightness", "contrast", "saturation"):
            check_range(self.name, option, getattr(self, option), 0, 1)

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        need_pictures(self.name, inputs)
        spread = np.array([self.brightness, self.contrast, self.saturation], np.float32)
        factors = 1 + (random.uniform(keys, 3) * 2 - 1) * spread
        bright, contrast, saturation = (factors[:, index].reshape(-1, 1, 1, 1) for index in range(3))
        grey = luma(inputs)[..., None] if inputs.shape[3] == 3 else inputs
        # the mean is an integer sum: exact, however the batch is cut
        total = grey.sum(axis=(1, 2, 3), dtype=np.int64)
        mean = (total / (inputs.shape[1] * inputs.shape[2])).astype(np.float32).reshape(-1, 1, 1, 1) * bright
        values = (inputs.astype(np.float32) * bright - mean) * contrast + mean
        if inputs.shape[3] == 3:
            shade = (grey.astype(np.float32) * bright - mean) * contrast + mean
            values = (values - shade) * saturation + shade
        return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
