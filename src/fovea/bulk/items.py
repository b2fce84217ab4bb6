"""What is to be predicted, one after the other in a fixed order: files, folders and shards, never all at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fovea import progress
from fovea.data.decode import IMAGE_SUFFIXES
from fovea.data.shards.catalog import read_catalog
from fovea.data.shards.places import CATALOG, TAR, is_shards, is_url, join, read_bytes, shard_files
from fovea.data.shards.tar import TornShard, members
from fovea.errors import DataError

__all__ = ["Item", "check_inputs", "items", "places"]

_SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": IMAGE_SUFFIXES,
    "signal": (".wav", ".npy"),
    "volume": (".npy",),
    "clip": (".gif", ".npy"),
}


@dataclass(frozen=True)
class Item:
    """One sample. ``name``: what its row is called; ``data``: the bytes of an image in a shard, None for a file;
    ``error``: why the rest of a shard, which this then stands for, cannot be read."""

    name: str
    data: bytes | None = None
    error: str | None = None


def items(
    inputs: Sequence[str], kind: str, *, share: tuple[int, int] = (0, 1), skip: int = 0, last: str = ""
) -> Iterator[Item]:
    """The samples of this share after the first ``skip``, the last of which is called ``last``.

    ``share``: (i, n), every n-th file of the files and folders, every n-th tar file of the shards. Folders are walked
    in the order of names; linked folders in them are left out. Raises DataError for what is not there, for a folder
    without samples, and where ``last`` is called otherwise now.
    """
    left = skip
    for place, single in _places(inputs, kind, share):
        first, ended = 0, False
        if left:  # over what is done already
            for passed in [Item(place)] if single else _inside(place, images=False):
                first, left, ended = first + 1, left - 1, single or passed.error is not None
                if not left:
                    _check(passed.name, last)
                    break
        if left or ended:
            continue
        if single:
            yield Item(place)
        else:
            yield from _inside(place, first)
    if left:
        raise _changed(last)


def places(inputs: Sequence[str], kind: str) -> list[tuple[str, bool]]:
    """Every file, and every tar file of samples (False). Raises DataError as ``items`` does."""
    check_inputs(inputs, kind)
    return list(_places(inputs, kind, (0, 1)))


def check_inputs(inputs: Sequence[str], kind: str) -> None:
    """Raise DataError unless each of them names something: what is wrong is told before hours of work, not after."""
    if not inputs:
        raise DataError("predict", "expected files, folders or shards, got none; name at least one")
    for name in inputs:
        next(_all_places(name, kind), None)


def _places(inputs: Sequence[str], kind: str, share: tuple[int, int]) -> Iterator[tuple[str, bool]]:
    """Files, and tar files of samples (False), of one share."""
    own, all_shares = share
    seen = {True: 0, False: 0}
    for name in inputs:
        for place, single in _all_places(name, kind):
            if seen[single] % all_shares == own:
                yield place, single
            seen[single] += 1


def _all_places(name: str, kind: str) -> Iterator[tuple[str, bool]]:
    if is_shards(name) or (name.endswith(TAR) and Path(name).is_file()):
        if kind != "image":
            raise DataError(name[:200], f"holds images in shards, the model takes {kind}s; name files")
        yield from ((shard, False) for shard in _tar_files(name))
    elif Path(name).is_dir():
        yield from _walked(name, kind)
    elif Path(name).exists():
        yield name, True
    else:
        raise DataError(name[:200], "expected a file, found none; check the path")


def _tar_files(name: str) -> list[str]:
    if is_url(name) and not name.endswith(TAR) and read_bytes(join(name.rstrip("/"), CATALOG)) is not None:
        return [shard.place for contents in read_catalog(name).splits.values() for shard in contents.shards]
    return shard_files(name)


def _walked(name: str, kind: str) -> Iterator[tuple[str, bool]]:
    suffixes = _SUFFIXES[kind] + (TAR if kind == "image" else ())
    found = False
    for folder, folders, inside in os.walk(name, onerror=_left_out):
        folders.sort()
        for file in sorted(inside):
            if file.lower().endswith(suffixes):
                found = True
                yield os.path.join(folder, file), not file.lower().endswith(TAR)
    if not found:
        words = ", ".join(suffixes)
        raise DataError(name[:200], f"expected {kind} files ({words}), found none in this folder; check the path")


def _left_out(error: OSError) -> None:
    progress.say(f"note: the folder {error.filename} cannot be read ({error.strerror}) and is left out")


def _inside(shard: str, first: int = 0, images: bool = True) -> Iterator[Item]:
    """The samples of a shard from number ``first`` on; one that breaks off ends with an item that says so."""
    try:
        for member in members(shard, first, images, labelled=False):
            yield Item(f"{shard}/{member.name}", member.data)
    except TornShard as error:  # one that cannot be reached may be there later: the job stops, and goes on then
        yield Item(shard, error=error.message)


def _check(name: str, last: str) -> None:
    if name != last:
        raise _changed(last)


def _changed(last: str) -> DataError:
    fix = "put the files back, or begin anew with another --out"
    return DataError("predict", f"expected to continue after {last}, got other files than when this began; {fix}")
