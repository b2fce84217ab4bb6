"""Batches of a streamed split: every sample once, equal for any number of workers and processes, exact restarts."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.data import Augment, Batch, CutMix, MixUp
from fovea.data.augment import RandAugment, ShiftCrop
from fovea.data.load import dataset
from fovea.data.loader import loader_for
from fovea.data.shards.split import StreamSplit
from fovea.engines.world import World
from fovea.errors import ConfigError, DataError
from tests.data.shard_sets import arrays, number_of, packed_shard, written

AUGMENT = Augment((ShiftCrop(1), RandAugment()))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("shards") / "set")


@pytest.fixture(scope="module")
def split(shards: Path) -> StreamSplit:
    found = dataset(shards).train
    assert isinstance(found, StreamSplit)
    return found


def batches(split: StreamSplit, size: int = 32, **options: Any) -> list[Batch]:
    return list(loader_for(split, size, **{"seed": 1, "epoch": 2, **options}))


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(getattr(a, field), getattr(b, field))
        for a, b in zip(first, second, strict=True)
        for field in ("inputs", "targets", "indices")
    )


def test_an_epoch_has_every_sample_once_with_its_own_target(split: StreamSplit) -> None:
    found = batches(split)
    assert [len(batch) for batch in found] == [32, 21]
    numbers = np.concatenate([number_of(batch.inputs) for batch in found])
    assert sorted(numbers) == list(range(53))
    assert np.array_equal(np.concatenate([batch.targets for batch in found]), numbers % 3)
    assert not np.array_equal(numbers, np.sort(numbers)), "shuffled"
    assert sorted(np.concatenate([batch.indices for batch in found])) == list(range(53))


def test_epochs_and_seeds_have_orders_of_their_own(split: StreamSplit) -> None:
    orders = [
        tuple(np.concatenate([batch.indices for batch in batches(split, seed=seed, epoch=epoch)]))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


@pytest.mark.parametrize("mix", [None, MixUp(), CutMix()])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_bits(split: StreamSplit, workers: int, mix: Any) -> None:
    plain = batches(split, workers=0, mix=mix, augment=AUGMENT)
    assert equal(batches(split, workers=workers, mix=mix, augment=AUGMENT), plain)


@pytest.mark.parametrize("start", [0, 1, 2, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_start_in_the_middle_gives_the_same_bits(split: StreamSplit, start: int, workers: int) -> None:
    whole = batches(split, 12, augment=AUGMENT)
    assert equal(batches(split, 12, augment=AUGMENT, start=start, workers=workers), whole[start:])


def test_any_step_by_itself_is_that_of_the_stream(split: StreamSplit) -> None:
    whole = batches(split, 12)
    loader = loader_for(split, 12, seed=1, epoch=2)
    for step in (3, 0, 0, 4, 1, 2):
        assert equal([loader.batch(step)], [whole[step]])
    with pytest.raises(ConfigError, match="step 5 is outside of an epoch of 5 steps"):
        loader.batch(5)


@pytest.mark.parametrize("mix", [None, MixUp()])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_a_batch_without_overlap(split: StreamSplit, processes: int, mix: Any) -> None:
    """Each prepares its own part, and the parts are the batch of one process, bit for bit."""

    def own(rank: int) -> Any:
        world = World()
        world.rank, world.size = rank, processes
        return lambda count: np.arange(count)[world.share(count)]

    whole = batches(split, mix=mix, augment=AUGMENT)
    parts = [batches(split, mix=mix, augment=AUGMENT, own=own(rank)) for rank in range(processes)]
    joined = [
        Batch(
            *(
                np.concatenate([getattr(part[step], field) for part in parts])
                for field in ("inputs", "targets", "indices")
            )
        )
        for step in range(len(whole))
    ]
    assert equal(joined, whole)


def test_two_processes_read_different_shards(tmp_path: Path) -> None:
    found = dataset(written(tmp_path / "set", 128, per_shard=16)).train
    assert isinstance(found, StreamSplit)
    read: list[set[int]] = []
    for rank in (0, 1):
        touched: set[int] = set()
        plain = found.read

        def noted(shard: int, first: int, plain: Any = plain, touched: set[int] = touched) -> Any:
            touched.add(shard)
            return plain(shard, first)

        found.read = noted  # type: ignore[method-assign]
        list(
            loader_for(
                found, 64, workers=0, own=lambda count, rank=rank: np.arange(count)[rank * count // 2 :][: count // 2]
            )
        )
        found.read = plain  # type: ignore[method-assign]
        read.append(touched)
    assert [len(touched) for touched in read] == [4, 4]
    assert not read[0] & read[1]


def test_a_partner_is_another_sample_of_the_batch(split: StreamSplit) -> None:
    class Partners(MixUp):
        def __call__(self, inputs: Any, targets: Any, partners: Any, partner_targets: Any, keys: Any) -> Any:
            return partners, targets

    plain, mixed = batches(split)[0], batches(split, mix=Partners())[0]
    own, others = number_of(plain.inputs), number_of(mixed.inputs)
    assert sorted(own) == sorted(others)
    assert not (own == others).any()


def test_the_last_partial_batch_may_be_dropped(split: StreamSplit) -> None:
    loader = loader_for(split, 32, drop_last=True)
    assert [len(batch) for batch in loader] == [32]
    assert (loader.count(0), loader.count(1), len(loader)) == (32, 21, 1)


def test_stopping_early_leaves_no_thread(split: StreamSplit) -> None:
    before = threading.active_count()
    iterator = iter(loader_for(split, 8, workers=3))
    next(iterator)
    iterator.close()
    assert threading.active_count() == before


def test_what_needs_all_samples_says_so(split: StreamSplit) -> None:
    for ask in (
        lambda: split.inputs, lambda: split.targets, lambda: split.ids, lambda: split.indices, lambda: split.take([0]),
        lambda: split.listed_targets, lambda: split.listed_rows, lambda: split.raw(0),
    ):  # fmt: skip
        with pytest.raises(DataError, match=r"\[train\] is streamed from 8 shards.*stream=False"):
            ask()
    assert (len(split), split.listed, split.class_counts().tolist()) == (53, 53, [18, 18, 17])


def test_without_streaming_the_set_is_like_any_other(shards: Path) -> None:
    whole, plain = dataset(shards, stream=False), arrays()
    assert whole.train.listed == 53
    order = np.argsort(number_of(whole.train.inputs))
    assert np.array_equal(whole.train.inputs[order], plain.train.inputs)
    assert np.array_equal(whole.train.targets[order], plain.train.targets)
    assert whole.train.raw(3).shape == (4, 4, 3)
    assert len(set(whole.train.digests())) == 53


def test_validation_is_decoded_whole(shards: Path) -> None:
    val = dataset(shards).val
    assert val is not None
    assert np.array_equal(number_of(val.inputs), np.arange(53, 62))
    assert np.array_equal(val.targets, np.arange(53, 62) % 3)
    assert (val.ids[0], val.ids[-1]) == ("val-000000.tar#0", "val-000001.tar#1")
    assert np.array_equal(val.take([8, 2, 2]).inputs, val.inputs[[8, 2, 2]])
    assert val.indices[0] == 53


def damaged(folder: Path, bad: set[int], count: int = 64) -> StreamSplit:
    """One shard of pictures of which some are no pictures."""
    from tests.data.builders import encoded
    from tests.data.shard_sets import numbered

    images, targets = numbered(count)
    folder.mkdir()
    packed_shard(
        folder / "train-000000.tar",
        (
            (f"{n:04d}", {"png": b"torn" if n in bad else encoded(images[n]), "cls": str(targets[n]).encode()})
            for n in range(count)
        ),
    )
    found = dataset(folder, max_bad=0.1).train
    assert isinstance(found, StreamSplit)
    return found


def test_an_unreadable_sample_is_replaced_by_its_neighbour_and_named(tmp_path: Path) -> None:
    split = damaged(tmp_path / "set", {5, 40})
    found = batches(split, 16)
    numbers = np.concatenate([number_of(batch.inputs) for batch in found])
    assert [len(batch) for batch in found] == [16] * 4
    assert set(numbers) == set(range(64)) - {5, 40}
    assert {bad.path for bad in split.quarantined} == {"0005.png", "0040.png"}
    assert "not an image" in split.quarantined[0].reason


def test_too_many_unreadable_samples_stop_the_epoch(tmp_path: Path) -> None:
    split = damaged(tmp_path / "set", set(range(10, 20)))
    with pytest.raises(DataError, match=r"\[train\] 7 of 64 images cannot be read, more than max_bad=0.1 allows"):
        batches(split, 16)


def test_memory_is_bounded_by_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more samples are alive than two buffers and the batches ahead, however many there are."""
    from fovea.data.shards import split as module

    monkeypatch.setattr(module, "_BUFFER_SAMPLES", 64)
    counts = []
    for count in (500, 2000):
        found = dataset(written(tmp_path / str(count), count, per_shard=100)).train
        assert isinstance(found, StreamSplit)
        alive = Alive(found)
        for _ in loader_for(found, 16, workers=1):
            pass
        counts.append(alive.most)
    assert counts[0] <= 2 * 64 + 5 * 16
    assert counts[1] <= 2 * 64 + 5 * 16


class Alive:
    """Counts the encoded samples that something holds."""

    def __init__(self, split: StreamSplit) -> None:
        self.most = self._now = 0
        plain = split.read

        def read(shard: int, first: int) -> Any:
            for sample in plain(shard, first):
                self._now += 1
                self.most = max(self.most, self._now)
                weakref.finalize(sample, self._gone)
                yield sample

        split.read = read  # type: ignore[method-assign]

    def _gone(self) -> None:
        self._now -= 1
