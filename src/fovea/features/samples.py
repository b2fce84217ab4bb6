"""Samples in pieces, whatever they are given as: a split, arrays, paths. Each piece is decoded when it is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.dataset import Dataset, Split
from fovea.data.preprocess import Preprocessing
from fovea.data.samples import read_samples
from fovea.errors import DataError
from fovea.model import Model

__all__ = ["Samples", "samples_of"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


class Samples:
    """As many as ``len``; ``pieces(n)`` gives network input before the pixel half, at most n at a time, readable ones
    only; afterwards ``readable`` holds their positions. ``known``: the preprocessing that they go through."""

    def __init__(self, count: int, known: Preprocessing | None) -> None:
        self._count, self.known = count, known
        self.readable: Rows = np.arange(count, dtype=np.int64)

    def __len__(self) -> int:
        return self._count

    def digests(self) -> list[bytes]:
        """A hash of the stored bytes of each sample; decodes nothing."""
        raise NotImplementedError

    def pieces(self, n: int) -> Iterator[Array]:
        """Arrays ``N,*spatial,C``, in order."""
        for start in range(0, self._count, n):
            yield self._piece(start, min(start + n, self._count))

    def settle(self, readable: Rows) -> None:
        """Say which samples can be read, when another one has found out."""
        self.readable = readable

    def _piece(self, start: int, stop: int) -> Array:
        raise NotImplementedError


class _Arrays(Samples):
    """Arrays in memory; ``known`` None: they are network input already."""

    def __init__(self, arrays: Array | Sequence[Array], known: Preprocessing | None) -> None:
        super().__init__(len(arrays), known)
        self._arrays = arrays

    def digests(self) -> list[bytes]:
        return [_digest(np.ascontiguousarray(array)) for array in self._arrays]

    def _piece(self, start: int, stop: int) -> Array:
        part = self._arrays[start:stop]
        return np.asarray(part) if self.known is None else self.known.apply_spatial(part)


def _digest(array: Array) -> bytes:
    return hashlib.sha256(f"{array.dtype} {array.shape}\n".encode() + array.tobytes()).digest()[:20]


class _Files(Samples):
    """One file (or folder of frames) a sample."""

    def __init__(self, paths: Sequence[Path], known: Preprocessing) -> None:
        super().__init__(len(paths), known)
        self._paths, self._reader = paths, known

    def digests(self) -> list[bytes]:
        result = []
        for path in self._paths:
            digest = hashlib.sha256()
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                try:
                    digest.update(file.read_bytes())
                except OSError as error:
                    reason = error.strerror or str(error)
                    raise DataError(str(file), f"expected a file, got: {reason}; check the path") from None
            result.append(digest.digest()[:20])
        return result

    def _piece(self, start: int, stop: int) -> Array:
        return self._reader.apply_spatial(read_samples(self._paths[start:stop], self._reader))


class _Listed(Samples):
    """A split of a data set, decoded as the model needs it: what the split has decoded itself is used where it fits."""

    def __init__(self, split: Split, known: Preprocessing) -> None:
        super().__init__(split.listed, known)
        self._split, self._spatial = split, known.spatial_half()

    def digests(self) -> list[bytes]:
        source = self._split.source
        return [source.digest(int(row)) for row in self._split.listed_rows]

    def pieces(self, n: int) -> Iterator[Array]:
        if self._split.decoded and self._split.spatial == self._spatial:
            inputs = self._split.inputs
            self.readable = self._split.readable
            for start in range(0, len(inputs), n):
                yield inputs[start : start + n]
            return
        good: list[Rows] = []
        bad: dict[int, str] = {}
        for start in range(0, len(self), n):
            part = self._split.decode(slice(start, start + n), self._spatial)
            good.append(part.good + start)
            bad |= {position + start: reason for position, reason in part.bad.items()}
            if len(part.good):
                yield part.inputs
        self.readable = np.concatenate(good) if good else np.empty(0, np.int64)
        self._split.settle(self.readable, bad)

    def settle(self, readable: Rows) -> None:
        super().settle(readable)
        missing = np.setdiff1d(np.arange(len(self)), readable)
        self._split.settle(readable, {int(position): "could not be read" for position in missing})


def samples_of(model: Model, given: Any) -> Samples:
    """Samples as this model takes them. Raises DataError for what is none, and where model and data differ in kind.

    Without preprocessing a model takes float32 network input alone.
    """
    if isinstance(given, Dataset):
        raise DataError("codes", f"expected one split of {given.name}, got all of it; give data.train, say")
    known = model.preprocessing
    if known is None:
        return _network_input(model, given)
    if isinstance(given, Split):
        return _listed(given, known)
    single = isinstance(given, (str, os.PathLike))
    if not isinstance(given, (str, os.PathLike, list, tuple, np.ndarray)):
        raise DataError("codes", f"expected a split, images or paths, got {type(given).__name__}; give data.train, say")
    items: Any = [given] if single else given
    if isinstance(items, np.ndarray) and items.ndim == len(model.graph.input_shapes[0]):
        items = items[None]
    if not len(items):
        raise DataError("codes", "expected at least one sample, got none; give some")
    are_paths = [isinstance(item, (str, os.PathLike)) for item in items]
    if any(are_paths) and not all(are_paths):
        raise DataError("codes", "expected paths or images, got both; take their codes one after the other")
    if all(are_paths):
        return _Files([Path(item) for item in items], known)
    return _Arrays(items if isinstance(items, np.ndarray) else [np.asarray(item) for item in items], known)


def _network_input(model: Model, given: Any) -> Samples:
    shape = model.graph.input_shapes[0]
    if not isinstance(given, np.ndarray) or given.dtype.kind != "f" or given.ndim != len(shape) + 1 or not len(given):
        fix = f"give float32 network input {('N', *shape)}, or set model.preprocessing"
        raise DataError("codes", f"expected a model that knows its preprocessing, got {model!r} without one; {fix}")
    return _Arrays(given, None)


def _listed(split: Split, known: Preprocessing) -> Samples:
    if split.kind != known.kind:
        raise DataError("codes", f"expected {known.kind}s as the model takes them, got {split.kind}s; use other data")
    if not split.listed:
        raise DataError("codes", f"expected at least one sample in {split.name}, got none; give another split")
    if known.size is None:  # as Dataset.prepared does: the data's own size
        known = replace(known, size=split.spatial.size, resize_to=None)
    return _Listed(split, known)
