"""Single samples from files, for prediction: whatever kind the model's preprocessing names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.decode import IMAGE_SUFFIXES, read_frames, read_images
from fovea.data.layouts.folders import frame_number
from fovea.data.npy import read_npy
from fovea.data.preprocess import Preprocessing
from fovea.data.wav import read_wav
from fovea.errors import DataError

__all__ = ["read_samples"]

Array = npt.NDArray[Any]


def read_samples(paths: Sequence[Path], preprocessing: Preprocessing) -> list[Array]:
    """One array per path, before the spatial half: uint8 H,W,C images, float32 L,C signals, float32 D,H,W,C volumes,
    uint8 T,H,W,C clips.

    Raises DataError naming the file that cannot be read.
    """
    for path in paths:
        if not path.is_file() and not (preprocessing.kind == "clip" and path.is_dir()):
            raise DataError(str(path), "expected a file, found none; check the path")
    if preprocessing.kind == "image":
        return list(read_images(paths, preprocessing.channels))
    return [_read_one(path, preprocessing) for path in paths]


def _read_frames(folder: Path, channels: int) -> Array:
    """The frames of a folder, in the order of their numbers as in training."""
    names = [item.name for item in folder.iterdir() if item.is_file() and not item.name.startswith(".")]
    names = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    if not names:
        raise DataError(str(folder), "expected a folder of frames, found no image in it; check the path")
    frames = read_images([folder / name for name in sorted(names, key=frame_number)], channels)
    if any(frame.shape != frames[0].shape for frame in frames):
        raise DataError(str(folder), "expected frames of one size, got unequal ones; resize them first")
    return np.stack(frames)


def _read_one(path: Path, preprocessing: Preprocessing) -> Array:
    if preprocessing.kind == "clip":
        if path.is_dir():
            return _read_frames(path, preprocessing.channels)
        return read_frames(path, preprocessing.channels)
    if preprocessing.kind == "signal" and path.suffix.lower() == ".wav":
        values, rate = read_wav(path.read_bytes(), str(path))
        if preprocessing.rate is not None and rate != preprocessing.rate:
            known = preprocessing.rate
            raise DataError(str(path), f"is sampled at {rate} Hz, the model knows {known} Hz; resample it first")
        return values
    if path.suffix.lower() != ".npy":
        wanted = ".wav or .npy" if preprocessing.kind == "signal" else ".npy"
        raise DataError(
            str(path),
            f"expected a {wanted} file for a model of {preprocessing.kind}s, got {path.suffix or 'no suffix'}; "
            "convert it",
        )
    array = read_npy(path.read_bytes(), str(path)).astype(np.float32)
    ndim = 2 if preprocessing.kind == "signal" else 4
    return array[..., None] if array.ndim == ndim - 1 else array
