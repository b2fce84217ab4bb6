"""Batches of a streamed split: the face of ``Loader``, and memory that does not grow with the number of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment import Augment
from fovea.data.dataset import Batch
from fovea.data.decode import read_image
from fovea.data.loader import Loader
from fovea.data.mix import Mix, one_hot
from fovea.data.shards.order import Order
from fovea.data.shards.split import Encoded, StreamSplit
from fovea.errors import ConfigError, DataError

__all__ = ["Lane", "StreamLoader"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_READERS = 4  # threads that wait for files


class Lane:
    """One reader: gives the samples of one lane by position, reads on in order, and holds at most two blocks."""

    def __init__(self, split: StreamSplit, order: Order, lane: int, pool: ThreadPoolExecutor | None) -> None:
        self._split, self._order, self._lane, self._pool = split, order, lane, pool
        self._block, self._held, self._within = -1, list[Encoded | None](), np.empty(0, np.int64)
        self._coming: tuple[int, Future[list[Encoded]]] | None = None
        self._cursor: Iterator[Encoded] | None = None
        self._at = -1

    def take(self, first: int, last: int) -> list[Encoded]:
        """The samples at these positions. What was taken is let go."""
        found = []
        for position in range(first, last):
            block = self._order.block_of(self._lane, position)
            inside = position - self._order.block(self._lane, block).start
            if block != self._block or self._held[self._within[inside]] is None:
                self._hold(block)
            own = self._within[inside]
            sample, self._held[own] = self._held[own], None
            assert sample is not None
            found.append(sample)
        return found

    def ask(self, position: int) -> None:
        """Begin to read what a position needs, on another thread."""
        block = self._order.block_of(self._lane, position)
        if self._pool is not None and self._coming is None and block != self._block:
            self._coming = block, self._pool.submit(self._read, block)

    def close(self) -> None:
        """Close the file that is open; nothing is being read when this returns."""
        if self._coming is not None:
            self._coming[1].cancel()
            if not self._coming[1].cancelled():
                self._coming[1].exception()
        if self._cursor is not None:
            self._cursor.close()  # type: ignore[attr-defined]  # a generator

    def _hold(self, block: int) -> None:
        coming, self._coming = self._coming, None
        samples = coming[1].result() if coming is not None else None
        if coming is None or coming[0] != block:
            samples = self._read(block)
        self._block, self._held = block, list(samples or ())
        self._within = self._order.within(self._lane, block)
        if self._pool is not None and self._order.block(self._lane, block + 1):
            self._coming = block + 1, self._pool.submit(self._read, block + 1)

    def _read(self, block: int) -> list[Encoded]:
        """The samples of a block as they lie; the file stays open where the next block begins."""
        positions = self._order.block(self._lane, block)
        begin = self._order.start(self._lane) + positions.start
        if self._cursor is None or self._at != begin:
            if self._cursor is not None:
                self._cursor.close()  # type: ignore[attr-defined]  # a generator
            self._cursor = self._from(begin)
        samples = list(islice(self._cursor, len(positions)))
        self._at = begin + len(samples)
        return samples

    def _from(self, offset: int) -> Iterator[Encoded]:
        turn, first = self._order.place(offset)
        for shard in self._order.shards[turn:].tolist():
            yield from self._split.read(shard, first)
            first = 0


class StreamLoader(Loader):
    """Batches of one epoch of a streamed split; options as :class:`fovea.data.Loader` has them.

    A batch is a function of (seed, epoch, step) as there. Two things differ: a mixing partner is the next sample in the
    batch that comes from the same part of the stream, and an unreadable sample is replaced by that neighbour, so that
    batches keep their size. More unreadable ones in an epoch than the split's ``max_bad`` raise DataError.
    """

    split: StreamSplit

    def __init__(
        self,
        split: StreamSplit,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
        augment: Augment | None = None,
        mix: Mix | None = None,
        workers: int = 1,
        drop_last: bool = False,
        start: int = 0,
        own: Callable[[int], Rows] | None = None,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("start", start, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError("loader", f"{name} must be an integer of at least {least}, got {value!r}")
        self.split, self.batch_size, self.start, self.workers = split, batch_size, start, workers
        self._augment = augment if augment is not None and augment.steps else None
        self._mix, self._own = mix, own
        counts = [shard.samples for shard in split.shards.shards]
        self._sequence = Order(counts, batch_size, split.buffer, seed=seed, epoch=epoch, shuffle=shuffle)
        self._augment_key, self._lasting_key = random.key(seed, "augment", epoch), random.key(seed, "augment")
        self._mix_key = random.key(seed, "mix", epoch)
        total = len(self._sequence)
        self._steps = total // batch_size if drop_last else -(-total // batch_size)
        self._lanes: dict[int, Lane] = {}
        self._readers: ThreadPoolExecutor | None = None
        self._bad = 0
        self.wait_seconds = 0.0
        self.busy_seconds = 0.0

    def count(self, step: int) -> int:
        """Samples in the whole batch of one step."""
        return min(self.batch_size, len(self._sequence) - step * self.batch_size)

    def batch(self, step: int) -> Batch:
        """The batch of one step. One step after the other is fast; any other has to find its place in the shards."""
        return self._prepared(self._collected(step))

    def __iter__(self) -> Iterator[Batch]:
        try:
            if self.workers:
                self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="fovea-shards")
            yield from super().__iter__()
        finally:  # also when the consumer stops early
            for lane in self._lanes.values():
                lane.close()
            self._lanes.clear()
            if self._readers is not None:
                self._readers.shutdown()
                self._readers = None

    def _collected(self, step: int) -> list[tuple[Rows, list[Encoded]]]:
        """The encoded samples of a step by lane, with the positions among them that are this process's."""
        if not 0 <= step < self._steps:
            raise ConfigError("loader", f"step {step} is outside of an epoch of {self._steps} steps")
        count = self.count(step)
        own = np.arange(count) if self._own is None else self._own(count)
        wanted, begin = [], 0
        for chunk in self._sequence.chunks(step):
            size = chunk.last - chunk.first
            inside = own[(own >= begin) & (own < begin + size)] - begin
            if len(inside):
                wanted.append((chunk, inside))
            begin += size
        for chunk, _ in wanted:
            self._lane(chunk.lane).ask(chunk.first)
        return [(inside, self._lane(chunk.lane).take(chunk.first, chunk.last)) for chunk, inside in wanted]

    def _lane(self, lane: int) -> Lane:
        if lane not in self._lanes:
            self._lanes[lane] = Lane(self.split, self._sequence, lane, self._readers)
        return self._lanes[lane]

    def _prepared(self, parts: list[tuple[Rows, list[Encoded]]]) -> Batch:
        """Decode, augment and mix."""
        samples: list[tuple[Encoded, Array]] = []
        partners: list[tuple[Encoded, Array]] = []
        for inside, chunk in parts:
            images: dict[int, Array | None] = {}
            for position in inside.tolist():
                samples.append(self._readable(chunk, position, images))
                if self._mix is not None:
                    partners.append(self._readable(chunk, (position + 1) % len(chunk), images))
        inputs, targets, indices = self._arrays(samples)
        if self._mix is None:
            return Batch(inputs, targets, indices)
        classes = len(self.split.classes)
        others, other_targets, _ = self._arrays(partners)
        keys = random.fold_in(self._mix_key, indices)
        mixed = self._mix(inputs, one_hot(targets, classes), others, one_hot(other_targets, classes), keys)
        return Batch(*mixed, indices)

    def _arrays(self, samples: list[tuple[Encoded, Array]]) -> tuple[Array, Rows, Rows]:
        inputs: Array = np.stack([image for _, image in samples])
        targets, indices = (
            np.array([getattr(one, field) for one, _ in samples], np.int64) for field in ("target", "index")
        )
        if self._augment is not None:
            keys, lasting = (random.fold_in(key, indices) for key in (self._augment_key, self._lasting_key))
            inputs = self._augment(inputs, keys, lasting)
        return inputs, targets, indices

    def _readable(self, chunk: list[Encoded], position: int, images: dict[int, Array | None]) -> tuple[Encoded, Array]:
        """The sample at a position of what one lane gave, or the next one there that can be read."""
        for offset in range(len(chunk)):
            place = (position + offset) % len(chunk)
            if place not in images:
                images[place] = self._decoded(chunk[place])
            image = images[place]
            if image is not None:
                return chunk[place], image
        raise DataError(chunk[position].name, f"and the {len(chunk) - 1} samples read with it cannot be decoded")

    def _decoded(self, sample: Encoded) -> Array | None:
        try:
            spatial = self.split.spatial
            return spatial.apply_to_sample(read_image(sample.data, spatial.channels, sample.name))
        except DataError as error:
            self._bad += 1
            self.split.note(sample.name, error.message)
            if self._bad > self.split.max_bad * len(self.split):
                words = f"{self._bad} of {len(self.split)} images cannot be read, more than max_bad="
                raise DataError(
                    self.split.name,
                    f"{words}{self.split.max_bad:g} allows, the last of them {error}; write the shards again",
                ) from None
            return None
