"""Sources: where the samples of one split lie before they are decoded.

A source knows its samples by row; it decodes a choice of rows into one array, with threads (Pillow releases the lock),
and reports each sample that cannot be read instead of failing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fovea.data import decode, npy, wav
from fovea.data.preprocess import SPATIAL_AXES, Preprocessing
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["ArraySource", "FileSource", "Loaded", "Shape", "Source", "check_memory"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_CHUNK = 32  # samples one thread takes at a time
_SMALL_FILE = 8192  # bytes


class Shape(NamedTuple):
    """What a header says about one sample: its shape, and whether it is an image without colour."""

    shape: tuple[int, ...]
    grey: bool


class Loaded(NamedTuple):
    """``inputs`` of the readable rows, ``good`` positions among the rows asked for, ``bad`` position -> reason."""

    inputs: Array
    good: Rows
    bad: dict[int, str]


class Source:
    """Samples of one kind, by row."""

    kind: str
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    def shape(self, row: int) -> Shape:
        """Shape of a sample before the spatial half, without decoding it. Raises DataError for an unreadable one."""
        raise NotImplementedError

    def raw(self, row: int, channels: int) -> Array:
        """One sample before the spatial half."""
        raise NotImplementedError

    def digest(self, row: int) -> bytes:
        """A hash of the sample's stored bytes (20 bytes); unreadable samples hash as empty."""
        raise NotImplementedError

    def threads(self) -> int:
        """How many threads decode when the user does not say."""
        return os.cpu_count() or 1

    def load(self, rows: Rows, spatial: Preprocessing, workers: int | None, max_memory: int) -> Loaded:
        """Decode ``rows`` and apply the spatial half."""
        sample = spatial.sample_shape
        check_memory(self.kind, len(rows), spatial, max_memory)
        inputs = np.empty((len(rows), *(side or 1 for side in sample)), spatial.dtype)
        bad: dict[int, str] = {}

        def work(start: int) -> None:
            for position in range(start, min(start + _CHUNK, len(rows))):
                try:
                    inputs[position] = spatial.apply_to_sample(self.raw(int(rows[position]), spatial.channels))
                except DataError as error:
                    bad[position] = error.message

        starts = range(0, len(rows), _CHUNK)
        threads = workers or self.threads()
        if threads == 1:
            for start in starts:
                work(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, starts))
        good = np.array([position for position in range(len(rows)) if position not in bad], np.int64)
        return Loaded(inputs[good] if bad else inputs, good, dict(sorted(bad.items())))


def check_memory(kind: str, count: int, spatial: Preprocessing, max_memory: int) -> None:
    """Raise DataError when so many decoded samples take more memory than is allowed."""
    sample = spatial.sample_shape
    needed = count * int(np.prod([side or 1 for side in sample])) * spatial.dtype.itemsize
    if needed > max_memory:
        shape = "x".join(str(side) for side in sample)
        raise DataError(
            "data",
            f"{count:,} {kind}s of {shape} take {needed / 1e9:.1f} GB decoded, {max_memory / 1e9:.1f} GB"
            " are allowed; choose a smaller size or length, or raise max_memory",
        )


