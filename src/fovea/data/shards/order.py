"""Which sample of all shards comes when in an epoch: a pure function of (seed, epoch), made of integers alone.

The shards are put in a random order; all their samples, one after the other, are the epoch's sequence. It is cut into
lanes, consecutive parts of equal length, that are read side by side, each shard by one reader (where a lane ends within
a shard, by two). Position i of the epoch belongs to lane ``i mod lanes``. Within a lane, blocks of ``buffer`` samples
are shuffled as a whole; a random phase keeps blocks from falling on the same samples in every epoch. So an epoch has
every sample once, any step can be found without the steps before it, and nothing depends on processes or workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fovea import random

__all__ = ["Chunk", "Order", "Place", "lanes_for"]

Rows = npt.NDArray[np.int64]
_A_LANE = 16  # samples of a batch that come from one lane, at least
_MOST_LANES = 64


class Chunk(NamedTuple):
    """What one lane gives to a batch: its positions ``first`` to ``last`` (exclusive)."""

    lane: int
    first: int
    last: int


class Place(NamedTuple):
    """A sample: ``turn`` of its shard in the epoch's order of shards, and its number in the shard."""

    turn: int
    ordinal: int


def lanes_for(shards: int, batch_size: int) -> int:
    """The largest power of two of lanes that has a shard for each and 16 samples of each batch, at most 64."""
    most = max(1, min(shards, batch_size // _A_LANE, _MOST_LANES))
    return 1 << (most.bit_length() - 1)


class Order:
    """The order of one epoch over shards with ``counts`` samples; not ``shuffle``: as they lie, in one lane."""

    def __init__(
        self, counts: Sequence[int], batch_size: int, buffer: int, *, seed: int, epoch: int, shuffle: bool = True
    ) -> None:
        sizes = np.asarray(counts, np.int64)
        self.batch_size, self.shuffle = batch_size, shuffle
        self.lanes = lanes_for(len(sizes), batch_size) if shuffle else 1
        self.shards: Rows = np.arange(len(sizes))
        if shuffle:
            self.shards = random.permutation(random.key(seed, "shards", epoch), len(sizes))
        self._ends = np.cumsum(sizes[self.shards])
        self.total = int(self._ends[-1]) if len(sizes) else 0
        self._block = max(1, buffer // self.lanes)
        self._key = random.key(seed, "buffer", epoch)
        phases = random.integers(random.fold_in(self._key, np.arange(self.lanes)), 1, 0, self._block)[:, 0]
        self._phases: list[int] = phases.tolist() if shuffle else [0]

    def __len__(self) -> int:
        return self.total

    def length(self, lane: int) -> int:
        """Samples of a lane."""
        return (self.total - lane + self.lanes - 1) // self.lanes

    def start(self, lane: int) -> int:
        """Where a lane begins in the epoch's sequence."""
        return lane * (self.total // self.lanes) + min(lane, self.total % self.lanes)

    def chunks(self, step: int) -> list[Chunk]:
        """What each lane gives to the batch of a step, in the order of the lanes; lanes that give nothing are left out.

        Parts of a batch, as several processes take them, so come from as few lanes as can be.
        """
        low, high = step * self.batch_size, min((step + 1) * self.batch_size, self.total)
        found = []
        for lane in range(self.lanes):
            first, last = (max(0, -(-(bound - lane) // self.lanes)) for bound in (low, high))
            if first < last:
                found.append(Chunk(lane, first, last))
        return found

    def block_of(self, lane: int, position: int) -> int:
        """The block that a position of a lane lies in."""
        return (position + self._phases[lane]) // self._block

    def block(self, lane: int, block: int) -> range:
        """The positions of a lane that a block holds; empty past the lane's end."""
        phase = self._phases[lane]
        low, high = max(0, block * self._block - phase), (block + 1) * self._block - phase
        return range(low, max(low, min(high, self.length(lane))))

    def within(self, lane: int, block: int) -> Rows:
        """The order in which the samples of a block come."""
        count = len(self.block(lane, block))
        if not self.shuffle:
            return np.arange(count, dtype=np.int64)
        return random.permutation(np.uint64(random.fold_in(random.fold_in(self._key, lane), block + 1)), count)

    def place(self, offset: int) -> Place:
        """The sample at an offset of the epoch's sequence."""
        turn = int(np.searchsorted(self._ends, offset, side="right"))
        begin = int(self._ends[turn - 1]) if turn else 0
        return Place(turn, offset - begin)
