"""Writing shards: the bytes of files as they are, all of it or nothing, and a listing that says what is there."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.data import from_arrays
from fovea.data.load import dataset
from fovea.data.loader import loader_for
from fovea.data.shards.write import write_shards
from fovea.errors import ConfigError, DataError
from tests.data.builders import class_folders
from tests.data.shard_sets import arrays, number_of, numbered, written


def test_bytes_of_files_stay_as_they_are(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", {"cat": 8, "dog": 5})
    (photos / "dog" / "x.JPG").write_bytes((photos / "dog" / "000.png").read_bytes())
    write_shards(photos, tmp_path / "set", per_shard=5)
    found = {}
    for path in sorted((tmp_path / "set").glob("*.tar")):
        with tarfile.open(path) as archive:
            content = {item.name: archive.extractfile(item).read() for item in archive}  # type: ignore[union-attr]
        for name in content:
            if not name.endswith(".cls"):
                found[hashlib.sha256(content[name]).hexdigest()] = content[name.rsplit(".", 1)[0] + ".cls"]
    expected = {
        hashlib.sha256(path.read_bytes()).hexdigest(): b"01"[label : label + 1]
        for label, name in enumerate(("cat", "dog"))
        for path in (photos / name).iterdir()
    }
    assert found == expected


def test_the_listing_says_what_is_there(tmp_path: Path) -> None:
    listing = write_shards(arrays(), tmp_path / "set", per_shard=20)
    assert listing == json.loads((tmp_path / "set" / "shards.json").read_text())
    assert listing["classes"] == ["ant", "bee", "cow"]
    train, val = listing["splits"]["train"], listing["splits"]["val"]
    assert [one["samples"] for one in train["shards"]] == [20, 20, 13]
    assert (train["class_counts"], val["class_counts"]) == ([18, 18, 17], [3, 3, 3])
    assert val["shards"][0]["labels"] == [(53 + n) % 3 for n in range(9)]
    for one in (*train["shards"], *val["shards"]):
        content = (tmp_path / "set" / one["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (one["bytes"], one["sha256"])


def test_writing_twice_gives_the_same_bytes_and_another_seed_another_order(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_shards(arrays(), tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name / "train-000000.tar").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_come_back_exactly(tmp_path: Path, channels: int) -> None:
    images, targets = numbered(30)
    images = images[..., :channels]
    write_shards(from_arrays((images, targets), val_fraction=0), tmp_path / "set")
    data = dataset(tmp_path / "set", stream=False, val_fraction=0)
    assert data.input_shape == (4, 4, channels)
    order = np.argsort(data.train.inputs[:, 0, 0, 0])
    assert np.array_equal(data.train.inputs[order], images)


def test_the_validation_split_that_was_made_is_written(tmp_path: Path) -> None:
    photos = dataset(class_folders(tmp_path / "photos", {"cat": 30, "dog": 20}))
    write_shards(photos, tmp_path / "set")
    data = dataset(tmp_path / "set")
    assert [(name, split.listed) for name, split in data.splits.items()] == [("train", 45), ("val", 5)]
    assert data.validation == "its own split"
    assert data.notes == (f"validation was made when the shards were written: {photos.validation}",)


def test_unreadable_files_are_left_out_and_listed(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", {"cat": 30, "dog": 20})
    (photos / "cat" / "007.png").write_bytes(b"torn")
    listing = write_shards(photos, tmp_path / "set")
    assert [(one["path"], one["split"]) for one in listing["left_out"]] == [("cat/007.png", "train")]
    assert listing["splits"]["train"]["class_counts"] == [26, 18]
    for number in range(10):
        (photos / "dog" / f"{number:03d}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"\[train\] 3 of 45 images cannot be read, more than max_bad=0.05 allows"):
        write_shards(photos, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "set"], "nothing is left of what failed"


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    written(tmp_path / "set")
    before = sorted(path.name for path in (tmp_path / "set").iterdir())
    with pytest.raises(DataError, match="expected a new folder, got one that holds something"):
        written(tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == before


@pytest.mark.parametrize("per_shard", [0, -1, 2.5, True, "7"])
def test_a_wrong_size_is_refused(tmp_path: Path, per_shard: Any) -> None:
    with pytest.raises(ConfigError, match="expected an integer of at least 1"):
        write_shards(arrays(), tmp_path / "set", per_shard=per_shard)


def test_only_images_with_classes_become_shards(tmp_path: Path) -> None:
    signals = from_arrays((np.zeros((4, 8, 1), np.float32), [0, 1, 0, 1]), kind="signal", val_fraction=0)
    values = from_arrays((np.zeros((4, 8, 8, 1), np.uint8), [0.5, 1.5, 2.5, 3.5]), val_fraction=0)
    for data, what in ((signals, "signals for classification"), (values, "images for regression")):
        with pytest.raises(DataError, match=f"holds {what}; shards are written of images with a class each"):
            write_shards(data, tmp_path / "set")
    with pytest.raises(DataError, match="holds shards already; copy them"):
        write_shards(written(tmp_path / "first"), tmp_path / "second")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    data = dataset(written(tmp_path / "set", 300, per_shard=64))
    numbers = np.concatenate([number_of(batch.inputs) for batch in loader_for(data.train, 64)])
    assert sorted(numbers.tolist()) == list(range(300))
    assert data.preprocessing.mean == arrays(300).preprocessing.mean
