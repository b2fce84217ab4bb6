"""Where shards lie: folders, patterns with braces, and addresses such as ``s3://`` through fsspec."""

from __future__ import annotations

import itertools
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from fovea.errors import DataError, FoveaError, MissingExtra

__all__ = [
    "CATALOG",
    "KEY",
    "TAR",
    "expanded",
    "is_shards",
    "is_url",
    "join",
    "open_binary",
    "read_bytes",
    "shard_files",
]

T = TypeVar("T")
CATALOG = "shards.json"
_NUMBERED = re.compile(r"\d{4,}\.tar(\.gz)?")
TAR = (".tar", ".tar.gz", ".tgz")
"""How the names of tar files end."""
KEY = re.compile(r"^((?:.*/)?[^./][^./]*)\.([^/]+)$")
"""WebDataset's rule: the key of a sample ends at the first dot of a file's name."""
_LOOKED_AT = 64
"""Files at the beginning of a numbered tar file."""
_BLOCK = 1 << 20
"""Bytes that are fetched at once; every stream holds one or two of these."""


def is_url(text: str) -> bool:
    """Whether a text is an address and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def is_shards(text: str) -> bool:
    """Whether a path, pattern or address names shards: a folder with ``shards.json`` or with numbered tar files alone,
    one numbered tar file, a pattern with braces that ends in ``.tar``, any address. A number alone does not make a
    shard: ``photos_2024.tar.gz`` is one only where its files come in pairs."""
    if is_url(text):
        return True
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
            numbered = bool(names) and all(_is_numbered(name) for name in names)
            return CATALOG in names or (numbered and _begins_with_pair(path / min(names)))
        if path.is_file():
            return _is_numbered(path.name) and _begins_with_pair(path)
        return "{" in text and text.endswith(TAR)
    except (OSError, ValueError):  # a name that no file system takes
        return False


def _is_numbered(name: str) -> bool:
    return _NUMBERED.search(name) is not None and name.endswith(TAR)


def _begins_with_pair(path: Path) -> bool:
    """Whether two files near the beginning are parts of one sample, such as 000001.jpg and 000001.cls; a file that is
    no whole tar file may be a torn shard."""
    try:
        with tarfile.open(path, "r|*") as archive:
            files = (item.name for item in archive if item.isfile())
            keys = [KEY.match(name) for name in itertools.islice(files, _LOOKED_AT)]
    except (tarfile.TarError, EOFError, zlib.error):
        return True
    found = [key and key[1] for key in keys]
    return any(one is not None and one == other for one, other in itertools.pairwise(found))


def expanded(text: str) -> list[str]:
    """``x-{00..02}.tar`` -> three names, as a shell does it; a text without braces is itself."""
    if "{" not in text:
        return [text]
    try:
        from braceexpand import braceexpand
    except ImportError:
        raise MissingExtra("shards", "shards", "a pattern with braces") from None
    try:
        return list(braceexpand(text))
    except ValueError as error:
        raise DataError(text[:200], f"is no pattern with braces: {error}; write x-{{000000..000009}}.tar") from None


def shard_files(text: str) -> list[str]:
    """The tar files that a folder, file, pattern or address names, in order. Raises DataError when there is none."""
    if is_url(text):
        found = expanded(text)
        if not all(name.endswith(TAR) for name in found):
            raise DataError(
                text[:200],
                f"expected {CATALOG} there, found none; name the tar files: {text.rstrip('/')}/x-{{0..9}}.tar",
            )
        return found
    path = Path(text).expanduser()
    if path.is_dir():
        return [str(entry) for entry in sorted(path.iterdir()) if entry.name.endswith(TAR)]
    files = [str(Path(name).expanduser()) for name in expanded(text)]
    missing = [name for name in files if not Path(name).is_file()]
    if missing:
        raise DataError(text[:200], f"names {len(files)} files of which {missing[0]} is not there; correct the pattern")
    return files


def join(folder: str, name: str) -> str:
    """A file in a folder or below an address."""
    return posixpath.join(folder, name) if is_url(folder) else str(Path(folder) / name)


def open_binary(name: str) -> IO[bytes]:
    """A file or address, opened for reading. Raises DataError, or FileNotFoundError for one that is not there."""
    if not is_url(name):
        return open(name, "rb")
    found: IO[bytes] = _remote(name, lambda system, path: system.open(path, "rb", block_size=_BLOCK))
    return found


def read_bytes(name: str) -> bytes | None:
    """All of a file, or None where there is none. Raises DataError for one that cannot be read."""
    try:
        if is_url(name):
            found: bytes = _remote(name, lambda system, path: system.cat_file(path))
            return found
        return Path(name).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except FoveaError:
        raise
    except Exception as error:  # libraries behind addresses raise what they like
        if not is_url(name) and not isinstance(error, OSError):
            raise
        raise DataError(name[:200], f"cannot be read: {error or type(error).__name__}") from None


def _remote(name: str, work: Callable[[Any, str], T]) -> T:
    try:
        import fsspec
    except ImportError:
        raise MissingExtra("shards", "shards", f"reading {name.split('://')[0]}://") from None
    try:
        return work(*fsspec.core.url_to_fs(name))
    except ImportError as error:  # the library of one kind of address: s3fs, gcsfs
        raise DataError(name[:200], f"needs a library of its own: {error}") from None
    except ValueError as error:  # a kind of address that fsspec does not know
        raise DataError(name[:200], f"is no address that can be read: {error}") from None
