"""NumPy files read with a bound: the header is checked against the bytes that are there before anything is allocated.

``.npy`` and ``.npz`` of numbers or strings only: arrays of Python objects would be pickles, and pickles are programs.
"""

from __future__ import annotations

import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import DataError

__all__ = ["NpzFile", "npy_header", "read_npy"]

Array = npt.NDArray[Any]
_MAX_HEADER = 1 << 16


def npy_header(data: bytes, name: str) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    """``(shape, dtype, fortran_order, offset of the values)`` of an ``.npy`` file, or of its first 64 KiB."""
    if data[:6] != b"\x93NUMPY":
        raise DataError(name, "is not a NumPy file")
    stream = io.BytesIO(data[:_MAX_HEADER])
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise DataError(name, f"has NumPy format version {version}, which is not known")
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except DataError:
        raise
    except (
        ValueError,
        TypeError,
        SyntaxError,
        KeyError,
        EOFError,
        struct.error,
        tokenize.TokenError,
        OverflowError,
        RecursionError,
        MemoryError,
        Warning,
    ) as error:
        raise DataError(name, f"has a damaged NumPy header: {' '.join(str(error).split())[:120]}") from None
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise DataError(name, f"holds {dtype}, not plain numbers or strings; save it without Python objects")
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise DataError(name, f"has the shape {shape}")
    return tuple(shape), dtype, bool(fortran), stream.tell()


def read_npy(data: bytes, name: str) -> Array:
    """The array of an ``.npy`` file's bytes; read-only memory of ``data``, nothing is copied."""
    shape, dtype, fortran, offset = npy_header(data, name)
    count = 1
    for side in shape:
        count *= side
    if count * dtype.itemsize != len(data) - offset:
        raise DataError(
            name, f"promises {count * dtype.itemsize} bytes for shape {shape}, {len(data) - offset} are there"
        )
    array = np.frombuffer(data, dtype, count, offset) if count and dtype.itemsize else np.zeros(count, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


class NpzFile:
    """The arrays of an ``.npz`` file by name; each is read when asked for, within ``max_memory`` bytes."""

    def __init__(self, source: Path | bytes, name: str, max_memory: int) -> None:
        self.name, self._limit, self._source = name, max_memory, source
        self._members: dict[str, int] = {}
        try:
            with zipfile.ZipFile(self._open()) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".npy"):
                        self._members[member.filename[:-4]] = member.file_size
        except (
            zipfile.BadZipFile,
            OSError,
            EOFError,
            ValueError,
            NotImplementedError,
            struct.error,
            UnicodeError,
        ) as error:
            raise DataError(name, f"is not an .npz file that can be read: {error}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self._members)

    def header(self, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype; decompresses the header alone."""
        shape, dtype, _, _ = npy_header(self._read(key, _MAX_HEADER), f"{self.name}:{key}")
        return shape, dtype

    def read(self, key: str) -> Array:
        """One array."""
        size = self._members.get(key)
        if size is None:
            raise DataError(self.name, f"has no array {key!r}; it holds {', '.join(self.names) or 'none'}")
        if size > self._limit:
            raise DataError(
                f"{self.name}:{key}",
                f"takes {size / 1e9:.1f} GB, more than the {self._limit / 1e9:.1f} GB allowed; raise max_memory",
            )
        return read_npy(self._read(key, size), f"{self.name}:{key}")

    def _read(self, key: str, most: int) -> bytes:
        try:
            with zipfile.ZipFile(self._open()) as archive, archive.open(key + ".npy") as stream:
                return stream.read(most)
        except (
            zipfile.BadZipFile,
            KeyError,
            OSError,
            EOFError,
            ValueError,
            NotImplementedError,
            RuntimeError,
            zlib.error,
            lzma.LZMAError,
            struct.error,
        ) as error:
            raise DataError(f"{self.name}:{key}", f"is damaged: {error}") from None

    def _open(self) -> Any:
        return io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
