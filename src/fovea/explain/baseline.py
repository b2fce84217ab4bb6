"""What stands for "nothing to see": the start of a path, and what covers an occluded part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from fovea.errors import ConfigError
from fovea.explain.question import Question

__all__ = ["BASELINES", "baseline_of"]

BASELINES = ("zero", "black", "blur")
_BLUR = 1 / 10
"""Standard deviation of the blur, as a share of the shorter side."""


def baseline_of(question: Question, baseline: Any) -> npt.NDArray[np.float32]:
    """Network input N,H,W,C without the object: "zero" (of the network's input: the mean colour where preprocessing
    subtracts it), "black", "blur" (the image itself, blurred), or an array of network input H,W,C.

    Raises ConfigError for another word or shape, and for "black" and "blur" of a model without preprocessing.
    """
    x = question.x
    if not isinstance(baseline, str):
        given = np.asarray(baseline, np.float32)
        if given.shape not in (x.shape, x.shape[1:]):
            raise ConfigError("baseline", f"expected network input {x.shape[1:]}, got {given.shape}; give that shape")
        return np.ascontiguousarray(np.broadcast_to(given, x.shape))
    if baseline not in BASELINES:
        raise ConfigError("baseline", f"expected {', '.join(BASELINES)} or an array, got {baseline[:40]!r}")
    if baseline == "zero":
        return np.zeros_like(x)
    if question.model.preprocessing is None:
        raise ConfigError(
            "baseline", f"expected a model with preprocessing for {baseline!r}, got none; give 'zero' or an array"
        )
    if baseline == "black":
        return question.pixels(np.zeros_like(question.images))
    return question.pixels(np.stack([_blurred(image) for image in question.images]))


def _blurred(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    radius = _BLUR * min(image.shape[:2])
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[-1])]
    return np.stack([np.asarray(plane.filter(ImageFilter.GaussianBlur(radius))) for plane in planes], axis=-1)
