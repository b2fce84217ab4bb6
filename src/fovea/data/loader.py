"""The loader: one epoch of a split as batches, shuffled, augmented and mixed by threads ahead of the training.

A batch is a pure function of (seed, epoch, step): the order is ``permutation(key(seed, "order", epoch))`` and what
happens to a sample is drawn from ``fold_in(key(seed, "augment", epoch), its index)``. So any number of workers gives
the same bits, and a run goes on from (epoch, step) without reading what came before.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment import Augment
from fovea.data.augment.scene import Scene
from fovea.data.dataset import Batch, Split
from fovea.data.mix import Mix, one_hot
from fovea.data.shards.split import StreamSplit
from fovea.errors import ConfigError

__all__ = ["Loader", "loader_for"]

Array = npt.NDArray[Any]


class Loader:
    """Batches of one epoch; make one for each epoch, it costs a permutation.

    ``start``: the first step to give. ``workers``: threads that prepare batches ahead, 0 prepares them when asked.
    ``own``: of a batch that several processes share, which of its ``count`` samples are prepared here, as positions
    ``own(count)``; order, keys and mixing partners are those of the whole batch. ``augment``: an :class:`Augment`, for
    boxes a :class:`Scene`. ``mix``: :class:`MixUp` or :class:`CutMix`; targets then are probabilities
    ``float32 (N, K)``. After iterating, ``wait_seconds`` is how long the consumer waited and ``busy_seconds`` how long
    preparing took in all threads.

    >>> for batch in Loader(data.train, 128, seed=0, epoch=3): ...  # doctest: +SKIP
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
        augment: Augment | Scene | None = None,
        mix: Mix | None = None,
        workers: int = 1,
        drop_last: bool = False,
        start: int = 0,
        own: Callable[[int], npt.NDArray[np.int64]] | None = None,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("start", start, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError("loader", f"{name} must be an integer of at least {least}, got {value!r}")
        if mix is not None and split.task != "classification":
            what = "boxes; give augment=Scene(mixup=0.1)" if split.task == "detection" else "values"
            raise ConfigError("loader", f"MixUp and CutMix mix classes; this data set has {what}")
        if augment is not None and isinstance(augment, Scene) != (split.task == "detection"):
            fix = "a Scene, which moves boxes along," if split.task == "detection" else "an Augment"
            raise ConfigError("loader", f"augment must be {fix} for {split.task}, got {type(augment).__name__}")
        self.split, self.batch_size, self.start, self.workers = split, batch_size, start, workers
        self._scene = augment if isinstance(augment, Scene) and augment != Scene.none() else None
        self._augment = augment if not isinstance(augment, Scene) and augment is not None and augment.steps else None
        self._mix, self._own = mix, own
        # decoded here, on the calling thread, so that errors come before the first step
        self._inputs, self._targets, self._indices = split.inputs, split.targets, split.indices
        count = len(self._inputs)
        if shuffle:
            self._order = random.permutation(random.key(seed, "order", epoch), count)
        else:
            self._order = np.arange(count, dtype=np.int64)
        self._augment_key, self._lasting_key = random.key(seed, "augment", epoch), random.key(seed, "augment")
        self._mix_key = random.key(seed, "mix", epoch)
        self._size_key = random.key(seed, "size", epoch)
        self._steps = count // batch_size if drop_last else -(-count // batch_size)
        self.wait_seconds = 0.0
        self.busy_seconds = 0.0

    def __len__(self) -> int:
        """Steps of the whole epoch, wherever ``start`` is."""
        return self._steps

    def count(self, step: int) -> int:
        """Samples in the whole batch of one step."""
        return min(self.batch_size, len(self._order) - step * self.batch_size)

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        if not 0 <= step < self._steps:
            raise ConfigError("loader", f"step {step} is outside of an epoch of {self._steps} steps")
        count = self.count(step)
        positions = step * self.batch_size + (np.arange(count) if self._own is None else self._own(count))
        rows = self._order[positions]
        if self._scene is not None:
            return self._drawn(self._scene, rows, step)
        inputs = self._augmented(rows)
        targets: Array = self._targets[rows]
        if self._mix is not None:
            partners = self._order[(positions + len(self._order) // 2) % len(self._order)]
            classes = len(self.split.classes)
            inputs, targets = self._mix(
                inputs,
                one_hot(targets, classes),
                self._augmented(partners),
                one_hot(self._targets[partners], classes),
                random.fold_in(self._mix_key, self._indices[rows]),
            )
        return Batch(inputs, targets, self._indices[rows])

    def _drawn(self, scene: Scene, rows: npt.NDArray[np.int64], step: int) -> Batch:
        base = int(self._inputs.shape[1]), int(self._inputs.shape[2])
        indices = self._indices[rows]
        inputs, targets = scene(
            self._inputs, self._targets, rows, random.fold_in(self._augment_key, indices),
            size=scene.size(base, random.fold_in(self._size_key, step)), fill=self.split.spatial.fill,
        )  # fmt: skip
        return Batch(inputs, targets, indices)

    def _augmented(self, rows: npt.NDArray[np.int64]) -> Array:
        inputs = self._inputs[rows]
        if self._augment is not None:
            keys, lasting = (random.fold_in(key, self._indices[rows]) for key in (self._augment_key, self._lasting_key))
            inputs = self._augment(inputs, keys, lasting)
        return inputs

    def __iter__(self) -> Iterator[Batch]:
        steps = range(self.start, self._steps)
        if self.workers == 0:
            for step in steps:
                begin = time.perf_counter()
                batch, seconds = self._timed(self._collected(step))
                self.busy_seconds += seconds
                self.wait_seconds += time.perf_counter() - begin
                yield batch
            return
        yield from self._prefetch(steps)

    def _prefetch(self, steps: range) -> Iterator[Batch]:
        waiting: deque[Future[tuple[Batch, float]]] = deque()
        ahead = self.workers + 1  # one more than can be in work: the next is ready while the others are prepared
        todo = iter(steps)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="fovea-loader") as pool:
            try:
                for step in todo:
                    waiting.append(pool.submit(self._timed, self._collected(step)))
                    if len(waiting) > ahead:
                        break
                while waiting:
                    begin = time.perf_counter()
                    batch, seconds = waiting.popleft().result()
                    self.busy_seconds += seconds
                    following = next(todo, None)
                    if following is not None:
                        waiting.append(pool.submit(self._timed, self._collected(following)))
                    self.wait_seconds += time.perf_counter() - begin
                    yield batch
            finally:  # also when the consumer stops early
                for future in waiting:
                    future.cancel()

    def _collected(self, step: int) -> Any:
        """What ``_prepared`` makes a batch of; called on the consumer's thread, step by step."""
        return step

    def _prepared(self, collected: Any) -> Batch:
        return self.batch(collected)

    def _timed(self, collected: Any) -> tuple[Batch, float]:
        begin = time.perf_counter()
        batch = self._prepared(collected)
        return batch, time.perf_counter() - begin


def loader_for(split: Split, batch_size: int, **options: Any) -> Loader:
    """The loader of a split: a :class:`Loader` of samples in memory, or one that streams them from shards.

    ``options`` are those of Loader.
    """
    if isinstance(split, StreamSplit):
        from fovea.data.shards.loader import StreamLoader  # it builds on this module

        return StreamLoader(split, batch_size, **options)
    return Loader(split, batch_size, **options)
