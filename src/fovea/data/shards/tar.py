"""The samples of one shard, in the order in which they lie there, read as a stream."""

from __future__ import annotations

import re
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from fovea.data.decode import IMAGE_SUFFIXES
from fovea.data.shards.places import KEY, is_url, open_binary
from fovea.errors import DataError, FoveaError

__all__ = ["Member", "TornShard", "members"]

_MOST_LABEL = 1 << 12  # bytes of a label
_PAUSES = (0.5, 2.0, 8.0)  # seconds before an address is tried again
_TORN = (tarfile.TarError, EOFError, zlib.error)


class TornShard(DataError):
    """A shard that can be reached, and is no tar file to its end."""


class Member(NamedTuple):
    """One sample: its place in the shard, the image's name in it and bytes (empty: not wanted), and its label."""

    ordinal: int
    name: str
    data: bytes
    label: str


def members(shard: str, first: int = 0, images: bool = True, labelled: bool = True) -> Iterator[Member]:
    """The samples of a shard from number ``first`` on. Runs of members without an image are no samples, nor, where
    samples are ``labelled``, those without a label.

    An address that fails in the middle is opened again and continued. Raises DataError for what is missing or cannot be
    read, TornShard for what is no tar file.
    """
    failures = 0
    while True:
        try:
            for member in _once(shard, first, images, labelled):
                yield member
                first, failures = member.ordinal + 1, 0
            return
        except FileNotFoundError:
            raise DataError(shard[:200], "is not there; correct the pattern, or copy the shard") from None
        except FoveaError:
            raise
        except Exception as error:  # libraries behind addresses raise what they like
            if not is_url(shard) or failures == len(_PAUSES):
                if not is_url(shard) and not isinstance(error, (*_TORN, OSError)):
                    raise
                words, kind = str(error) or type(error).__name__, TornShard if isinstance(error, _TORN) else DataError
                raise kind(shard[:200], f"cannot be read as a tar file to its end: {words}") from None
            time.sleep(_PAUSES[failures])
            failures += 1


def _once(shard: str, first: int, images: bool, labelled: bool) -> Iterator[Member]:
    with closing(open_binary(shard)) as file:
        # in place, what is not wanted is jumped over; compressed files and plain streams can only be read through
        plain = shard.endswith(".tar") and file.seekable()
        with tarfile.open(fileobj=file, mode="r:" if plain else "r|*") as archive:
            yield from _grouped(archive, first, images, None if labelled else "")


def _grouped(archive: tarfile.TarFile, first: int, images: bool, unlabelled: str | None) -> Iterator[Member]:
    """``unlabelled``: the label of what has none; None: no sample."""
    ordinal, key, name, data, label = 0, "", "", b"", unlabelled
    for item in archive:
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps a record of each
        found = KEY.match(item.name) if item.isreg() else None
        if found is None:
            continue
        if found[1] != key:
            if name and label is not None:
                if ordinal >= first:
                    yield Member(ordinal, name, data, label)
                ordinal += 1
            key, name, data, label = found[1], "", b"", unlabelled
        ending = found[2].lower()
        if ending == "cls":
            label = _label(_content(archive, item, _MOST_LABEL))
        elif not name and f".{ending.rsplit('.', 1)[-1]}" in IMAGE_SUFFIXES:
            name = item.name
            if images and ordinal >= first:
                data = _content(archive, item, item.size)
    if name and label is not None and ordinal >= first:
        yield Member(ordinal, name, data, label)


def _content(archive: tarfile.TarFile, item: tarfile.TarInfo, most: int) -> bytes:
    stream = archive.extractfile(item)
    data = b"" if stream is None else stream.read(most)
    if len(data) < min(most, item.size):
        raise tarfile.ReadError("it ends within a file")
    return data


def _label(data: bytes) -> str:
    """A label as text; numbers in their shortest form."""
    text = data.decode("utf-8", "replace").strip()
    return str(int(text)) if re.fullmatch(r"\d{1,9}", text) else text
