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
"""Standard deviation of the blur, as a share of the shortest side."""


def baseline_of(question: Question, baseline: Any) -> npt.NDArray[np.float32]:
    """Network input N,*spatial,C without the object: "zero" (of the network's input: the mean colour where
    preprocessing subtracts it), "black" (zeros of the sample: silence), "blur" (the sample itself, blurred along each
    axis), or an array of network input *spatial,C.

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
        return question.pixels(np.zeros_like(question.seen))
    blurred = _blurred if question.seen.ndim == 4 else _smooth
    return question.pixels(np.stack([blurred(sample) for sample in question.seen]))


def _blurred(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    radius = _BLUR * min(image.shape[:2])
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[-1])]
    return np.stack([np.asarray(plane.filter(ImageFilter.GaussianBlur(radius))) for plane in planes], axis=-1)


def _smooth(sample: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """A signal or a volume *spatial,C under a Gaussian along each axis; beyond its ends it goes on as it ends."""
    deviation = _BLUR * min(sample.shape[:-1])
    reach = max(1, round(3 * deviation))
    taps = np.exp(-((np.arange(-reach, reach + 1) / deviation) ** 2) / 2)
    taps /= taps.sum()
    values = sample.astype(np.float64)
    for axis in range(sample.ndim - 1):
        ends = [(reach, reach) if one == axis else (0, 0) for one in range(sample.ndim)]
        values = np.apply_along_axis(np.convolve, axis, np.pad(values, ends, mode="edge"), taps, "valid")
    return values.astype(np.float32)
