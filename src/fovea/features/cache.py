"""Codes that were computed before, on disk: found by what they are computed from, never by name or date.

An entry is one safetensors file of one layer's codes, ``codes/KEY.safetensors`` in the cache folder (``FOVEA_CACHE``).
KEY is the sha256 of everything that decides the numbers: the network up to the layer and its weights, preprocessing,
pooling, engine, precision, and the contents of the files. Together the entries keep below ``MAX_BYTES``: the ones that
were not used for the longest time go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.fetch import cache_folder
from fovea.errors import FoveaError
from fovea.graph.serialize import read_tensors, write_tensors

__all__ = ["MAX_BYTES", "read", "write"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]

MAX_BYTES = 1 << 30
"""Of all entries together."""


def _folder() -> Path:
    return cache_folder() / "codes"


def _checksum(codes: Array, readable: Rows) -> str:
    return hashlib.sha256(codes.tobytes() + readable.tobytes()).hexdigest()


def read(key: str) -> tuple[Array, Rows] | None:
    """Codes N,D and the positions of the samples that could be read; None where there is no whole entry.

    Every byte is checked: a damaged entry is as good as none.
    """
    path = _folder() / f"{key}.safetensors"
    if not path.is_file():
        return None
    try:
        tensors, metadata = read_tensors(path)
        codes, readable = tensors["codes"], tensors["readable"]
        whole = metadata.get("key") == key and metadata.get("sha256") == _checksum(codes, readable)
    except (FoveaError, KeyError):
        return None
    if not whole or codes.dtype != np.float32 or codes.ndim != 2 or readable.shape != codes.shape[:1]:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now: the last to go
    return codes, readable


def write(key: str, codes: Array, readable: Rows) -> None:
    """Keep an entry, and make room. A disk that does not take it is no error: it is computed again then."""
    if codes.nbytes > MAX_BYTES // 2:
        return
    path = _folder() / f"{key}.safetensors"
    with contextlib.suppress(OSError):
        metadata = {"key": key, "sha256": _checksum(codes, readable)}
        write_tensors(path, {"codes": codes, "readable": readable}, metadata)
        _make_room(path)


def _make_room(newest: Path) -> None:
    """Delete the entries that were not used for the longest time until the rest keeps below ``MAX_BYTES``."""
    entries = []
    for path in newest.parent.glob("*.safetensors"):
        with contextlib.suppress(OSError):  # another process may be doing the same
            status = path.stat()
            entries.append((path == newest, status.st_mtime_ns, path, status.st_size))
    total = sum(size for *_, size in entries)
    for _, _, path, size in sorted(entries):
        if total <= MAX_BYTES:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
