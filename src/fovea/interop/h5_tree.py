"""An HDF5 file of unknown origin, read so that it can neither point outside itself nor ask for more than it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fovea.errors import ModelFileError

__all__ = ["H5File"]

Array = npt.NDArray[Any]
DEEPEST = 32
"""Groups inside groups; a hostile file may go on for ever."""
MOST_GROUPS = 100_000


class H5File:
    """Groups, arrays and texts of a file, by path; ``size`` is its length in bytes.

    Only what lies in the file itself is followed: links that lead out of it, and arrays that are kept in other files,
    are refused. All arrays that are read, together, are no larger than the file. Raises ModelFileError.
    """

    def __init__(self, where: str, file: Any, size: int) -> None:
        self.where = where
        self._file = h5py.File(file, "r")
        self._left = size

    def __enter__(self) -> H5File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def is_group(self, path: str) -> bool:
        """Whether there is a group of that path."""
        return isinstance(self._at(path, missing=True), h5py.Group)

    def members(self, path: str) -> list[str]:
        """Names inside a group."""
        group = self._at(path)
        return list(group) if isinstance(group, h5py.Group) else []

    def groups(self) -> Iterator[str]:
        """Paths of all groups, each before those inside it."""
        pending, count = [""], 0
        while pending:
            path = pending.pop()
            count += 1
            if path.count("/") >= DEEPEST or count > MOST_GROUPS:
                raise self._refuse(f"expected at most {DEEPEST} levels of groups, got more", "it is damaged or hostile")
            group = self._at(path)
            if path:
                yield path
            for name in reversed(list(group)):
                own = group.get(name, getclass=True, getlink=True) is h5py.HardLink
                if own and group.get(name, getclass=True) is h5py.Group:
                    pending.append(f"{path}/{name}" if path else name)

    def array(self, path: str) -> Array:
        """The numbers of a data set, float32 for every kind of float."""
        found = self._at(path)
        if not isinstance(found, h5py.Dataset):
            raise self._refuse(f"expected an array at {path[:100]!r}, got a group", "it is damaged")
        if found.external or found.is_virtual:
            raise self._refuse(f"expected {path[:100]!r} in the file itself, got a pointer out of it", "it is hostile")
        if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
            raise self._refuse(f"expected numbers at {path[:100]!r}, got {found.dtype}", "save it as float32")
        needed, stored = found.size * found.dtype.itemsize, found.id.get_storage_size()
        if found.chunks is not None or needed != stored:
            raise self._refuse(
                f"expected {needed:,} bytes at {path[:100]!r} as they are, got {stored:,}, packed or missing",
                "save it with Keras, without compression",
            )
        self._take(needed)
        return np.asarray(found[()], np.float32 if found.dtype.kind == "f" else found.dtype)

    def texts(self, path: str, name: str) -> list[str] | None:
        """An attribute that holds a text or several, None without it; long lists are kept in pieces, name0, name1."""
        if not self.is_group(path):
            return None
        attributes = self._at(path).attrs
        if name in attributes:
            return self._attribute(attributes, name)
        pieces: list[str] = []
        count = 0
        while f"{name}{count}" in attributes:
            pieces += self._attribute(attributes, f"{name}{count}")
            count += 1
        return pieces if count else None

    def json(self, path: str, name: str, largest: int) -> Any:
        """An attribute that holds JSON; None without it."""
        texts = self.texts(path, name)
        return json.loads(texts[0]) if texts and len(texts[0]) <= largest else None

    def _attribute(self, attributes: Any, name: str) -> list[str]:
        described = attributes.get_id(name)
        self._take(int(np.prod(described.shape, dtype=np.float64)) * described.dtype.itemsize)
        values = np.atleast_1d(np.asarray(attributes[name])).ravel()
        return [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in values]

    def _at(self, path: str, missing: bool = False) -> Any:
        """What lies at a path, reached by links inside the file alone."""
        current: Any = self._file
        for name in [part for part in path.split("/") if part]:
            link = current.get(name, getlink=True) if isinstance(current, h5py.Group) else None
            if link is None:
                if missing:
                    return None
                raise self._refuse(f"expected {path[:100]!r}, got nothing there", "it is damaged")
            if not isinstance(link, h5py.HardLink):
                raise self._refuse(f"expected {path[:100]!r} in the file itself, got a link out of it", "it is hostile")
            current = current[name]
        return current

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self._refuse("expected arrays that fit into the file, got larger ones", "it is damaged or hostile")

    def _refuse(self, what: str, fix: str) -> ModelFileError:
        return ModelFileError(self.where, f"{what}; {fix}")
