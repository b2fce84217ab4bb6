"""The loader: every sample once, same bits for any number of workers, and a start in the middle."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from fovea import random
from fovea.data import Augment, CutMix, Loader, MixUp, from_arrays
from fovea.data.augment import RandAugment, ShiftCrop
from fovea.errors import ConfigError, DataError

X = np.random.default_rng(0).integers(0, 256, (53, 8, 8, 3), dtype=np.uint8)
DATA = from_arrays((X, np.arange(53) % 5), val_fraction=0.2)
AUGMENT = Augment((ShiftCrop(2), RandAugment()))


def batches(**options) -> list:
    return list(Loader(DATA.train, 8, **{"seed": 1, "epoch": 2, "augment": AUGMENT, **options}))


def equal(first: list, second: list) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a.inputs, b.inputs)
        and np.array_equal(a.targets, b.targets)
        and np.array_equal(a.indices, b.indices)
        for a, b in zip(first, second, strict=True)
    )


def test_an_epoch_has_every_sample_once() -> None:
    plain = batches(augment=None)
    indices = np.concatenate([batch.indices for batch in plain])
    assert sorted(indices) == sorted(DATA.train.indices)
    assert not np.array_equal(indices, np.sort(indices)), "shuffled"
    assert [len(batch) for batch in plain] == [8, 8, 8, 8, 8, 2]
    for batch in plain:
        assert np.array_equal(batch.inputs, X[batch.indices])
        assert np.array_equal(batch.targets, batch.indices % 5)


def test_order_is_the_permutation_of_the_epoch() -> None:
    expected = DATA.train.indices[random.permutation(random.key(1, "order", 2), len(DATA.train))]
    assert np.array_equal(np.concatenate([batch.indices for batch in batches()]), expected)
    other = np.concatenate([batch.indices for batch in batches(epoch=3)])
    assert not np.array_equal(other, expected)


@pytest.mark.parametrize("mix", [None, MixUp(), CutMix()])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_bits(workers: int, mix) -> None:
    assert equal(batches(workers=workers, mix=mix), batches(workers=0, mix=mix))


@pytest.mark.parametrize("mix", [None, MixUp()])
def test_batch_size_changes_no_sample(mix) -> None:
    small, large = batches(mix=mix), list(Loader(DATA.train, 20, seed=1, epoch=2, augment=AUGMENT, mix=mix))
    for name in ("inputs", "targets", "indices"):
        joined = [np.concatenate([getattr(batch, name) for batch in some]) for some in (small, large)]
        assert np.array_equal(*joined)


def test_it_goes_on_where_it_stopped() -> None:
    whole = batches(mix=MixUp())
    for start in (0, 3, 6):
        assert equal(batches(mix=MixUp(), start=start), whole[start:])
    assert len(Loader(DATA.train, 8, start=3)) == 6, "an epoch is as long as ever"


def test_drop_last_and_no_shuffle() -> None:
    assert [len(batch) for batch in batches(drop_last=True)] == [8] * 5
    ordered = list(Loader(DATA.train, 8, shuffle=False))
    assert np.array_equal(np.concatenate([batch.indices for batch in ordered]), DATA.train.indices)
    assert list(Loader(DATA.train, 100, drop_last=True)) == []


def test_mixed_targets_are_probabilities_of_two_classes() -> None:
    for batch in batches(mix=CutMix(), augment=None):
        assert batch.targets.shape == (len(batch), 5)
        assert np.allclose(batch.targets.sum(1), 1)
        assert ((batch.targets > 0).sum(1) <= 2).all()
        own = batch.targets[np.arange(len(batch)), batch.indices % 5]
        assert (own >= 0).all()


def test_augmentation_differs_between_epochs_and_not_between_runs() -> None:
    assert equal(batches(), batches())
    first = {index: image for batch in batches() for index, image in zip(batch.indices, batch.inputs, strict=True)}
    second = {
        index: image for batch in batches(epoch=3) for index, image in zip(batch.indices, batch.inputs, strict=True)
    }
    assert any(not np.array_equal(first[index], second[index]) for index in first)


def test_stopping_early_leaves_no_threads() -> None:
    before = threading.active_count()
    for _ in Loader(DATA.train, 4, workers=3):
        break
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


class Failing:
    """An augmentation that fails on a certain batch."""

    steps = (1,)

    def __call__(self, inputs, keys, lasting=None):
        if len(inputs) < 8:
            raise DataError("augment", "failed on purpose")
        return inputs


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_workers_reach_the_consumer(workers: int) -> None:
    with pytest.raises(DataError, match="failed on purpose"):
        list(Loader(DATA.train, 8, augment=Failing(), workers=workers))  # type: ignore[arg-type]


def test_waiting_is_measured() -> None:
    loader = Loader(DATA.train, 8, augment=AUGMENT, workers=1)
    assert loader.wait_seconds == 0
    list(loader)
    assert loader.busy_seconds > 0
    assert loader.wait_seconds > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
        ({"workers": -1}, "workers must be an integer of at least 0"),
        ({"start": -1}, "start must be an integer"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Loader(DATA.train, **{"batch_size": 4, **options})  # type: ignore[arg-type]


def test_mixing_needs_classes() -> None:
    values = from_arrays((X, np.linspace(0, 1, 53)), val_fraction=0)
    with pytest.raises(ConfigError, match="this data set has values"):
        Loader(values.train, 8, mix=MixUp())
    assert next(iter(Loader(values.train, 8))).targets.shape == (8, 1)
    with pytest.raises(ConfigError, match="outside of an epoch of 7 steps"):
        Loader(values.train, 8).batch(7)


@pytest.mark.parametrize("batch_size", [8, 53])
def test_an_alternating_flip_alternates_over_epochs(batch_size: int) -> None:
    turned = []
    for epoch in range(4):
        augment = Augment.from_names("alternating_flip", "image", (8, 8, 3)).at(epoch)
        loader = Loader(DATA.train, batch_size, seed=3, epoch=epoch, augment=augment)
        found = {}
        for batch in loader:
            for image, index in zip(batch.inputs, batch.indices, strict=True):
                found[int(index)] = np.array_equal(image, X[index, :, ::-1])
        turned.append([found[index] for index in sorted(found)])
    assert turned[0] == turned[2]
    assert turned[1] == turned[3]
    assert turned[0] == [not one for one in turned[1]]
    assert 0 < sum(turned[0]) < len(turned[0])
