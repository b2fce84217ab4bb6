"""A training split that is streamed: its samples are never in memory together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.dataset import Quarantined, Split
from fovea.data.preprocess import Preprocessing
from fovea.data.shards.catalog import Contents
from fovea.data.shards.source import ShardSource
from fovea.data.source import Loaded
from fovea.errors import DataError

__all__ = ["Encoded", "StreamSplit"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_BUFFER_BYTES = 128 << 20
_BUFFER_SAMPLES = 8192
_REMEMBERED = 1000  # unreadable samples that are named


@dataclass(frozen=True)
class Encoded:
    """One sample as its shard holds it. ``index``: its position in the whole data set."""

    index: int
    target: int
    name: str
    data: bytes


class StreamSplit(Split):
    """``len``, ``class_counts`` and ``fingerprint`` are known from the catalog; what would need every sample in memory
    (``inputs``, ``targets``, ``ids``, ``take``) raises DataError.
    """

    def __init__(
        self, like: Split, source: ShardSource, contents: Contents, offset: int, target: dict[str, int]
    ) -> None:
        super().__init__(like.name, like.task, like.classes, like._part, like._rows, like._spatial, like._limits)
        self.shards, self.contents, self._offset, self._target_of = source, contents, offset, target
        self._unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return self.contents.samples

    def __repr__(self) -> str:
        return f"StreamSplit({self.name!r}, {len(self)} images in {len(self.shards.shards)} shards)"

    @property
    def listed(self) -> int:
        return len(self)

    @property
    def listed_targets(self) -> Array:
        raise self._refused()

    @property
    def listed_rows(self) -> Rows:
        raise self._refused()

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """The unreadable samples that were met so far (the first thousand of them)."""
        return tuple(Quarantined(self.name, name, reason) for name, reason in self._unreadable.items())

    @property
    def fingerprint(self) -> str:
        """sha256 over the shards' names, sizes and digests."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for shard in self.shards.shards:
            digest.update(repr((shard.name, shard.samples, shard.size, shard.digest)).encode())
        return digest.hexdigest()

    @property
    def max_bad(self) -> float:
        """The share of unreadable samples that is tolerated."""
        return self._limits.max_bad

    @property
    def buffer(self) -> int:
        """Samples that are shuffled with each other: as many as fill 128 MB encoded, at most 8192."""
        sizes = [shard.size / shard.samples for shard in self.shards.shards if shard.samples and shard.size]
        mean = sum(sizes) / len(sizes) if sizes else _BUFFER_BYTES / _BUFFER_SAMPLES
        return int(max(1, min(_BUFFER_SAMPLES, _BUFFER_BYTES // max(1.0, mean))))

    def class_counts(self) -> Rows:
        counts = np.zeros(len(self.classes), np.int64)
        for label, count in self.contents.counts.items():
            counts[self._target(label, self.name)] += count
        return counts

    def read(self, shard: int, first: int) -> Iterator[Encoded]:
        """The samples of a shard from number ``first`` on."""
        begin = self._offset + int(self.shards.starts[shard])
        for member in self.shards.read(shard, first):
            target = self._target(member.label, member.name)
            yield Encoded(begin + member.ordinal, target, member.name, member.data)

    def note(self, name: str, reason: str) -> None:
        """Remember an unreadable sample."""
        if len(self._unreadable) < _REMEMBERED:
            self._unreadable[name] = reason

    def adopt(self, other: Split) -> None:
        if isinstance(other, StreamSplit):
            self._unreadable = other._unreadable

    def decode(self, positions: slice, spatial: Preprocessing) -> Loaded:
        raise self._refused()

    def _target(self, label: str, name: str) -> int:
        if label not in self._target_of:
            raise DataError(name, f"has the label {label[:40]!r}, which is not among its {len(self._target_of)} labels")
        return self._target_of[label]

    def _load(self) -> Loaded:
        raise self._refused()

    def _refused(self) -> DataError:
        fix = "open the data with stream=False, which reads all of it into memory"
        return DataError(
            self.name, f"is streamed from {len(self.shards.shards)} shards, and all of it is needed here; {fix}"
        )
