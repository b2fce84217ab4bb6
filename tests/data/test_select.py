"""Other splits of the same samples."""

from __future__ import annotations

import numpy as np

from fovea.data import Dataset, from_arrays
from fovea.data.select import few_of_each, with_splits, with_validation


def pictures() -> Dataset:
    inputs = np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1) * np.ones((1, 2, 2, 1), np.uint8)
    return from_arrays((inputs, np.arange(30) % 3), classes=["a", "b", "c"], val_fraction=0)


def test_validation_is_made_where_there_is_none() -> None:
    data = with_validation(pictures(), 0.2, seed=1)
    assert data.val is not None
    assert (len(data.train), len(data.val), data.val.name) == (24, 6, "val")
    assert data.val.class_counts().tolist() == [2, 2, 2]
    assert data.validation == "6 of 30 training samples (20%), stratified, seed 1"
    assert not set(data.train.ids) & set(data.val.ids)
    assert np.array_equal(data.val.inputs[:, 0, 0, 0] % 3, data.val.targets)
    assert with_validation(data, 0.5) is data
    assert data.summary()["splits"] == {"train": 24, "val": 6}
    assert data.fingerprint == pictures().fingerprint


def test_chosen_splits_stay_through_other_class_orders_and_preprocessing() -> None:
    data = with_validation(pictures(), 0.2)
    few = with_splits(data, {"train": data.train.take(few_of_each(data.train.targets, 2, seed=0))})
    assert (len(few.train), few.validation) == (6, data.validation)
    turned = few.with_classes(["c", "b", "a"])
    assert turned.train.ids == few.train.ids
    assert np.array_equal(turned.train.targets, 2 - few.train.targets)
    assert turned.val is not None
    assert data.val is not None
    assert np.array_equal(turned.val.targets, 2 - data.val.targets)
    assert np.array_equal(few.prepared(few.preprocessing).train.inputs, few.train.inputs)


def test_few_of_each_grows_with_its_number() -> None:
    targets = np.array([0] * 5 + [1] * 2 + [3] * 9)
    two, four = few_of_each(targets, 2, seed=7), few_of_each(targets, 4, seed=7)
    assert np.bincount(targets[two]).tolist() == [2, 2, 0, 2]
    assert np.bincount(targets[four]).tolist() == [4, 2, 0, 4]
    assert set(two) <= set(four)
    assert not np.array_equal(two, few_of_each(targets, 2, seed=8))
