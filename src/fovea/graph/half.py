"""Numbers of a model file as float16: half of the file, 11 significant bits of each number.

Rounding to the nearest float16 changes a number by at most 2^-11 of it, from 6.1e-5 up to 65504; smaller ones lose
bits, those below 3e-8 become 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError, ModelFileError

__all__ = ["narrowed", "widened"]

Array = npt.NDArray[Any]


def narrowed(where: str, tensors: Mapping[str, Array], dtype: str, quantized: bool = False) -> dict[str, Array]:
    """float32 arrays as float16. Raises ConfigError for another dtype and for a model whose weights are int8 already,
    ModelFileError for a number that float16 does not hold."""
    if dtype != "float16":
        raise ConfigError("save", f"expected dtype as float32 or float16, got {dtype!r}; float16 halves the file")
    if quantized:
        raise ConfigError("save", "expected a float32 model for float16, got one quantised to int8; leave dtype out")
    result = {}
    for name, array in tensors.items():
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        lost = np.isinf(half) & np.isfinite(array)
        if lost.any():
            largest, most = float(np.abs(array[lost]).max()), np.finfo(np.float16).max
            raise ModelFileError(
                where, f"expected numbers up to {most:.0f} for float16, got {largest:.3g} in {name}; save as float32"
            )
        result[name] = half
    return result


def widened(where: str, metadata: Mapping[str, Any], tensors: dict[str, Array]) -> dict[str, Array]:
    """What a file's tensors are read as: those of a file whose metadata say float16 become float32, others stay.

    Raises ModelFileError for another dtype, in the metadata or among the tensors, and for one beside int8.
    """
    dtype = metadata.get("dtype")
    if dtype is None:
        return tensors
    if dtype != "float16" or metadata.get("format") != 3 or metadata.get("quantization") is not None:
        raise ModelFileError(where, f"expected float16 in a file of format 3, got {str(dtype)[:20]!r}; it is damaged")
    for name, array in tensors.items():
        if array.dtype != np.float16:
            raise ModelFileError(where, f"expected float16 numbers in {name}, got {array.dtype}; the file is damaged")
    return {name: array.astype(np.float32) for name, array in tensors.items()}
