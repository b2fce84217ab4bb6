"""Real data, when FOVEA_DATA is set: layouts found, counts and pixels as their sources state them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fovea.data.load import dataset

Outside = Callable[[str], Path]


@pytest.mark.parametrize(("name", "mean"), [("mnist", 0.1307), ("fashion-mnist", 0.2860)])
def test_mnist_and_its_replacement(outside_data: Outside, name: str, mean: float) -> None:
    outside_data(name)
    data = dataset(name)
    assert {split: part.listed for split, part in data.splits.items()} == {"train": 54000, "val": 6000, "test": 10000}
    assert data.input_shape == (28, 28, 1)
    assert abs(data.preprocessing.mean[0] - mean) < 0.001
    assert data.val is not None
    if name == "fashion-mnist":
        assert data.val.class_counts().tolist() == [600] * 10
    assert data.test is not None
    assert data.test.inputs.shape == (10000, 28, 28, 1)


def test_cifar_archives(outside_data: Outside) -> None:
    folder = outside_data("cifar10")
    data = dataset("cifar10")
    assert ",".join(data.classes) == "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
    assert {split: part.listed for split, part in data.splits.items()} == {"train": 45000, "val": 5000, "test": 10000}
    assert data.test is not None
    assert data.test.class_counts().tolist() == [1000] * 10
    assert data.test.inputs.shape == (10000, 32, 32, 3)
    lossless = dataset(folder / "cifar10_lossless_train2000.npz", val_fraction=0)
    assert lossless.train.class_counts().tolist() == [202, 191, 203, 195, 214, 183, 207, 199, 203, 203]


def test_photo_folder(outside_data: Outside) -> None:
    outside_data("cats_dogs")
    data = dataset("cats_dogs", size=64)
    assert data.classes == ("cat", "dog")
    assert data.train.class_counts().tolist() == [600, 600]
    assert data.val is not None
    assert data.val.class_counts().tolist() == [100, 99]
    assert data.train.inputs.shape == (1200, 64, 64, 3)
    assert data.quarantined == ()


def test_spoken_digits(outside_data: Outside) -> None:
    outside_data("fsdd")
    data = dataset("fsdd", length=4000)
    assert data.kind == "signal"
    assert data.classes == tuple("0123456789")
    assert data.test is not None
    assert data.test.class_counts().tolist() == [30] * 10
    assert all(name.rsplit("_", 1)[1].split(".")[0] in "01234" for name in data.test.ids)
    assert data.train.inputs.shape == (810, 4000, 1)
    assert 0.5 < np.abs(data.train.inputs).max() <= 1


def test_flat_photographs_by_pattern(outside_data: Outside) -> None:
    outside_data("imagenet_sample")
    data = dataset("imagenet_sample", label_pattern="{label}_{wnid}_{name}.jpg", val_fraction=0, size=32)
    assert len(data.classes) == 125
    assert data.train.inputs.shape == (125, 32, 32, 3)
