"""Shards as a source of samples by row: what validation and test splits are decoded from, whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.decode import image_header, read_image
from fovea.data.preprocess import Preprocessing
from fovea.data.shards.catalog import Shard
from fovea.data.shards.tar import Member, members
from fovea.data.source import Loaded, Shape, Source, check_memory
from fovea.errors import DataError

__all__ = ["Probes", "ShardSource"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_AT_ONCE = 64  # encoded images that are held for each thread


class Probes(Source):
    """Sizes of images, as if they were samples: what the decoded size is chosen by."""

    kind = "image"

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = shapes
        self.ids = [str(number) for number in range(len(shapes))]

    def shape(self, row: int) -> Shape:
        return self._shapes[row]


class ShardSource(Source):
    """Samples of shards, in the order of the shards and within each as they lie; read in whole passes where it goes."""

    kind = "image"

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        self.starts = np.concatenate([[0], np.cumsum([shard.samples for shard in shards])]).astype(np.int64)
        self.ids = _Ids(self)
        self._digests: dict[int, list[bytes]] = {}

    def read(self, shard: int, first: int = 0) -> Iterator[Member]:
        """The samples of a shard from number ``first`` to its end. Raises DataError unless it has as many as known."""
        own = self.shards[shard]
        count = first
        for member in members(own.place, first):
            count += 1
            yield member
        if count != own.samples:
            raise DataError(own.name, f"expected {own.samples} samples, as was counted, got {count}; write it again")

    def raw(self, row: int, channels: int) -> Array:
        member = self._member(row)
        return read_image(member.data, channels, member.name)

    def shape(self, row: int) -> Shape:
        member = self._member(row)
        height, width, grey, _ = image_header(member.data, member.name)
        return Shape((height, width), grey)

    def digest(self, row: int) -> bytes:
        shard, ordinal = self.place(row)
        if shard not in self._digests:  # one pass for all of them
            self._digests[shard] = [hashlib.sha256(one.data).digest()[:20] for one in self.read(shard)]
        return self._digests[shard][ordinal]

    def load(self, rows: Rows, spatial: Preprocessing, workers: int | None, max_memory: int) -> Loaded:
        """Decode ``rows``, each shard in one pass."""
        sample = tuple(side or 1 for side in spatial.sample_shape)
        check_memory(self.kind, len(rows), spatial, max_memory)
        inputs = np.empty((len(rows), *sample), spatial.dtype)
        bad: dict[int, str] = {}

        def decode(item: tuple[Member, list[int]]) -> None:
            member, positions = item
            try:
                image = spatial.apply_to_sample(read_image(member.data, spatial.channels, member.name))
                inputs[positions] = image
            except DataError as error:
                bad.update(dict.fromkeys(positions, error.message))

        threads = workers or os.cpu_count() or 1
        with ThreadPoolExecutor(threads) as pool:
            held: list[tuple[Member, list[int]]] = []
            for item in self._wanted(rows):
                held.append(item)
                if len(held) == _AT_ONCE * threads:
                    list(pool.map(decode, held))
                    held = []
            list(pool.map(decode, held))
        good = np.array([position for position in range(len(rows)) if position not in bad], np.int64)
        return Loaded(inputs[good] if bad else inputs, good, dict(sorted(bad.items())))

    def _wanted(self, rows: Rows) -> Iterator[tuple[Member, list[int]]]:
        """The samples of these rows with their positions among them, shard by shard."""
        order = np.argsort(rows, kind="stable")
        for shard in range(len(self.shards)):
            low, high = np.searchsorted(rows[order], self.starts[shard : shard + 2])
            positions: dict[int, list[int]] = {}
            for position in order[low:high].tolist():
                positions.setdefault(int(rows[position] - self.starts[shard]), []).append(position)
            if not positions:
                continue
            last = max(positions)
            for member in self.read(shard, min(positions)):
                if member.ordinal in positions:
                    yield member, positions[member.ordinal]
                if member.ordinal == last:
                    break

    def place(self, row: int) -> tuple[int, int]:
        """The shard of a row, and its number there."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return shard, row - int(self.starts[shard])

    def _member(self, row: int) -> Member:
        shard, ordinal = self.place(row)
        for member in self.read(shard, ordinal):
            return member
        raise DataError(self.shards[shard].name, f"has no sample {ordinal}; write it again")


class _Ids(Sequence[str]):
    """``train-000000.tar#0``, ... without holding a text for each sample."""

    def __init__(self, source: ShardSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return int(self._source.starts[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        shard, ordinal = self._source.place(int(index) % len(self))
        return f"{self._source.shards[shard].name}#{ordinal}"
