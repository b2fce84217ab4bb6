"""Plain safetensors files of weights: their tensors as NumPy arrays, bfloat16 too, which NumPy has no type for."""

from __future__ import annotations

import json
from os import PathLike, fspath
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from fovea.errors import ModelFileError

__all__ = ["read_safetensors"]

Array = npt.NDArray[Any]


def read_safetensors(path: str | PathLike[str]) -> dict[str, Array]:
    """Name -> array; bfloat16 becomes float32, which holds it exactly. Raises ModelFileError
    for a file that cannot be read, and for numbers of 8 bits with a point."""
    where = fspath(path)
    try:
        with safe_open(where, framework="numpy") as content:
            names = list(content.keys())
            narrow = [name for name in names if content.get_slice(name).get_dtype() == "BF16"]
            tensors = {name: content.get_tensor(name) for name in names if name not in narrow}
        tensors |= _bfloat16(where, narrow) if narrow else {}
    except (SafetensorError, OSError, TypeError, ValueError, KeyError) as error:
        raise ModelFileError(
            where, f"expected a safetensors file that can be read, got: {error}; save it as float32"
        ) from None
    return {name: tensors[name] for name in names}


def _bfloat16(where: str, names: list[str]) -> dict[str, Array]:
    """Each number is the upper half of a float32. The header is one that the library has read already."""
    tensors: dict[str, Array] = {}
    with open(where, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name in names:
            start, end = header[name]["data_offsets"]
            file.seek(8 + length + start)
            halves = np.frombuffer(file.read(end - start), "<u2")
            tensors[name] = (halves.astype(np.uint32) << 16).view(np.float32).reshape(header[name]["shape"])
    return tensors