class FileSource(Source):
    """One sample a file (an image, a wav, a volume, an animation) or, for clips of frames, a folder of files."""

    def __init__(
        self, tree: Tree, kind: str, files: Sequence[tuple[str, ...]], ids: Sequence[str] | None = None
    ) -> None:
        self.tree, self.kind, self.files = tree, kind, files
        self.ids = list(ids) if ids is not None else [paths[0] for paths in files]
        self.rate: int | None = None  # of signals: the first readable file sets it, all others must agree

    def shape(self, row: int) -> Shape:
        paths = self.files[row]
        data = self.tree.read(paths[0])
        if self.kind in ("image", "clip"):
            height, width, grey, frames = decode.image_header(data, paths[0])
            if self.kind == "image":
                return Shape((height, width), grey)
            return Shape((frames if len(paths) == 1 else len(paths), height, width), grey)
        if paths[0].lower().endswith(".wav"):
            header = wav.wav_header(data, paths[0])
            return Shape((header.frames, header.channels), False)
        return Shape(_with_channels(_array_header(data, paths[0]), self.kind, paths[0]), False)

    def raw(self, row: int, channels: int) -> Array:
        paths = self.files[row]
        if self.kind == "image":
            return decode.read_image(self.tree.read(paths[0]), channels, paths[0])
        if self.kind == "clip":
            if len(paths) == 1:
                return decode.read_frames(self.tree.read(paths[0]), channels, paths[0])
            frames = [decode.read_image(self.tree.read(path), channels, path) for path in paths]
            if any(frame.shape != frames[0].shape for frame in frames):
                raise DataError(self.ids[row], "has frames of unequal size")
            return np.stack(frames)
        if paths[0].lower().endswith(".wav"):
            values, rate = wav.read_wav(self.tree.read(paths[0]), paths[0])
            if self.rate is not None and rate != self.rate:
                raise DataError(paths[0], f"is sampled at {rate} Hz, the others at {self.rate} Hz; resample it first")
            return values
        array = _read_array(self.tree.read(paths[0]), paths[0])
        return array.reshape(_with_channels(array.shape, self.kind, paths[0]))

    def threads(self) -> int:
        """One thread for tiny files: their time goes into Python, and handing its lock around costs more than it gives.

        Measured on 45,000 JPEGs of 32x32 with two cores: 3.6 s with one thread, 5.5 s with two.
        """
        some = self.files[:: max(1, len(self.files) // 64)]
        mean = sum(self.tree.sizes.get(path, 0) for paths in some for path in paths) / max(1, len(some))
        return 1 if mean < _SMALL_FILE else super().threads()

    def set_rate(self) -> int | None:
        """For signals: the sampling rate of the first readable file, which all others must share."""
        for paths in self.files:
            if paths[0].lower().endswith(".wav"):
                try:
                    self.rate = wav.wav_header(self.tree.read(paths[0]), paths[0]).rate
                    break
                except DataError:
                    continue
        return self.rate

    def digest(self, row: int) -> bytes:
        digest = hashlib.sha256()
        for path in self.files[row]:
            try:
                digest.update(self.tree.read(path))
            except DataError:
                digest.update(b"")
        return digest.digest()[:20]


class ArraySource(Source):
    """Samples that lie in one array ``N,*spatial,C``, read on first use."""

    def __init__(self, kind: str, shape: tuple[int, ...], read: Callable[[], Array], prefix: str) -> None:
        self.kind, self._shape, self._read, self._prefix = kind, shape, read, prefix
        self._values: Array | None = None
        self.ids = _NumberedIds(prefix, shape[0])

    @property
    def values(self) -> Array:
        """The whole array, read on first use."""
        if self._values is None:
            self._values = self._read()
            if self._values.shape != self._shape:
                raise DataError(self._prefix, f"promises the shape {self._shape}, {self._values.shape} came")
        return self._values

    def shape(self, row: int) -> Shape:
        spatial = self._shape[1:] if self.kind in ("signal", "volume") else self._shape[1:-1]
        return Shape(spatial, self._shape[-1] == 1)

    @property
    def channels(self) -> int:
        """Channels of a sample."""
        return self._shape[-1]

    def raw(self, row: int, channels: int) -> Array:
        return np.asarray(self.values[row])

    def digest(self, row: int) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(self.values[row]).tobytes()).digest()[:20]

    def load(self, rows: Rows, spatial: Preprocessing, workers: int | None, max_memory: int) -> Loaded:
        """As for files; arrays that have the right shape already are gathered, not looped over."""
        sample = tuple(side for side in spatial.sample_shape if side is not None)
        whole = self.values
        if (
            whole.dtype == spatial.dtype
            and whole.shape[1:] == sample
            and not spatial.per_sample
            and spatial.resize_to is None
        ):
            every = np.arange(len(rows), dtype=np.int64)
            everything = len(rows) == len(whole) and bool((rows == np.arange(len(whole))).all())
            inputs = whole if everything else whole[rows]
            if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
                finite = np.isfinite(inputs.reshape(len(inputs), -1)).all(axis=1)
                bad = {
                    int(position): "holds values that are infinite or not a number"
                    for position in np.flatnonzero(~finite)
                }
                return Loaded(inputs[finite], every[finite], bad)
            return Loaded(inputs, every, {})
        return super().load(rows, spatial, workers, max_memory)


class _NumberedIds(Sequence[str]):
    """``prefix#0``, ``prefix#1``, ... without holding sixty thousand strings."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix, self._count = prefix, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return f"{self._prefix}#{int(index) % self._count}"


def _array_header(data: bytes, name: str) -> tuple[int, ...]:
    if name.lower().endswith(".npz"):
        return _only(npy.NpzFile(data, name, 1 << 31), name)[1]
    return npy.npy_header(data, name)[0]


def _read_array(data: bytes, name: str) -> Array:
    if name.lower().endswith(".npz"):
        file = npy.NpzFile(data, name, 1 << 31)
        return file.read(_only(file, name)[0])
    return npy.read_npy(data, name)


def _only(file: npy.NpzFile, name: str) -> tuple[str, tuple[int, ...]]:
    if len(file.names) != 1:
        raise DataError(name, f"holds {len(file.names)} arrays, one sample a file is expected")
    return file.names[0], file.header(file.names[0])[0]


def _with_channels(shape: tuple[int, ...], kind: str, name: str) -> tuple[int, ...]:
    """The sample's shape with its channel axis: volumes D,H,W[,C], signals L[,C], clips T,H,W[,C], images H,W[,C]."""
    axes = SPATIAL_AXES[kind]
    if len(shape) == axes:
        return (*shape, 1)
    if len(shape) == axes + 1:
        return shape
    raise DataError(name, f"has shape {shape}; a {kind} has {axes} axes, or {axes + 1} with channels last")
