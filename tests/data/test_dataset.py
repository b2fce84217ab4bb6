"""What a Dataset promises: lazy splits, other preprocessing, other class orders, fingerprints, arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fovea.data import Preprocessing, from_arrays
from fovea.data.load import dataset
from fovea.data.split import stratified
from fovea.errors import DataError
from tests.data import builders

RNG = np.random.default_rng(11)


def arrays(count: int = 20, classes: int = 2, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8), np.arange(count) % classes


def test_nothing_is_decoded_before_it_is_used(tmp_path: Path) -> None:
    builders.class_folders(tmp_path / "train", {"cat": 5, "dog": 5})
    builders.class_folders(tmp_path / "test", {"cat": 2, "dog": 2})
    data = dataset(tmp_path)
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"broken after opening")
    assert len(data.train) == 9, "training never touches the test split"
    assert data.preprocessing.size == (12, 12)
    assert data.test is not None
    with pytest.raises(DataError, match="4 of 4 images cannot be read"):
        _ = data.test.inputs


def test_preprocessing_is_of_the_training_split_alone() -> None:
    x, y = arrays()
    dark = from_arrays((x // 4, y), val=(x, y), test=(x, y))
    assert max(dark.preprocessing.mean) < 0.15
    pixels = dark.preprocessing.apply_pixels(dark.train.inputs)
    assert np.allclose(pixels.mean((0, 1, 2)), 0, atol=1e-3)
    assert np.allclose(pixels.std((0, 1, 2)), 1, atol=1e-3)


def test_prepared_decodes_with_another_record(tmp_path: Path) -> None:
    builders.class_folders(tmp_path, {"cat": 4, "dog": 4}, size=(30, 40))
    data = dataset(tmp_path)
    record = Preprocessing(size=(16, 16), resize="letterbox", mean=(0.5,) * 3, std=(0.2,) * 3)
    other = data.prepared(record)
    assert other.train.inputs.shape == (7, 16, 16, 3)
    assert (other.train.inputs[0, 0] == record.fill).all()
    assert other.preprocessing == record
    assert other.fingerprint == data.fingerprint
    assert other.train.ids == data.train.ids
    assert np.array_equal(other.train.inputs, record.apply_spatial([data.train.raw(row) for row in range(7)]))
    same = data.prepared(replace(data.preprocessing, mean=(0.1,) * 3))
    assert same.train.inputs is data.train.inputs, "an equal spatial half is decoded once"
    open_size = data.prepared(Preprocessing())
    assert open_size.input_shape == data.input_shape
    assert open_size.preprocessing.size == (30, 40)
    with pytest.raises(DataError, match="holds images, the preprocessing is for signals"):
        data.prepared(Preprocessing("signal", channels=1))


def test_a_model_brings_its_own_order_of_classes() -> None:
    x, y = arrays()
    data = from_arrays((x, y), classes=["cat", "dog"], val_fraction=0)
    other = data.with_classes(["owl", "dog", "cat"])
    assert other.classes == ("owl", "dog", "cat")
    assert np.array_equal(other.train.targets, np.array([2, 1])[y])
    assert other.train.class_counts().tolist() == [0, 10, 10]
    assert data.with_classes(["cat", "dog"]) is data
    with pytest.raises(DataError, match="has classes 'cat' that are not among dog, owl; give them the names"):
        data.with_classes(["dog", "owl"])


def test_take() -> None:
    x, y = arrays()
    split = from_arrays((x, y), val_fraction=0).train
    part = split.take([5, 3])
    assert np.array_equal(part.inputs, x[[5, 3]])
    assert part.targets.tolist() == [1, 1]
    assert part.indices.tolist() == [5, 3]
    assert part.ids == ("train#5", "train#3")
    assert np.array_equal(part.take([1]).inputs, x[[3]])
    with pytest.raises(DataError, match="needs rows from 0 to 19"):
        split.take([20])


def test_fingerprint_follows_contents_only(tmp_path: Path) -> None:
    x, y = arrays()
    data = from_arrays((x, y))
    assert len(data.fingerprint) == 64
    assert from_arrays((x.copy(), y), val_fraction=0.3, seed=5, name="other").fingerprint == data.fingerprint
    changed = x.copy()
    changed[7, 3, 3, 1] ^= 1
    assert from_arrays((changed, y)).fingerprint != data.fingerprint
    assert from_arrays((x, 1 - y)).fingerprint != data.fingerprint
    builders.class_folders(tmp_path / "a", {"cat": 3, "dog": 3})
    first = dataset(tmp_path / "a").fingerprint
    assert dataset(tmp_path / "a", size=20).fingerprint == first
    assert dataset((tmp_path / "a").rename(tmp_path / "moved")).fingerprint == first
    (tmp_path / "moved" / "cat" / "000.png").rename(tmp_path / "moved" / "cat" / "zzz.png")
    assert dataset(tmp_path / "moved").fingerprint != first


def test_inputs_cannot_be_written_by_mistake() -> None:
    data = from_arrays(arrays(), val_fraction=0)
    with pytest.raises(ValueError, match="read-only"):
        data.train.inputs[0] = 0


@pytest.mark.parametrize(
    ("targets", "options", "task", "classes"),
    [
        ([0, 1, 2, 1], {}, "classification", ("0", "1", "2")),
        ([5, 9, 5, 9], {}, "classification", ("5", "9")),
        (["b", "a", "b", "a"], {}, "classification", ("a", "b")),
        ([0.5, 1.0, 2.0, 3.5], {}, "regression", ()),
        ([0, 1, 2, 3], {"task": "regression"}, "regression", ()),
        ([1.0, 0.0, 1.0, 0.0], {"task": "classification"}, "classification", ("0", "1")),
        ([0, 1, 0, 1], {"classes": ["x", "y", "never"]}, "classification", ("x", "y", "never")),
    ],
)
def test_targets_from_arrays(targets, options, task: str, classes) -> None:
    data = from_arrays((np.zeros((4, 5, 5), np.uint8), targets), val_fraction=0, **options)
    assert (data.task, data.classes) == (task, classes)
    if task == "regression":
        assert data.train.targets[:, 0].tolist() == list(targets)
        assert data.num_classes == 1
    else:
        assert data.num_classes == len(classes)


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "message"),
    [
        (np.zeros((4, 5, 5), np.uint8), [0, 1], {}, "need one target each"),
        (np.zeros((4, 5, 5, 3), np.float32), [0, 1, 0, 1], {"kind": "image"}, "must be uint8"),
        (np.zeros((0, 5, 5), np.uint8), [], {}, "has shape"),
        (np.zeros((4, 5, 5), np.uint8), [0, 1, 2, 3], {"classes": ["a", "b"]}, "labels from 0 to 3 for 2 class names"),
        (np.zeros((4, 5, 5), np.uint8), [0.5, 1, 2, np.nan], {}, "infinite or not a number"),
        (np.zeros((4, 5, 5), np.uint8), [0.5, 1, 2, 3], {"task": "classification"}, "say task='regression'"),
    ],
)
def test_bad_arrays(inputs, targets, options, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays((inputs, targets), **options)


def test_summary_and_missing_splits() -> None:
    data = from_arrays(arrays(40))
    summary = data.summary()
    assert summary["splits"] == {"train": 36, "val": 4}
    assert summary["input_shape"] == [8, 8, 3]
    assert "4 of 40 training samples" in summary["validation"]
    with pytest.raises(DataError, match="has no 'test' split; it has train, val"):
        data.split("test")


@pytest.mark.parametrize("counts", [[50, 50], [97, 3], [1, 1, 98], [3, 3, 3, 3], [1, 1], [2]])
def test_stratified(counts: list[int]) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    stay, taken = stratified(targets, 0.1, 0)
    assert sorted([*stay, *taken]) == list(range(len(targets)))
    assert len(taken) == max(1, round(0.1 * len(targets)))
    share = np.bincount(targets[taken], minlength=len(counts))
    assert all(abs(got - 0.1 * count) < 1.0 for got, count in zip(share, counts, strict=True) if sum(counts) > 20)
    assert np.array_equal(stratified(targets, 0.1, 0)[1], taken)


def test_values_are_stratified_by_range() -> None:
    targets = np.linspace(0, 1, 200, dtype=np.float32)[::-1].reshape(-1, 1)
    _, taken = stratified(targets, 0.1, 3)
    assert len(taken) == 20
    assert np.histogram(targets[taken, 0], bins=10, range=(0, 1))[0].tolist() == [2] * 10
