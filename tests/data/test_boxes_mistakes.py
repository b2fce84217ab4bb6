"""Mistakes in annotations: each is told with its file and line, and everything else is kept and counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.data.annotations.records import Finding
from fovea.data.boxes import is_box
from fovea.data.check import check
from fovea.errors import DataError
from tests.data.boxes_on_disk import NAMES, coco, coco_content, expected, read_back, shots, voc, voc_text, yolo

Data = fovea.data.Dataset


def finding(data: Data, name: str) -> Finding:
    found = [note for note in data.notes if isinstance(note, Finding) and note.name == name]
    assert len(found) == 1, data.notes
    return found[0]


def objects(data: Data) -> int:
    return int(data.train.class_counts().sum())


def voc_set(root: Path, edit: Callable[[str], str], count: int = 4) -> tuple[Data, int]:
    """A VOC set of which the first annotation was edited, and how many objects were drawn."""
    made = shots(count, 31)
    folder = voc(root, {"train": made})
    file = folder / f"Annotations/{made[0].name}.xml"
    file.write_text(edit(file.read_text()))
    return fovea.dataset(folder, val_fraction=0), sum(len(shot.objects) for shot in made)


def corner(name: str, value: str) -> Callable[[str], str]:
    """Put another value in the place of the first corner of this name."""

    def edit(text: str) -> str:
        head, rest = text.split(f"<{name}>", 1)
        return f"{head}<{name}>{value}{rest[rest.index('</') :]}"

    return edit


@pytest.mark.parametrize(
    ("edit", "name", "lost"),
    [
        (corner("xmin", "nan"), "not a number", 1),
        (corner("xmin", "ten"), "not a number", 1),
        (corner("ymax", "1e400"), "not a number", 1),
        (lambda text: text.replace("<name>ant", "<name>", 1), "bad object", 1),
        (lambda text: text.replace("bndbox>", "robndbox>", 2), "bad object", 1),
        (lambda text: text.replace("</annotation>", ""), "bad annotation", None),
        (lambda text: '<!DOCTYPE a [<!ENTITY b "c">]>' + text, "bad annotation", None),
    ],
)
def test_voc_files_with_a_mistake(edit: Callable[[str], str], name: str, lost: int | None, tmp_path: Path) -> None:
    data, drawn = voc_set(tmp_path, edit)
    note = finding(data, name)
    assert note.startswith(f"{note.split(':')[0]}: 1 (Annotations/s000.xml line ")
    assert data.train.listed == (4 if lost else 3)
    assert objects(data) == (drawn - lost if lost else drawn - len(shots(1, 31)[0].objects))


def test_corners_beyond_the_edge_swapped_and_without_area(tmp_path: Path) -> None:
    made = shots(4, 32)
    made[0].objects = [(0, 50, 10, 80, 20), (1, 100, 100, 110, 110), (2, 5, 5, 5, 9), (0, 1, 1, 9, 9), (0, 1, 1, 9, 9)]
    swapped = made[1].objects[0]
    text = json.dumps(coco_content(made, 1), indent=1)
    content = json.loads(text)
    first = next(one for one in content["annotations"] if one["image_id"] == 11)
    _, x1, y1, x2, y2 = swapped
    first["bbox"] = [x2, y2, x1 - x2, y1 - y2]
    folder = coco(tmp_path, {"train": made})
    (folder / "annotations/instances_train.json").write_text(json.dumps(content, indent=1))
    data = fovea.dataset(folder, val_fraction=0)
    assert read_back(data.train)["s000"] == {(0, 50, 10, 64, 20), (0, 1, 1, 9, 9)}
    assert read_back(data.train)["s001"] == expected(made)["s001"]
    lines = json.dumps(content, indent=1).splitlines()
    for name, number in {"cut": 0, "outside": 1, "no area": 2, "duplicate boxes": 4, "swapped corners": 5}.items():
        note = finding(data, name)
        assert note.found == 1
        line = int(note.split("line ")[1].split()[0])
        assert f"entry {number})" in note
        assert lines[line - 1].strip() == "{"
        assert json.dumps(content["annotations"][number]["bbox"][0]) in "".join(lines[line : line + 6])


def test_what_has_no_partner(tmp_path: Path) -> None:
    made = shots(6, 33)
    places = {
        "voc": (voc(tmp_path / "voc", {"train": made}), "JPEGImages", "ImageSets/Main/train.txt line 3: s002"),
        "coco": (coco(tmp_path / "coco", {"train": made}), "images/train", "images entry 2: s002.png"),
        "yolo": (yolo(tmp_path / "yolo", {"train": made}), "images/train", "labels/train/s002.txt"),
    }
    for folder, images, place in places.values():
        (folder / images / "s002.png").unlink()
        data = fovea.dataset(folder, val_fraction=0)
        assert place in finding(data, "missing image")
        assert data.train.listed == 5
        del made[2:3]
        assert read_back(data.train) == expected(made)
        made[2:2] = [shots(6, 33)[2]]


def test_pictures_without_annotation_are_empty_or_not_listed(tmp_path: Path) -> None:
    made = shots(5, 34)
    other = shots(1, 35, "extra")[0]
    for layout, write in (("voc", voc), ("yolo", yolo)):
        folder = write(tmp_path / layout, {"train": made})
        for path in folder.rglob("s001.xml"):
            path.unlink()
        for path in folder.rglob("s001.txt"):
            path.unlink()
        data = fovea.dataset(folder, val_fraction=0)
        assert finding(data, "no annotation file").found == 1
        assert read_back(data.train)["s001"] == set()
    folder = coco(tmp_path / "coco", {"train": made})
    other.file(folder / "images/train")
    data = fovea.dataset(folder, val_fraction=0)
    assert data.train.listed == 5
    assert "images/train/extra000.png" in finding(data, "not listed")


def test_broken_pictures_are_set_aside(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"train": shots(30, 36)})
    (folder / "JPEGImages/s004.png").write_bytes(b"no picture")
    data = fovea.dataset(folder, val_fraction=0)
    assert len(data.train) == 29
    assert [bad.path for bad in data.quarantined] == ["JPEGImages/s004.png"]
    assert len(data.train.targets) == 29
    assert data.train.sizes.tolist() == [[48, 64]] * 29


@pytest.mark.parametrize(
    ("line", "name", "place"),
    [
        ("7 0.5 0.5 0.1 0.1", "unknown class", "labels/train/s000.txt line 2: 'id 7'"),
        ("-1 0.5 0.5 0.1 0.1", "unknown class", "labels/train/s000.txt line 2: 'id -1'"),
        ("1 nan 0.5 0.1 0.1", "not a number", "labels/train/s000.txt line 2"),
        ("1 0.5 0.5 0.1", "bad object", "labels/train/s000.txt line 2: 4 numbers"),
        ("1.5 0.5 0.5 0.1 0.1", "bad object", "labels/train/s000.txt line 2: '1.5' is no class id"),
        ("ant 0.5 0.5 0.1 0.1", "bad object", "labels/train/s000.txt line 2: 'ant 0.5"),
        ("1 0.5 0.5 0 0.1", "no area", "labels/train/s000.txt line 2"),
        ("1 320 240 64 48", "outside", "labels/train/s000.txt line 2"),
        ("1 0.1 0.1 inf 0.2 0.3 0.3", "not a number", "labels/train/s000.txt line 2"),
    ],
)
def test_yolo_lines_with_a_mistake(line: str, name: str, place: str, tmp_path: Path) -> None:
    made = shots(4, 37)
    made[0].objects = made[0].objects[:1]
    folder = yolo(tmp_path, {"train": made})
    with (folder / "labels/train/s000.txt").open("a") as file:
        file.write(line + "\n")
    data = fovea.dataset(folder, val_fraction=0)
    assert place in finding(data, name)
    assert read_back(data.train) == expected(made)


def test_ids_that_begin_at_one(tmp_path: Path) -> None:
    from tests.data.boxes_on_disk import yolo_text

    made = shots(6, 38)
    folder = yolo(tmp_path / "yolo", {"train": made})
    for shot in made:
        (folder / f"labels/train/{shot.name}.txt").write_text(yolo_text(shot, first_id=1))
    data = fovea.dataset(folder, val_fraction=0)
    assert "labels use 1 to 3, names are 0 to 2" in finding(data, "ids off by one")
    assert read_back(data.train) == expected(made)

    folder = coco(tmp_path / "coco", {"train": made})
    content = coco_content(made, 1)
    for category in content["categories"]:
        category["id"] -= 1
    (folder / "annotations/instances_train.json").write_text(json.dumps(content))
    data = fovea.dataset(folder, val_fraction=0)
    assert finding(data, "ids off by one").severity == "warning"
    assert read_back(data.train) == expected(made)
    content["annotations"] = [drawn for drawn in content["annotations"] if drawn["category_id"] == 3]
    content["annotations"].append({**content["annotations"][0], "id": 99, "category_id": 0})
    (folder / "annotations/instances_train.json").write_text(json.dumps(content))
    data = fovea.dataset(folder, val_fraction=0)  # a class without a name is no reason to rename the others
    assert finding(data, "unknown class").found == len(content["annotations"]) - 1


def test_coco_files_whose_ids_differ_agree_by_name(tmp_path: Path) -> None:
    train, val = shots(5, 39, "t"), shots(5, 40, "v")
    folder = coco(tmp_path, {"train": train, "val": val})
    content = coco_content(val, 5)
    content["categories"][1]["name"] = "Bee"
    (folder / "annotations/instances_val.json").write_text(json.dumps(content))
    data = fovea.dataset(folder)
    assert data.classes == (*NAMES, "Bee")
    assert "do not name the same classes: Bee, bee" in finding(data, "class names differ")
    assert data.splits["val"].class_counts()[1] == 0
    assert "'bee' in train / 'Bee' in val" in finding(data, "class spelled twice")
    problems = [one for one in check(data).problems if one.name == "class spelled twice"]
    assert any("'bee' in train / 'Bee' in val" in " ".join(one.examples) for one in problems)
    assert any(one.severity == "error" for one in problems)


def coco_file(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Data]:
    def make(root: Path) -> Data:
        made = shots(4, 41)
        folder = coco(root, {"train": made})
        content = coco_content(made, 1)
        edit(content)
        (folder / "annotations/instances_train.json").write_text(json.dumps(content))
        return fovea.dataset(folder, val_fraction=0)

    return make


@pytest.mark.parametrize(
    ("edit", "name", "place"),
    [
        (lambda c: c["annotations"][1].update(bbox=[1, 2, float("nan"), 3]), "not a number", "annotations entry 1"),
        (lambda c: c["annotations"][1].update(bbox="1 2 3 4"), "not a number", "annotations entry 1"),
        (lambda c: c["annotations"][1].update(category_id="ant"), "unknown class", "annotations entry 1: 'id ant'"),
        (lambda c: c["annotations"][1].update(category_id=99), "unknown class", "annotations entry 1: 'id 99'"),
        (
            lambda c: c["annotations"][1].update(image_id=99),
            "missing image",
            "annotations entry 1: no image",
        ),
        (lambda c: c["annotations"].__setitem__(1, None), "bad object", "annotations entry 1 has no image_id"),
        (lambda c: c["images"].append({"file_name": 3}), "bad object", "images entry 4 has no id or file_name"),
        (lambda c: c["images"].append(c["images"][0]), "bad object", "images entry 4 repeats an id"),
    ],
)
def test_coco_entries_with_a_mistake(
    edit: Callable[[dict[str, Any]], Any], name: str, place: str, tmp_path: Path
) -> None:
    data = coco_file(edit)(tmp_path)
    assert f"annotations/instances_train.json {place}" in finding(data, name)
    assert data.train.listed == 4
    assert objects(data) >= sum(len(shot.objects) for shot in shots(4, 41)) - 1


def test_files_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"categories entry 0 needs an integer id and a name"):
        coco_file(lambda c: c["categories"][0].pop("name"))(tmp_path / "a")
    with pytest.raises(DataError, match=r"not one object"):
        coco_file(lambda c: (c["annotations"].clear(), c["categories"].clear()))(tmp_path / "b")
    with pytest.raises(DataError, match=r"no class has a name \(.*entry 0: 'id 1'\)"):
        coco_file(lambda c: c["categories"].clear())(tmp_path / "e")
    folder = coco(tmp_path / "c", {"train": shots(2, 42)})
    file = folder / "annotations/instances_train.json"
    file.write_text(file.read_text()[:-1])
    with pytest.raises(DataError, match=r"instances_train.json\] line 1 column \d+ is not JSON"):
        fovea.dataset(folder)
    file.write_text('{"images": ' + "[" * 100_000 + ' "annotations" "categories"')
    with pytest.raises(DataError, match="is not JSON"):
        fovea.dataset(folder)
    file.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(DataError, match="none of their images"):
        fovea.dataset(folder)
    file.write_text("[1, 2]")
    with pytest.raises(DataError, match="is not COCO's"):
        fovea.dataset(file)
    with pytest.raises(DataError, match=r"takes about .* GB to read"):
        fovea.dataset(coco(tmp_path / "d", {"train": shots(2, 43)}), max_memory=1000)


def test_all_images_missing_names_the_first(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"train": shots(3, 44)})
    for path in (folder / "JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"none of their images: ImageSets/Main/train.txt line 1: s000"):
        fovea.dataset(folder)


def test_a_data_set_is_named_by_its_annotation_file(tmp_path: Path) -> None:
    train, val = shots(4, 45, "t"), shots(3, 46, "v")
    folder = coco(tmp_path / "coco", {"train": train, "val": val})
    data = fovea.dataset(folder / "annotations/instances_val.json")
    assert read_back(data.splits["val"]) == expected(val)
    assert "train" not in data.splits
    folder = yolo(tmp_path / "yolo", {"train": train, "val": val})
    assert len(fovea.dataset(folder / "data.yaml").splits["val"]) == 3
    (tmp_path / "elsewhere").mkdir()
    text = (folder / "data.yaml").read_text()
    (tmp_path / "elsewhere/animals.yaml").write_text("path: ../yolo  # beside\n" + text)
    data = fovea.dataset(tmp_path / "elsewhere/animals.yaml")
    assert read_back(data.train) == expected(train)


def test_boxes_from_arrays() -> None:
    made = shots(6, 47)
    images = np.stack([shot.pixels for shot in made])
    boxes = [[(*box, label) for label, *box in shot.objects] for shot in made]
    boxes[2] = []
    data = fovea.from_arrays((images, boxes), task="detection", classes=NAMES, val_fraction=0)
    assert data.input_shape == (64, 64, 3)
    assert data.train.targets.shape[0] == 6
    assert is_box(data.train.targets).sum(axis=1)[2] == 0
    assert read_back(data.train)["train#0"] == set(made[0].objects)
    again = fovea.from_arrays((images, data.train.listed_targets), task="detection", val_fraction=0)
    assert again.classes == ("0", "1", "2")
    assert np.array_equal(again.train.targets, data.train.targets)
    for wrong, message in (
        (boxes[:5], "expected boxes of 6 images, got those of 5"),
        ([*boxes[:5], [(1, 1, 1, 5, 0)]], "image 5.* has a box without area"),
        ([*boxes[:5], [(1, 1, 4, np.nan, 0)]], "image 5.* not finite"),
        ([*boxes[:5], [(1, 1, 4, 4, 0.5)]], "image 5.* no class index"),
        ([*boxes[:5], [(1, 1, 4, 4)]], "image 5.* has boxes of shape"),
        ([*boxes[:5], [(1, 1, 4, 4, 9)]], "has labels up to 9 for 3 class names"),
        (7, "expected boxes of each image, got int"),
    ):
        with pytest.raises(DataError, match=message):
            fovea.from_arrays((images, wrong), task="detection", classes=NAMES)  # type: ignore[arg-type]


def test_check_tells_overlaps_and_empty_images(tmp_path: Path) -> None:
    made = shots(6, 48)
    made[0].objects = [(0, 2, 2, 42, 42), (0, 2, 2, 42, 43), (1, 2, 3, 42, 43), (2, 0, 0, 64, 48)]
    made[1].objects, made[2].objects = [], []
    folder = voc(tmp_path, {"train": made})
    report = check(folder, val_fraction=0)
    by_name = {one.name: one for one in report.problems}
    assert by_name["boxes twice"].examples == ("train: JPEGImages/s000.png has two of ant",)
    assert by_name["two classes"].count == 2
    assert by_name["whole image"].count == 1
    assert by_name["no objects"].count == 2
    assert by_name["no objects"].severity == "warning"
    assert report.sizes["objects"] == {"min": 0, "median": 1.5, "max": 4}
    assert "objects" in report.text()
    assert "imbalance" not in by_name or "class weights" not in by_name["imbalance"].message
    json.dumps(report.to_dict())


def test_difficult_objects_keep_their_flag(tmp_path: Path) -> None:
    data, _ = voc_set(tmp_path, lambda text: text.replace("<difficult>0", "<difficult>1", 1))
    assert data.train.targets[0, 0, 5] == 2
    assert check(data).sizes["difficult"] == 1


def test_another_size_than_stated_is_told(tmp_path: Path) -> None:
    made = shots(3, 49)
    folder = voc(tmp_path, {"train": made})
    (folder / "Annotations/s001.xml").write_text(voc_text(made[1], stated=(96, 128)))
    data = fovea.dataset(folder, val_fraction=0)
    assert "Annotations/s001.xml: 128x96, JPEGImages/s001.png has 64x48" in finding(data, "other size")
    assert read_back(data.train) == expected(made)
