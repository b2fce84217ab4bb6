"""The check of a data set finds what is planted, and nothing in clean data."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.data import from_arrays
from fovea.data.check import DataReport, check
from fovea.data.duplicates import difference_hash, near_pairs, thumbnails
from fovea.errors import DataError
from tests.data import builders

RNG = np.random.default_rng(4)


def names(report: DataReport) -> set[str]:
    return {problem.name for problem in report.problems}


def find(report: DataReport, name: str):
    return next(problem for problem in report.problems if problem.name == name)


def scenes(count: int, side: int = 32) -> np.ndarray:
    """Smooth random pictures: a coarse grid, enlarged."""
    coarse = RNG.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)) for image in coarse]
    )


def test_clean_data() -> None:
    report = check(from_arrays((scenes(40), np.arange(40) % 2), test=(scenes(10), np.arange(10) % 2)))
    assert report.problems == ()
    assert report.ok
    assert report.splits == {"train": 36, "val": 4, "test": 10}
    assert report.class_counts["test"] == {"0": 5, "1": 5}
    assert "no problems found" in report.text()
    json.dumps(report.to_dict())


def test_a_folder_full_of_problems(tmp_path: Path) -> None:
    builders.class_folders(tmp_path / "train", {"cat": 60, "dog": 6, "Dog": 6}, size=(40, 40))
    builders.class_folders(tmp_path / "test", {"cat": 6, "owl": 6}, size=(40, 40), start=9000)
    (tmp_path / "train" / "empty").mkdir()
    train, test = tmp_path / "train", tmp_path / "test"
    (train / "cat" / "001.png").write_bytes(b"broken")
    (train / "cat" / "003.png").write_bytes((train / "cat" / "002.png").read_bytes())
    (train / "dog" / "003.png").write_bytes((train / "cat" / "002.png").read_bytes())
    (test / "cat" / "000.png").write_bytes((train / "cat" / "009.png").read_bytes())
    (train / "cat" / "long.png").write_bytes(builders.encoded(builders.picture((1, 2, 3), 5, 10, 90)))
    report = check(tmp_path, size=40, val_fraction=0)
    assert not report.ok
    assert find(report, "unreadable").examples[0].startswith("train: train/cat/001.png is not an image")
    assert find(report, "unreadable").severity == "warning"
    assert find(report, "leak").count == 1
    assert "train: train/cat/009.png = test: test/cat/000.png" in find(report, "leak").examples
    assert find(report, "conflict").count == 1
    assert find(report, "empty class").examples == ("owl",)
    assert set(find(report, "missing class").examples) == {"dog", "Dog"}
    assert find(report, "class names").examples == ("'Dog' / 'dog'",)
    assert "has 60 training samples, 'Dog' 6 (10.0 times as many)" in find(report, "imbalance").message
    assert find(report, "aspect").examples == ("train: train/cat/long.png 10x90",)
    assert find(report, "small images").count == 1
    assert any("'train/empty' is empty" in problem.message for problem in report.problems)
    severities = [problem.severity for problem in report.problems]
    assert severities == sorted(severities, key=["error", "warning", "info"].index), "worst first"
    text = report.text()
    assert "train: train/cat/009.png = test: test/cat/000.png" in text
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False
    assert report.sizes["width"]["max"] == 90


def test_near_duplicates_across_splits() -> None:
    train, test = scenes(30), scenes(12)
    buffer = io.BytesIO()
    Image.fromarray(train[3]).save(buffer, "JPEG", quality=80)
    test[5] = np.asarray(Image.open(buffer))
    test[6] = np.clip(train[9].astype(int) + 3, 0, 255)
    report = check(from_arrays((train, np.arange(30) % 2), test=(test, np.arange(12) % 2), val_fraction=0))
    assert set(find(report, "near leak").examples) == {"train: train#3 ~ test: test#5", "train: train#9 ~ test: test#6"}
    assert report.ok, "near duplicates are a warning"
    assert "near duplicates" not in names(report)


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (9, 100, 3), (1, 1, 3), (3, 2, 1)])
def test_thumbnails_are_means_of_areas(shape) -> None:
    images = RNG.integers(0, 256, (5, *shape), dtype=np.uint8)
    small = thumbnails(images, 4, 4)
    assert small.shape == (5, 4, 4)
    flat = thumbnails(np.full((1, *shape), 77, np.uint8), 8, 9)
    assert np.allclose(flat, 77, atol=1e-3)
    assert difference_hash(np.full((1, *shape), 77, np.uint8))[0] == 0, "flat images have no bits"
    exact = thumbnails(images[..., :1], shape[0], shape[1])
    assert np.allclose(exact, images[..., 0], atol=1e-3)


def test_near_pairs_against_every_pair() -> None:
    """The banded search finds what a search of all pairs finds."""
    images = np.concatenate([scenes(60)] * 3)
    noisy = np.clip(images.astype(int) + RNG.integers(-4, 5, images.shape), 0, 255).astype(np.uint8)
    found = {tuple(pair) for pair in near_pairs([noisy]).tolist()}
    assert found == {(a, b) for a in range(180) for b in range(a + 1, 180) if (b - a) % 60 == 0}
    parts = [noisy[:7], noisy[7:7], noisy[7:100], noisy[100:]]
    assert {tuple(pair) for pair in near_pairs(parts).tolist()} == found
    assert near_pairs([images[:1]]).shape == (0, 2)
    assert near_pairs([np.zeros((50, 8, 8, 3), np.uint8)]).shape == (0, 2), "blank images are not compared"


def test_regression_and_one_class() -> None:
    x = scenes(10)
    assert "every target is 3" in find(check(from_arrays((x, np.full(10, 3.0)))), "labels").message
    assert check(from_arrays((x, np.linspace(0, 1, 10)))).ok
    assert "there is one class only, '7'" in find(check(from_arrays((x, np.full(10, 7)))), "labels").message


def test_a_folder_where_nothing_is_readable(tmp_path: Path) -> None:
    builders.class_folders(tmp_path, {"cat": 2})
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="none of 2 images can be read"):
        check(tmp_path)


def test_signals_are_checked_for_copies(tmp_path: Path) -> None:
    builders.wav_files(tmp_path)
    (tmp_path / "0_ada_9.wav").write_bytes((tmp_path / "0_ada_1.wav").read_bytes())
    report = check(tmp_path, label_pattern="{label}_{speaker}_{take}.wav", test_where="take>5", val_fraction=0)
    assert find(report, "leak").examples == ("train: 0_ada_1.wav = test: 0_ada_9.wav",)
