"""Samples as a caller gives them: arrays, one array, Pillow's images, or paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fovea.data.preprocess import SPATIAL_AXES, Preprocessing
from fovea.errors import DataError

__all__ = ["as_samples"]


def as_samples(samples: Any, preprocessing: Preprocessing) -> Any:
    """A batch before the spatial half: an array N,*spatial,C, or a sequence of ``*spatial,C`` arrays.

    Paths are read as the record's kind, images of Pillow become what their files would; a single sample
    (``*spatial,C``, one image or path) becomes a batch of one. Raises DataError for anything else, and for files that
    cannot be read.
    """
    if _is_pillow(samples):
        samples = [samples]
    if preprocessing.kind == "image" and isinstance(samples, (list, tuple)) and any(map(_is_pillow, samples)):
        from fovea.data.decode import image_pixels  # brings Pillow, which the caller has loaded anyway

        channels = preprocessing.channels
        samples = [image_pixels(one, channels) if _is_pillow(one) else one for one in samples]
    single = isinstance(samples, (str, os.PathLike))
    paths = [samples] if single else samples
    if not isinstance(samples, (str, os.PathLike, list, tuple, np.ndarray)):
        raise DataError("predict", f"expected images or paths, got {type(samples).__name__}; give a list of them")
    if isinstance(paths, (list, tuple)) and any(isinstance(path, (str, os.PathLike)) for path in paths):
        if not all(isinstance(path, (str, os.PathLike)) for path in paths):
            raise DataError("predict", "expected paths or images, got both; predict them one after the other")
        from fovea.data.samples import read_samples  # brings every reader of files: only for paths

        return read_samples([Path(path) for path in paths], preprocessing)
    if isinstance(samples, np.ndarray) and samples.ndim == SPATIAL_AXES[preprocessing.kind] + 1:
        return samples[None]
    return samples


def _is_pillow(sample: Any) -> bool:
    return hasattr(sample, "getexif") and hasattr(sample, "convert")
