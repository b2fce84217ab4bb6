"""Images with one rectangle each, whose pixels can be found again."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea import random
from fovea.data.boxes import padded, rows_of
from fovea.data.dataset import Limits, Part, Split
from fovea.data.preprocess import Preprocessing
from fovea.data.source import ArraySource

FILL = 24


def annotated(seed: int, count: int = 5, side: int = 96, bars: bool = True) -> tuple[Any, Any]:
    """Black images with a rectangle each, label the image's number; the odd ones lie between letterbox bars."""
    draws = np.random.default_rng(seed)
    images, rows = np.zeros((count, side, side, 3), np.uint8), []
    for index, image in enumerate(images):
        bar = side // 6 if bars and index % 2 else 0
        image[:bar], image[side - bar :] = FILL, FILL
        width, height = draws.integers(10, 30, 2)
        x, y = draws.integers(0, side - width), draws.integers(bar, side - bar - height)
        rows.append(rows_of(np.array([[x, y, x + width, y + height]]), [index]))
    return images, padded(rows)


def painted(images: Any, targets: Any, index: int) -> Any:
    """The images with the rectangle of image ``index`` in white."""
    result = images.copy()
    x1, y1, x2, y2 = targets[index, 0, :4].astype(int)
    result[index, y1:y2, x1:x2] = 255
    return result


def keys_of(seed: int, rows: Any) -> Any:
    """A key for each row, as the loader makes them."""
    return random.fold_in(random.key(seed, "augment", 0), np.asarray(rows))


def split_of(images: Any, targets: Any, classes: int = 5) -> Split:
    """A detection split of arrays."""
    source = ArraySource("image", images.shape, lambda: images, "array")
    spatial = Preprocessing(size=images.shape[1:3], channels=images.shape[3], resize="letterbox", fill=FILL)
    names = tuple(f"thing{number}" for number in range(classes))
    return Split("train", "detection", names, Part(source, targets), np.arange(len(images)), spatial, Limits())
