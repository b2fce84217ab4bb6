"""What people give by mistake, and what hostile files ask for: one line, at once, and nothing else."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea.data.safe_pickle import read_pickle
from fovea.data.samples import read_samples
from fovea.errors import DataError, FoveaError

IMAGES = np.zeros((4, 8, 8), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for label in "ab":
        for index in range(3):
            path = tmp_path / "set" / label / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((12, 12, 3), 40 * index, np.uint8)).save(path)
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"task": "regression"}, "holds targets for classification, task='regression' was asked for"),
        ({"val_fraction": "x"}, "must be at least 0 and below 1, got 'x'"),
        ({"val_fraction": None}, "must be at least 0 and below 1, got None"),
        ({"max_bad": "x"}, "must be a share from 0 to 1, got 'x'"),
        ({"seed": "x"}, r"\[seed\] must be an integer of at least 0, got 'x'"),
        ({"workers": -1}, r"\[workers\] must be an integer of at least 1, got -1"),
        ({"max_memory": "1"}, r"\[max_memory\] must be an integer of at least 1, got '1'"),
        ({"size": 9.5}, "must be positive integers up to 65536, got 9.5"),
        ({"label_pattern": 5}, r"\[label pattern\] must be a text"),
    ],
)
def test_options_of_a_wrong_kind(folder, options, text):
    with pytest.raises(FoveaError, match=text):
        fovea.dataset(folder, **options)


@pytest.mark.parametrize(
    ("train", "options", "text"),
    [
        (None, {}, r"\[arrays.train\] must be a pair \(inputs, targets\), got NoneType"),
        ((IMAGES,), {}, "must be a pair"),
        (([[1], [2, 3]], [0, 1]), {}, "has samples of unequal shape"),
        ((IMAGES, ["a", "b", "c", "d"]), {"task": "regression"}, "has targets that are not numbers"),
        ((IMAGES, [0, 1, 0, 1]), {"classes": 2}, "needs classes as a list of names, got 2"),
    ],
)
def test_arrays_of_a_wrong_kind(train, options, text):
    with pytest.raises(DataError, match=text):
        fovea.from_arrays(train, **options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fovea.Preprocessing(size=32), r"size of kind 'image' must be \(height, width\), got 32"),
        (lambda: fovea.Preprocessing(mean="abc"), "mean must be a number or one a channel, got 'abc'"),
        (lambda: fovea.Augment(("flip",)), "steps must be made like HorizontalFlip"),
    ],
)
def test_records_of_a_wrong_kind(make, text):
    with pytest.raises(FoveaError, match=text):
        make()


def test_one_number_stands_for_every_channel():
    record = fovea.Preprocessing(mean=0.5, std=np.float32(0.25))
    assert (record.mean, record.std) == ((0.5,) * 3, (0.25,) * 3)


def test_what_is_no_path():
    for given in (None, 5, (IMAGES, [0, 1, 0, 1])):
        with pytest.raises(DataError, match=r"must be a path or a name, got .*; arrays go to fovea\.from_arrays"):
            fovea.dataset(given)


def test_one_row_of_pixels_is_quarantined_and_does_not_fill_the_memory(folder):
    Image.fromarray(np.zeros((1, 60_000, 3), np.uint8)).save(folder / "a" / "thin.png")
    data = fovea.dataset(folder, val_fraction=0, max_bad=0.5, size=64)
    assert len(data.train) == 6
    (bad,) = data.quarantined
    assert bad.path == "a/thin.png"
    assert "would be resized to 64x3840000" in bad.reason


def test_a_pickle_whose_key_takes_for_ever_to_hash_is_refused_at_once():
    nested = b")q\x00" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    for content in (b"}" + nested + b"K\x01s", b"}(" + nested + b"K\x01u", b"(" + nested + b"K\x01d"):
        with pytest.raises(DataError, match="a key that is not a text or an integer"):
            read_pickle(b"\x80\x02" + content + b".", "bomb")
    with pytest.raises(DataError, match="arrays of dtype 'tuple' are not read"):
        read_pickle(b"\x80\x02cnumpy\ndtype\n" + nested + b"\x85R.", "bomb")


def test_frames_of_a_folder_are_read_in_the_order_of_their_numbers(tmp_path):
    for number in (1, 2, 10):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    record = fovea.Preprocessing("clip", size=(3, 4, 4))
    (clip,) = read_samples([tmp_path], record)
    assert clip[:, 0, 0, 0].tolist() == [1, 2, 10]
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(tmp_path / "frame3.png")
    with pytest.raises(DataError, match="expected frames of one size"):
        read_samples([tmp_path], record)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected a folder of frames, found no image in it"):
        read_samples([tmp_path / "empty"], record)


def test_a_folder_whose_name_is_no_utf_8_gives_a_class_that_can_be_written(tmp_path):
    for name in (b"caf\xe9", "thé".encode()):
        inside = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
        try:
            os.mkdir(inside)
        except OSError:
            pytest.skip("this file system takes UTF-8 alone")
        for index in range(2):
            Image.fromarray(np.full((4, 4), 90 * index, np.uint8)).save(f"{inside}/{index}.png")
    data = fovea.dataset(tmp_path, val_fraction=0)
    assert data.classes == ("café", "thé")
    assert data.train.inputs.shape == (4, 4, 4, 1)
