"""Pascal VOC, COCO and YOLO are found by themselves and give the boxes that were drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fovea
from fovea.data.boxes import is_box
from fovea.data.preprocess import Preprocessing
from fovea.errors import DataError
from tests.data.boxes_on_disk import (
    NAMES,
    SHADES,
    coco,
    coco_content,
    expected,
    read_back,
    shots,
    voc,
    voc_text,
    yolo,
    yolo_text,
)  # fmt: skip
from tests.data.builders import packed

WRITERS = {"voc": voc, "coco": coco, "yolo": yolo}


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_gives_the_same_boxes(layout: str, tmp_path: Path) -> None:
    train, val = shots(6, 1, "t"), shots(3, 2, "v")
    data = fovea.dataset(WRITERS[layout](tmp_path / "set", {"train": train, "val": val}))
    assert (data.task, data.kind, data.classes) == ("detection", "image", NAMES)
    assert data.val is not None
    assert data.test is None
    assert data.validation == "its own split"
    assert read_back(data.train) == expected(train)
    assert read_back(data.val) == expected(val)
    assert data.summary()["splits"] == {"train": 6, "val": 3}


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("archive", ["set.zip", "set.tar", "set.tar.gz"])
def test_archives_are_read_where_they_lie(layout: str, archive: str, tmp_path: Path) -> None:
    made = shots(5, 3)
    folder = WRITERS[layout](tmp_path / "set", {"train": made})
    (tmp_path / "one").mkdir()
    packed(folder, tmp_path / "one" / archive)
    for place in (tmp_path / "one" / archive, tmp_path / "one"):
        data = fovea.dataset(place, val_fraction=0)
        assert read_back(data.train) == expected(made)
        assert data.train.inputs.shape == (5, 64, 64, 3)
    assert data.fingerprint == fovea.dataset(folder, val_fraction=0).fingerprint


def test_boxes_lie_on_their_pixels_in_the_networks_input(tmp_path: Path) -> None:
    data = fovea.dataset(voc(tmp_path, {"train": shots(8, 4, height=60, width=90)}), size=(96, 128), val_fraction=0)
    boxes, inputs = data.train.targets, data.train.inputs
    assert boxes.shape[0] == 8
    assert boxes.shape[2] == 9
    assert boxes.dtype == np.float32
    seen = 0
    for image, rows in zip(inputs, boxes, strict=True):
        for row in rows[is_box(rows)]:
            x, y = (row[:2] + row[2:4]) / 2
            middle = image[int(y), int(x)].astype(int)
            seen += int(np.abs(middle - SHADES[int(row[4])]).max() < 12)  # another box may lie above
            assert row[6:8] == pytest.approx([128 / 90, 85 / 60], rel=0.01)
    assert seen >= 0.8 * is_box(boxes).sum()


def test_default_input_is_a_letterbox_of_a_multiple_of_32(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"train": shots(4, 5, height=50, width=70)})
    data = fovea.dataset(folder)
    assert data.input_shape == (96, 96, 3)
    assert data.preprocessing.resize == "letterbox"
    assert any("letterbox" in note for note in data.notes)
    with pytest.raises(DataError, match=r"\[size\] for detection must be multiples of 32, got 100; take 96 or 128"):
        fovea.dataset(folder, size=100)


def test_other_preprocessing_classes_and_rows(tmp_path: Path) -> None:
    data = fovea.dataset(coco(tmp_path, {"train": shots(6, 6)}), val_fraction=0)
    large = data.prepared(Preprocessing(size=(128, 128), resize="letterbox"))
    assert np.allclose(large.train.targets[..., :4], 2 * data.train.targets[..., :4], atol=1e-4)
    stretched = data.prepared(Preprocessing(size=(96, 64), resize="stretch")).train.targets
    assert stretched[0, 0, 6:8].tolist() == [1, 2]

    other = data.with_classes(["zoo", *reversed(NAMES)])
    real = is_box(data.train.targets)
    assert (other.train.targets[real][:, 4] == 3 - data.train.targets[real][:, 4]).all()
    assert other.train.class_counts().tolist() == [0, *data.train.class_counts().tolist()[::-1]]
    with pytest.raises(DataError, match="'cow'"):
        data.with_classes(["ant", "bee"])

    some = data.train.take([4, 1])
    assert some.ids == (data.train.ids[4], data.train.ids[1])
    assert np.array_equal(some.targets, data.train.targets[[4, 1]])


def test_fingerprint_knows_boxes_and_not_places(tmp_path: Path) -> None:
    made = shots(4, 7)
    first = fovea.dataset(yolo(tmp_path / "a", {"train": made})).fingerprint
    assert first == fovea.dataset(yolo(tmp_path / "b", {"train": made}), size=32).fingerprint
    label, x1, y1, x2, y2 = made[2].objects[0]
    made[2].objects[0] = (label, x1, y1, x2 + 1, y2)
    assert first != fovea.dataset(yolo(tmp_path / "c", {"train": made})).fingerprint


def test_validation_is_drawn_by_the_rarest_class_of_an_image(tmp_path: Path) -> None:
    made = shots(40, 8)
    for number, shot in enumerate(made):  # cows in a fifth of the images, two images without objects
        shot.objects = [(0, *box) for _, *box in shot.objects]  # type: ignore[misc]
        if number % 5 == 0:
            shot.objects[0] = (2, *shot.objects[0][1:])
        elif number % 5 == 1:
            shot.objects[0] = (1, *shot.objects[0][1:])
    made[3].objects, made[9].objects = [], []
    data = fovea.dataset(coco(tmp_path, {"train": made}), val_fraction=0.25, seed=5)
    assert data.val is not None
    assert (len(data.train), len(data.val)) == (30, 10)
    assert "stratified" in data.validation
    with_cows = [int((split.targets[..., 4] == 2).any(axis=1).sum()) for split in (data.train, data.val)]
    with_bees = [int((split.targets[..., 4] == 1).any(axis=1).sum()) for split in (data.train, data.val)]
    assert with_cows == [6, 2]
    assert with_bees == [6, 2]
    again = fovea.dataset(tmp_path, val_fraction=0.25, seed=5)
    assert again.val is not None
    assert again.val.ids == data.val.ids


def test_images_without_objects_stay(tmp_path: Path) -> None:
    made = shots(5, 9)
    made[1].objects, made[4].objects = [], []
    for layout, write in WRITERS.items():
        data = fovea.dataset(write(tmp_path / layout, {"train": made}), val_fraction=0)
        assert len(data.train) == 5
        assert (is_box(data.train.targets).sum(axis=1) == 0).tolist() == [False, True, False, False, True]


def test_voc_without_lists_beside_the_images_and_in_split_folders(tmp_path: Path) -> None:
    train, test = shots(4, 10, "t"), shots(2, 11, "e")
    for split, made in (("train", train), ("test", test)):
        for shot in made:
            shot.file(tmp_path / split, ".JPG")
            (tmp_path / split / f"{shot.name}.xml").write_text(voc_text(shot, filename=f"{shot.name}.JPG"))
    data = fovea.dataset(tmp_path, val_fraction=0)
    assert set(data.splits) == {"train", "test"}
    assert data.classes == NAMES
    assert read_back(data.train) == expected(train)


def test_voc_trainval_fills_what_is_missing_only(tmp_path: Path) -> None:
    train, val = shots(4, 12, "t"), shots(2, 13, "v")
    folder = voc(tmp_path, {"train": train, "val": val})
    lists = folder / "ImageSets/Main"
    (lists / "trainval.txt").write_text("".join(f"{shot.name}\n" for shot in (*train, *val)))
    (lists / "ant_train.txt").write_text("".join(f"{shot.name} -1\n" for shot in train))
    assert {name: split.listed for name, split in fovea.dataset(folder).splits.items()} == {"train": 4, "val": 2}
    (lists / "val.txt").unlink()
    assert read_back(fovea.dataset(folder).splits["val"]) == expected(val)
    (lists / "train.txt").unlink()
    assert fovea.dataset(folder, val_fraction=0).train.listed == 6


def test_voc_corners_from_zero_are_edges(tmp_path: Path) -> None:
    made = shots(3, 14)
    made[0].objects = [(0, 0, 0, 20, 30)]
    folder = voc(tmp_path, {"train": made})
    for shot in made:
        (folder / f"Annotations/{shot.name}.xml").write_text(voc_text(shot, inclusive=False))
    data = fovea.dataset(folder, val_fraction=0)
    assert read_back(data.train) == expected(made)
    assert any("as edges" in note for note in data.notes)


def test_coco_in_one_file_and_in_split_folders(tmp_path: Path) -> None:
    train, val = shots(4, 15, "t"), shots(2, 16, "v")
    lone = tmp_path / "lone"
    for shot in train:
        shot.file(lone / "pictures/deep")
    (lone / "annotations.json").write_text(json.dumps(coco_content(train, 1)))
    assert read_back(fovea.dataset(lone, val_fraction=0).train) == expected(train)

    for split, made in (("train", train), ("valid", val)):
        for shot in made:
            shot.file(tmp_path / "exported" / split)
        content = coco_content(made, 1)
        for category in content["categories"]:
            category["supercategory"] = "animals"
        content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
        (tmp_path / "exported" / split / "_annotations.coco.json").write_text(json.dumps(content))
    data = fovea.dataset(tmp_path / "exported")
    assert data.classes == NAMES
    assert data.val is not None
    assert (read_back(data.train), read_back(data.val)) == (expected(train), expected(val))


def test_coco_keeps_flags_and_areas(tmp_path: Path) -> None:
    made = shots(2, 17)
    folder = coco(tmp_path, {"train": made})
    content = coco_content(made, 1)
    content["annotations"][0].update(iscrowd=1, area=12.5)
    content["annotations"][1].update(ignore=1)
    (folder / "annotations/instances_train.json").write_text(json.dumps(content))
    rows = fovea.dataset(folder, val_fraction=0).train.targets
    assert rows[0, 0, 5] == 1
    assert rows[0, 0, 8] == 12.5
    assert sorted(rows[..., 5].ravel().tolist())[-2:] == [1, 2]


def test_yolo_beside_the_images_with_outlines(tmp_path: Path) -> None:
    made = shots(4, 18)
    for shot in made:
        shot.file(tmp_path)
        (tmp_path / f"{shot.name}.txt").write_text(yolo_text(shot))
    label, x1, y1, x2, y2 = made[0].objects[0]
    points = [(x1, y1), (x2, y1), (x2, (y1 + y2) / 2), (x1, y2)]
    outline = " ".join(f"{x / 64} {y / 48}" for x, y in points)
    (tmp_path / f"{made[0].name}.txt").write_text(f"{label} {outline}\n")
    made[0].objects = made[0].objects[:1]
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    data = fovea.dataset(tmp_path, val_fraction=0)
    assert data.classes == NAMES
    assert read_back(data.train) == expected(made)


def test_turned_pictures_take_boxes_of_the_stored_pixels_along(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        folder = tmp_path / str(orientation)
        shot = shots(1, 19)[0]
        shot.objects = shot.objects[:1]
        shot.pixels[...] = 100
        label, x1, y1, x2, y2 = shot.objects[0]
        shot.pixels[y1:y2, x1:x2] = SHADES[label]
        other = shots(1, 20, "o")[0]
        for one in (shot, other):
            one.file(folder, ".jpg", orientation if one is shot else 1)
            (folder / f"{one.name}.xml").write_text(voc_text(one, filename=f"{one.name}.jpg"))
        data = fovea.dataset(folder, val_fraction=0)
        row = data.train.ids.index("s000.jpg")
        found = data.train.listed_targets[row, 0, :4].round().astype(int)
        picture = data.train.raw(row).astype(int)
        marked = np.abs(picture - SHADES[label]).max(axis=2) < 40
        ys, xs = np.nonzero(marked)
        inside = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        if orientation >= 5 or orientation == 1:  # the size that the annotation states tells stored from shown
            assert np.abs(found - inside).max() <= 1, orientation
            assert not orientation >= 5 or any("turned along" in note for note in data.notes)
        else:
            assert any("as it is shown" in note for note in data.notes)


def test_no_layout_of_boxes_is_seen_where_there_is_none(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for shot in shots(3, 21, label):
            shot.file(tmp_path / label)
            (tmp_path / label / f"{shot.name}.txt").write_text("a photo of a pet\n")
    (tmp_path / "info.json").write_text('{"images": 6}')
    assert fovea.dataset(tmp_path).task == "classification"
    with pytest.raises(DataError, match="no layout of boxes that is known: Pascal VOC"):
        fovea.dataset(tmp_path, task="detection")


def test_boxes_can_be_passed_over(tmp_path: Path) -> None:
    made = shots(6, 22)
    for number, shot in enumerate(made):
        folder = tmp_path / ("ant", "bee")[number % 2]
        shot.file(folder)
        (folder / f"{shot.name}.xml").write_text(voc_text(shot))
    assert fovea.dataset(tmp_path).task == "detection"
    assert fovea.dataset(tmp_path, task="classification").classes == ("ant", "bee")
