"""IDX files, plain or gzipped: ``train-images-idx3-ubyte`` with ``train-labels-idx1-ubyte``, ``t10k-...`` as the test.

Header: two zero bytes, a type code, the number of axes, then each size as a big-endian 32-bit integer (LeCun, MNIST).
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.layouts.base import Found, Options
from fovea.data.source import ArraySource
from fovea.data.split import SPLIT_WORDS
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["find", "read_idx"]

_NAME = re.compile(
    r"(?:(?P<prefix>.*)[-_.])?(?P<split>train|t10k|test|val|valid)[-_.](?P<what>images|labels)[-_.]idx\d-ubyte(?:\.gz)?",
    re.IGNORECASE,
)
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def find(tree: Tree, options: Options) -> Found | None:
    """Pairs of images and labels, or None."""
    sets: dict[str, dict[tuple[str, str], str]] = {}
    for path in tree:
        match = _NAME.fullmatch(path.rsplit("/", 1)[-1])
        if match:
            files = sets.setdefault(match["prefix"] or "", {})
            files.setdefault((SPLIT_WORDS[match["split"].lower()], match["what"].lower()), path)
    named = _NAME.fullmatch(options.explicit) if options.explicit else None
    if named:
        sets = {prefix: files for prefix, files in sets.items() if prefix == (named["prefix"] or "")}
    if len(sets) > 1:
        raise DataError(
            tree.name, f"holds several IDX sets ({', '.join(sorted(sets))}); name a file of the one you want"
        )
    files = next(iter(sets.values()), {})
    if not any(what == "images" for _, what in files):
        return None
    parts = {}
    for split in ("train", "val", "test"):
        images, labels = files.get((split, "images")), files.get((split, "labels"))
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            raise DataError(
                images or labels or tree.name, f"needs its {'labels' if labels is None else 'images'} file beside it"
            )
        parts[split] = _part(tree, images, labels, options.max_memory)
    return Found("image", "classification", dict(parts))


def _part(tree: Tree, images: str, labels: str, limit: int) -> tuple[ArraySource, npt.NDArray[np.int64]]:
    shape, dtype = idx_header(tree.read(images), images)
    if dtype != np.uint8 or len(shape) not in (3, 4):
        raise DataError(images, f"holds {dtype} values of shape {shape}; images are uint8 N,H,W or N,H,W,C")
    targets = read_idx(tree.read(labels), labels, limit)
    if targets.ndim != 1 or targets.dtype.kind not in "ui":
        raise DataError(
            labels, f"holds {targets.dtype} values of shape {targets.shape}; labels are one integer a sample"
        )
    if len(targets) != shape[0]:
        raise DataError(labels, f"has {len(targets)} labels for {shape[0]} images")
    full = shape if len(shape) == 4 else (*shape, 1)
    if 0 in full:
        raise DataError(images, f"has no images (shape {shape})")
    return ArraySource(
        "image", full, lambda: read_idx(tree.read(images), images, limit).reshape(full), images
    ), targets.astype(np.int64)


def idx_header(data: bytes, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype, from the first bytes."""
    head = _unpacked(data, name, 4 + 4 * 255)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or head[3] == 0:
        raise DataError(name, "is not an IDX file: its first four bytes are not 0, 0, a type and a number of axes")
    axes = head[3]
    if len(head) < 4 + 4 * axes:
        raise DataError(name, "is cut short inside its header")
    return struct.unpack(f">{axes}I", head[4 : 4 + 4 * axes]), np.dtype(_TYPES[head[2]])


def read_idx(data: bytes, name: str, max_memory: int = 1 << 34) -> npt.NDArray[Any]:
    """The array of an IDX file's bytes (gzipped or not). Raises DataError when sizes and bytes disagree."""
    shape, dtype = idx_header(data, name)
    count = 1
    for side in shape:
        count *= side
    offset, size = 4 + 4 * len(shape), count * dtype.itemsize
    if size > max_memory:
        raise DataError(
            name,
            f"promises {size / 1e9:.1f} GB (shape {shape}), {max_memory / 1e9:.1f} GB are allowed; raise max_memory",
        )
    values = _unpacked(data, name, offset + size + 1)
    if len(values) != offset + size:
        have = f"only {len(values) - offset}" if len(values) < offset + size else "more"
        raise DataError(name, f"promises {size} bytes for shape {shape}, {have} are there")
    return np.frombuffer(values, dtype, count, offset).reshape(shape) if count else np.zeros(shape, dtype)


def _unpacked(data: bytes, name: str, most: int) -> bytes:
    """At most ``most`` bytes of the content."""
    if data[:2] != b"\x1f\x8b":
        return data[:most]
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return stream.read(most)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(name, f"is not a whole gzip file: {error}") from None
