"""What a person hands over, as network input: files and bytes go through preprocessing, floats are input already."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.given import as_samples
from fovea.errors import DataError, ShapeError
from fovea.model import Model

__all__ = ["network_input"]


def network_input(model: Model, image: Any) -> npt.NDArray[np.float32]:
    """A path, uint8 ``*spatial,C``, or float32 input ``*spatial,C`` or ``N,*spatial,C`` -> float32 N,*spatial,C.

    Raises DataError for what cannot be read, ShapeError for a network with several inputs or an array of another shape.
    """
    shapes, known = model.graph.input_shapes, model.preprocessing
    if len(shapes) != 1:
        raise ShapeError("arithmetic", f"expected a network with one input, got {len(shapes)}; cut the others off")
    given = image
    if known is not None and (isinstance(image, (str, os.PathLike)) or getattr(image, "dtype", None) == np.uint8):
        given = known.apply_pixels(known.apply_spatial(as_samples(image, known)))
    elif isinstance(image, (str, os.PathLike)):
        raise DataError(
            "arithmetic", "expected a model that knows its preprocessing for a file, got one without; give float32 "
            "network input, or set model.preprocessing",
        )  # fmt: skip
    if not isinstance(given, np.ndarray):
        raise DataError("arithmetic", f"expected a path or an array, got {type(given).__name__}; give an image")
    if given.dtype.kind != "f":
        fix = "give uint8 images" if known is not None else "convert it as in training"
        raise DataError("arithmetic", f"expected float32 network input, got {given.dtype}; {fix}")
    batch = given[None] if given.ndim == len(shapes[0]) else given
    fits = batch.ndim == len(shapes[0]) + 1 and len(batch) > 0 and all(
        own in (None, size) for own, size in zip(shapes[0], batch.shape[1:], strict=True)
    )  # fmt: skip
    if not fits:
        raise ShapeError(
            "arithmetic", f"expected an array {('N', *shapes[0])} or one sample of it, got {np.shape(given)}; resize it"
        )
    return np.ascontiguousarray(batch, np.float32)
