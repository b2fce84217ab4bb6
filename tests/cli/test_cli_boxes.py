"""Data sets of boxes on the command line: check, convert, sheet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.data.load import dataset
from fovea.detection.sheet import annotated, annotation_sheet, choose
from fovea.errors import ConfigError
from tests.data.boxes_on_disk import coco, coco_content, shots, voc

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A COCO set with a crowd and a difficult object."""
    made = shots(6, 61, "t")
    folder = coco(tmp_path / "set", {"train": made, "val": shots(3, 62, "v")})
    content = coco_content(made, 1)
    content["annotations"][0].update(iscrowd=1)
    content["annotations"][1].update(ignore=1)
    (folder / "annotations/instances_train.json").write_text(json.dumps(content))
    return folder


def test_check_counts_objects(fovea: Run, folder: Path) -> None:
    code, out, _ = fovea("data", "check", folder)
    assert code == 0
    assert "image detection, decoded to 64x64x3" in out
    assert "objects" in out
    code, out, _ = fovea("data", "check", folder, "--json", "--task", "detection")
    found = json.loads(out)
    assert found["splits"] == {"train": 6, "val": 3}
    assert found["sizes"]["crowds"] == found["sizes"]["difficult"] == 1


def test_convert_tells_what_is_not_kept(fovea: Run, folder: Path, tmp_path: Path) -> None:
    code, out, err = fovea("data", "convert", folder, tmp_path / "out", "--to", "yolo")
    assert code == 0
    assert "9 images (train 6, val 3)" in out
    assert "not kept    crowds, left out: 1 (yolo cannot hold them)" in err
    code, out, _ = fovea("data", "convert", folder, tmp_path / "two", "--to", "voc", "--json")
    assert json.loads(out)["images"] == {"train": 6, "val": 3}
    code, _, err = fovea("data", "convert", "digits", tmp_path / "three", "--to", "coco")
    assert code != 0
    assert "[digits] expected images with boxes, got data for classification" in err
    code, _, err = fovea("data", "convert", folder, tmp_path / "out", "--to", "coco")
    assert code != 0
    assert "expected a new folder" in err


def test_sheet_shows_boxes_in_the_colours_of_their_classes(fovea: Run, folder: Path, tmp_path: Path) -> None:
    code, out, _ = fovea("data", "sheet", folder, "--out", tmp_path / "sheet.png", "--count", 5)
    assert (code, out.strip()) == (0, str(tmp_path / "sheet.png"))
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert picture.shape[1] == 4 * 494 + 14
    for colour in ((230, 159, 0), (86, 180, 233), (0, 190, 130)):
        assert (picture == colour).all(axis=-1).sum() > 500
    scenes = ["--count", 5, "--augment", "none,quarter_turn=1"]
    assert fovea("data", "sheet", folder, "--out", tmp_path / "turned.png", *scenes)[0] == 0
    turned = np.asarray(Image.open(tmp_path / "turned.png"))
    for colour in ((230, 159, 0), (86, 180, 233), (0, 190, 130)):
        assert (turned == colour).all(axis=-1).sum() > 500
    code, _, err = fovea("data", "sheet", folder, "--out", tmp_path / "no.png", "--augment", "flip")
    assert "expected standard, none or NAME=NUMBER, got 'flip'" in err
    code, _, err = fovea("data", "sheet", folder, "--out", tmp_path / "no.png", "--split", "test")
    assert code != 0
    assert "has no 'test' split" in err
    code, _, err = fovea("data", "sheet", "digits", "--out", tmp_path / "no.png")
    assert "a sheet shows images with boxes" in err
    assert not (tmp_path / "no.png").exists()


def test_sheet_passes_over_what_cannot_be_read(tmp_path: Path) -> None:
    source = voc(tmp_path, {"train": shots(4, 63)})
    (source / "JPEGImages/s001.png").write_bytes(b"no picture")
    data = dataset(source, val_fraction=0, max_bad=1)
    sheet = Image.open(io.BytesIO(annotation_sheet(data, count=4)))
    assert sheet.width == 3 * 494 + 14
    assert not data.train.decoded
    assert sorted(choose(data.train, 0)) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="expected 1 to 64 images, got 0"):
        annotation_sheet(data, count=0)


def test_a_box_is_drawn_where_it_lies(tmp_path: Path) -> None:
    made = shots(1, 64)
    made[0].objects = [(1, 10, 12, 40, 30)]
    data = dataset(voc(tmp_path, {"train": made}), val_fraction=0)
    tile, words = annotated(data.train, 0, 640)
    assert words == "s000.png   1 object"
    assert tile.shape == (480, 640, 3)
    line = (tile == (230, 159, 0)).all(axis=-1)  # bee is the only class, so it is the first
    ys, xs = np.nonzero(line)
    assert (xs.min(), xs.max()) == (100, 399)
    assert ys.max() == 299
