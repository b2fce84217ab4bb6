"""Boxes written in another layout are the same boxes: round trips over all three, and what is told to be lost."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import fovea
from fovea.data.annotations.convert import Converted, convert
from fovea.data.boxes import is_box
from fovea.errors import ConfigError, DataError
from tests.data.boxes_on_disk import NAMES, coco, coco_content, expected, read_back, shots, voc, yolo

LAYOUTS = ("voc", "coco", "yolo")


def boxes_of(folder: Path) -> dict[str, list[list[float]]]:
    """Sorted rows x1, y1, x2, y2, label, flags, area of each image by the name of its file."""
    found = {}
    for split in fovea.dataset(folder, val_fraction=0).splits.values():
        for name, rows in zip(split.ids, split.listed_targets, strict=True):
            found[f"{split.name} {Path(name).name}"] = sorted(rows[is_box(rows)][:, [0, 1, 2, 3, 4, 5, 8]].tolist())
    return found


def fractional(root: Path) -> Path:
    """A COCO set with boxes between pixels, one of them one pixel thin, a crowd, a difficult object and own areas."""
    rng = np.random.default_rng(51)
    folder = coco(root, {"train": shots(6, 52, "t"), "val": shots(3, 53, "v")})
    for split in ("train", "val"):
        file = folder / f"annotations/instances_{split}.json"
        content = json.loads(file.read_text())
        for drawn in content["annotations"]:
            x, y = rng.uniform(0, 40), rng.uniform(0, 30)
            drawn["bbox"] = [x, y, *rng.uniform(1, 15, 2)]
            drawn["area"] = 7.5
        content["annotations"][0].update(iscrowd=1)
        content["annotations"][1].update(ignore=1, bbox=[3, 4, 1, 9])
        file.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("first", "second"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_whole_boxes_go_around_unchanged(first: str, second: str, tmp_path: Path) -> None:
    train, val = shots(5, 54, "t"), shots(3, 55, "v")
    train[1].objects = []
    write = {"voc": voc, "coco": coco, "yolo": yolo}[first]
    source = write(tmp_path / "source", {"train": train, "val": val})
    done = convert(source, tmp_path / "out", second)
    assert done.images == {"train": 5, "val": 3}
    assert done.boxes == sum(len(shot.objects) for shot in (*train, *val))
    assert not done.lost
    data = fovea.dataset(tmp_path / "out")
    assert data.classes == NAMES
    assert read_back(data.train) == expected(train)
    assert read_back(data.splits["val"]) == expected(val)
    picture = next((tmp_path / "out").rglob("t001.png"))
    assert picture.read_bytes() == next(source.rglob("t001.png")).read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_between_pixels_and_their_flags(layout: str, tmp_path: Path) -> None:
    source = fractional(tmp_path / "source")
    done = convert(source, tmp_path / "out", layout)
    before, after = boxes_of(source), boxes_of(tmp_path / "out")
    assert before.keys() == after.keys()
    columns = 7 if layout == "coco" else 6  # areas are COCO's alone
    for name, rows in before.items():
        kept = np.array([row for row in rows if layout != "yolo" or row[5] != 1]).reshape(-1, 7)
        if layout == "yolo":
            kept[:, 5] = 0
        assert np.allclose(kept[:, :columns], np.array(after[name]).reshape(-1, 7)[:, :columns], atol=1e-3)
    lost = {what.split(" ")[0] for what in done.lost}
    assert lost == {"voc": {"areas"}, "coco": set(), "yolo": {"areas", "crowds,", "marks"}}[layout]


def test_twenty_random_sets_go_through_all_layouts(tmp_path: Path) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        made = [
            shots(1, seed * 10 + k, f"n {seed}.{k}-", int(rng.integers(20, 90)), int(rng.integers(20, 90)))[0]
            for k in range(4)
        ]
        path = coco(tmp_path / f"{seed}/0", {"train": made})
        for step, layout in enumerate(rng.permutation(LAYOUTS).tolist(), 1):
            convert(path, tmp_path / f"{seed}/{step}", layout)
            path = tmp_path / f"{seed}/{step}"
        assert read_back(fovea.dataset(path, val_fraction=0).train) == expected(made)


def test_names_that_meet_and_names_that_need_quotes(tmp_path: Path) -> None:
    first, second = shots(2, 56), shots(2, 57)  # the same file names in two folders
    content = coco_content(first, 1, "a/")
    other = coco_content(second, 1, "b/")
    for entry in (*other["images"], *other["annotations"]):
        entry["id" if "file_name" in entry else "image_id"] += 100
    for drawn in other["annotations"]:
        drawn["id"] += 1000
    content["images"] += other["images"]
    content["annotations"] += other["annotations"]
    names = ['ant: "red" & <big>', "yes", "#3 'x', {y}"]
    for category, name in zip(content["categories"], names, strict=True):
        category["name"] = name
    for folder, made in (("a", first), ("b", second)):
        for shot in made:
            shot.file(tmp_path / "source" / folder)
    (tmp_path / "source/annotations.json").write_text(json.dumps(content))
    for layout in LAYOUTS:
        convert(tmp_path / "source", tmp_path / layout, layout)
        data = fovea.dataset(tmp_path / layout, val_fraction=0)
        assert list(data.classes) == names, layout
        found = read_back(data.train)
        assert found == {f"{folder}_{shot.name}": set(shot.objects) for folder, made in (("a", first), ("b", second))
                         for shot in made}  # fmt: skip


def test_spaces_that_readers_strip_lose_neither_objects_nor_images(tmp_path: Path) -> None:
    folder = coco(tmp_path / "set", {"train": shots(3, 54, "t")})
    file = folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    image = next(folder.rglob(content["images"][0]["file_name"]))
    image.rename(image.with_name(f"trail {image.suffix}"))
    content["images"][0]["file_name"] = f"trail {image.suffix}"
    for category, name in zip(content["categories"], ("a\tb", " c ", "d"), strict=True):
        category["name"] = name
    file.write_text(json.dumps(content))
    before = fovea.dataset(folder, val_fraction=0).train
    convert(folder, tmp_path / "voc", "voc")
    after = fovea.dataset(tmp_path / "voc", val_fraction=0).train
    assert after.classes == ("a b", "c", "d")
    assert after.class_counts().tolist() == before.class_counts().tolist()
    assert after.listed == 3


def test_turned_pictures_stay_turned_and_arrays_become_pictures(tmp_path: Path) -> None:
    shot = shots(1, 58)[0]
    shot.file(tmp_path / "source", ".jpg", 6)
    content = coco_content([shot], 1, suffix=".jpg")  # states the stored size: boxes are turned along
    (tmp_path / "source/annotations.json").write_text(json.dumps(content))
    before = boxes_of(tmp_path / "source")
    for layout in LAYOUTS:
        done = convert(tmp_path / "source", tmp_path / layout, layout)
        assert any("EXIF orientation" in note for note in done.notes)
        after = boxes_of(tmp_path / layout)
        assert np.allclose(before["train s000.jpg"], after["train s000.jpg"], atol=1e-3)

    made = shots(3, 59)
    images = np.stack([shot.pixels for shot in made])
    boxes = [[(*box, label) for label, *box in shot.objects] for shot in made]
    data = fovea.from_arrays((images, boxes), task="detection", classes=NAMES, val_fraction=0)
    convert(data, tmp_path / "arrays", "yolo")
    again = fovea.dataset(tmp_path / "arrays", val_fraction=0)
    assert read_back(again.train)["train_1"] == set(made[1].objects)
    assert np.array_equal(again.train.raw(1), made[1].pixels)


def test_unreadable_pictures_are_left_out_and_nothing_is_left_half_done(tmp_path: Path) -> None:
    folder = voc(tmp_path / "source", {"train": shots(4, 60)})
    (folder / "JPEGImages/s002.png").write_bytes(b"no picture")
    done = convert(folder, tmp_path / "out", "coco")
    assert done.left_out == [("JPEGImages/s002.png", done.left_out[0][1])]
    assert done.images == {"train": 3}
    for path in (folder / "JPEGImages").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of 4 images can be read"):
        convert(folder, tmp_path / "none", "coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    with pytest.raises(DataError, match="expected a new folder"):
        convert(folder, tmp_path / "out", "voc")
    with pytest.raises(ConfigError, match="expected a layout from voc, coco, yolo, got 'json'"):
        convert(folder, tmp_path / "none", "json")


def test_what_was_done_is_told_as_json() -> None:
    done = Converted("voc", {"train": 2}, 5, {"areas": 1}, [("a.png", "is broken")])
    assert done.to_dict()["left_out"] == [{"path": "a.png", "reason": "is broken"}]
