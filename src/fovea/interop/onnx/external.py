"""Weights that an ONNX file keeps in a second file beside it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx

from fovea.errors import ModelFileError
from fovea.interop.onnx.values import Array

__all__ = ["external_arrays"]

READ = {getattr(onnx.TensorProto, name) for name in ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL")}
READ |= {getattr(onnx.TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)}
"""Element types of one or more whole bytes."""


def external_arrays(path: Path, graph: onnx.GraphProto) -> dict[str, Array]:
    """Name -> array of every initializer whose numbers lie outside, read from where they lie when they are used.

    Raises ModelFileError, in one line, for a file that is missing or too short, and for one outside of the folder of
    ``path``: a model must not read what its user did not give away.
    """
    arrays = {}
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            arrays[tensor.name] = _array(path, tensor)
    return arrays


def _array(path: Path, tensor: onnx.TensorProto) -> Array:
    told = {entry.key: entry.value for entry in tensor.external_data}
    file = _inside(path, tensor.name, told.get("location", ""))
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type if tensor.data_type in READ else 0))
        offset, length = int(told.get("offset", "0")), int(told.get("length", "-1"))
    except (KeyError, ValueError, TypeError):
        raise _damaged(path, tensor, "its type, offset or length are no such thing") from None
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape):
        raise _damaged(path, tensor, f"the shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if offset < 0 or length not in (-1, size) or offset + size > file.stat().st_size:
        raise _damaged(path, tensor, f"{file.name} does not hold {size:,} bytes from {offset:,} on")
    if size == 0:
        return np.zeros(shape, dtype)
    mapped: Array = np.memmap(file, dtype.newbyteorder("<") if dtype.kind in "fiu" else dtype, "r", offset, shape)
    return mapped


def _inside(path: Path, name: str, location: str) -> Path:
    folder = path.resolve().parent
    try:
        file = (folder / location).resolve()
        found = file.is_file()
    except (OSError, ValueError):  # a name that no file system takes
        raise ModelFileError(
            str(path), f"expected a file with the weights {name[:80]!r}; its name is damaged"
        ) from None
    if not location or not file.is_relative_to(folder):
        raise ModelFileError(
            str(path), f"expected the weights {name[:80]!r} in a file beside it, got {location[:120]!r}; it is not read"
        )
    if not found:
        raise ModelFileError(
            str(path), f"expected its weights in {location[:120]!r} beside it, found no such file; keep both together"
        )
    return file


def _damaged(path: Path, tensor: onnx.TensorProto, what: str) -> ModelFileError:
    return ModelFileError(
        str(path), f"expected the weights {tensor.name[:80]!r} in a second file, got: {what}; a file is damaged"
    )
