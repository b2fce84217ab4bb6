"""Layouts of boxes as tools and people write them: each builder makes one, and the boxes are found in all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import fovea
from fovea.data.layouts import annotated
from fovea.errors import DataError
from tests.data.boxes_on_disk import (
    NAMES,
    Shot,
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

Splits = dict[str, list[Shot]]
Builder = Callable[[Path, Splits], None]
BUILDERS: dict[str, Builder] = {}


def builder(build: Builder) -> Builder:
    BUILDERS[build.__name__] = build
    return build


def pairs(
    images: Path, labels: Path, made: Sequence[Shot], suffix: str = ".jpg", text: Callable[[Shot], str] = yolo_text
) -> None:
    """Images in one folder, a text for each in another."""
    labels.mkdir(parents=True, exist_ok=True)
    for shot in made:
        shot.file(images, suffix)
        (labels / f"{shot.name}.txt").write_text(text(shot))


@builder
def yolo_of_an_export_site(root: Path, splits: Splits) -> None:
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        pairs(root / folder / "images", root / folder / "labels", splits[split])
    (root / "README.dataset.txt").write_text("# animals > 2024-01-01\n")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
        "names: ['ant', 'bee', 'cow']\n\nexport:\n  workspace: some\n  version: 2\n  license: CC BY 4.0\n"
    )


@builder
def yolo_with_a_root_and_a_download_script(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        pairs(root / "images" / split, root / "labels" / split, made)
    (root / "animals.yaml").write_text(
        "# Animals: a set\n# Example usage: train data=animals.yaml\n---\n"
        "path: ../datasets/animals # dataset root dir\ntrain: images/train # train images\nval: images/val\n"
        "test: images/test # optional\n\n# Classes\nnames:\n  0: ant\n  1: 'bee' # the second\n  2: \"cow\"\n\n"
        "download: |\n  from pathlib import Path\n  names: [wrong]\n  train: nowhere\n"
    )


@builder
def yolo_with_paths_of_another_machine(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        pairs(root / "images" / split, root / "labels" / split, made, ".JPG")
    lines = [f"{split}: D:\\sets\\animals\\images\\{split}" for split in splits]
    (root / "data.yml").write_text("\r\n".join([*lines, "nc: 3", "names: [ant,", "  bee, cow]", ""]))


@builder
def yolo_with_lists_of_files(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        pairs(root / "images", root / "labels", made)
        start = "./images/" if split == "train" else "/data/elsewhere/images/"
        (root / f"{split}_files.txt").write_text("".join(f"{start}{shot.name}.jpg\n" for shot in made))
    lines = [f"{split}: {split}_files.txt" for split in splits]
    (root / "data.yaml").write_text("\n".join([*lines, "names:", "- ant", "- bee", "- cow", ""]))


@builder
def yolo_with_lists_of_folders(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        for number, part in enumerate((made[::2], made[1::2])):
            folder = f"{split}{number}/deep"
            pairs(root / "images" / folder, root / "labels" / folder, part, ".PNG")
    lines = [f"{split}:\n  - images/{split}0\n  - images/{split}1" for split in splits]
    (root / "data.yaml").write_text("\n".join(["names: {0: ant, 1: bee, 2: cow}", *lines, ""]))


@builder
def darknet_with_texts_beside_the_images(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        pairs(root / f"obj_{split}_data", root / f"obj_{split}_data", made)
        text = "".join(f"data/obj_{split}_data/{shot.name}.jpg\n" for shot in made)
        (root / f"{split}.txt").write_text(text)
    (root / "obj.names").write_text("ant\nbee\ncow\n")
    (root / "obj.data").write_text("classes = 3\ntrain = data/train.txt\nnames = data/obj.names\n")


@builder
def yolo_without_any_configuration(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        folder = {"val": "validation"}.get(split, split)
        pairs(root / folder / "images", root / folder / "labels", made)
    (root / "classes.txt").write_bytes("\ufeffant\r\nbee\r\ncow\r\n".encode())


@builder
def voc_of_an_annotation_tool_beside_the_images(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        for shot in made:
            shot.file(root / split, ".JPEG")
            text = voc_text(shot, filename=f"{shot.name}.png", extra="<segmented>0</segmented>")
            text = text.replace("<size>", f"<path>C:\\Users\\me\\{shot.name}.png</path>\n<size>")
            (root / split / f"{shot.name}.xml").write_text(text)


@builder
def voc_in_two_years(root: Path, splits: Splits) -> None:
    voc(root / "VOCdevkit/VOC2007", {split: made[::2] for split, made in splits.items()})
    voc(root / "VOCdevkit/VOC2012", {split: made[1::2] for split, made in splits.items()})
    masks = root / "VOCdevkit/VOC2012/SegmentationClass"
    for shot in splits["train"]:
        shot.file(masks)


@builder
def voc_in_folders_of_images_and_annotations(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        (root / "annotations" / split).mkdir(parents=True)
        for shot in made:
            shot.file(root / "images" / split)
            (root / "annotations" / split / f"{shot.name}.xml").write_text(voc_text(shot))


@builder
def voc_with_fractions_and_parts(root: Path, splits: Splits) -> None:
    voc(root, splits)
    for path in (root / "Annotations").iterdir():
        shot = next(shot for made in splits.values() for shot in made if shot.name == path.stem)
        text = voc_text(shot, inclusive=False)
        for tag in ("xmin", "ymin", "xmax", "ymax"):
            text = text.replace(f"</{tag}>", f".0004</{tag}>")
        part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
        path.write_text(text.replace("</object>", part + "</object>"))


@builder
def coco_of_a_year(root: Path, splits: Splits) -> None:
    (root / "annotations").mkdir(parents=True)
    for split, made in splits.items():
        for shot in made:
            shot.file(root / f"{split}2017", ".jpg")
        content = coco_content(made, 1, suffix=".jpg")
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
        captions = {"images": content["images"], "annotations": [{"image_id": 1, "caption": "an image"}]}
        (root / f"annotations/captions_{split}2017.json").write_text(json.dumps(captions))
        (root / f"annotations/person_keypoints_{split}2017.json").write_text(json.dumps({**content, "categories": []}))


@builder
def coco_with_files_at_the_top(root: Path, splits: Splits) -> None:
    for split, made in splits.items():
        for shot in made:
            shot.file(root / "images", ".jpg")
        content = coco_content(made, 1, f"..\\..\\media\\{split}\\", ".jpg")
        (root / f"{split}.json").write_text(json.dumps(content, indent=4))


@builder
def coco_with_outlines_and_texts_as_ids(root: Path, splits: Splits) -> None:
    coco(root, splits)
    for split, made in splits.items():
        content = coco_content(made, 1, f"images/{split}/")
        for entry in content["images"]:
            entry["id"] = f"image-{entry['id']}"
            del entry["height"]
        for drawn in content["annotations"]:
            drawn["image_id"] = f"image-{drawn['image_id']}"
            x, y, width, height = drawn.pop("bbox")
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            drawn["segmentation"] = [corners[:6], corners[4:] + corners[:2]]
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", BUILDERS)
def test_boxes_are_found_in(name: str, tmp_path: Path) -> None:
    splits = {"train": shots(6, 71, "t"), "val": shots(4, 72, "v"), "test": shots(3, 73, "e")}
    BUILDERS[name](tmp_path, splits)
    data = fovea.dataset(tmp_path)
    assert data.task == "detection"
    assert data.classes == NAMES
    assert set(data.splits) == {"train", "val", "test"}
    for split, made in splits.items():
        found = data.splits[split]
        assert len(found.inputs) == len(made)
        if "fractions" in name:
            assert {key: len(value) for key, value in counted(found).items()} == {s.name: len(s.objects) for s in made}
        else:
            assert read_back(found) == expected(made)
    assert not [note for note in data.notes if "left out" in note]


def counted(split: fovea.data.Split) -> dict[str, list[float]]:
    return {
        name.rsplit("/", 1)[-1].rsplit(".", 1)[0]: rows[rows[:, 4] >= 0][:, 0].tolist()
        for name, rows in zip(split.ids, split.listed_targets, strict=True)
    }


def test_one_folder_of_each_without_splits(tmp_path: Path) -> None:
    made = shots(6, 74)
    pairs(tmp_path / "yolo/images", tmp_path / "yolo/labels", made)
    (tmp_path / "yolo/classes.txt").write_text("ant\nbee\ncow\n")
    (tmp_path / "yolo/notes.json").write_text('{"categories": [{"id": 0, "name": "ant"}], "info": {}}')
    (tmp_path / "coco/annotations").mkdir(parents=True)
    for shot in made:
        shot.file(tmp_path / "coco/images")
    (tmp_path / "coco/annotations/instances_default.json").write_text(json.dumps(coco_content(made, 1)))
    voc(tmp_path / "voc", {"default": made})
    (tmp_path / "voc/labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncow:1,2,3::\nant:::\n"
    )
    for layout, classes in (("yolo", NAMES), ("coco", NAMES), ("voc", ("cow", "ant", "bee"))):
        data = fovea.dataset(tmp_path / layout, val_fraction=0)
        assert data.classes == classes
        assert len(data.train) == 6
        if layout != "voc":
            assert read_back(data.train) == expected(made)


def test_numbers_are_names_where_nobody_names_classes(tmp_path: Path) -> None:
    made = shots(5, 75)
    pairs(tmp_path / "images", tmp_path / "labels", made)
    assert fovea.dataset(tmp_path, val_fraction=0).classes == ("0", "1", "2")


def test_key_points_behind_boxes(tmp_path: Path) -> None:
    made = shots(4, 76)

    def posed(shot: Shot) -> str:
        return "".join(f"{line} 0.5 0.5 2 0.4 0.4 0\n" for line in yolo_text(shot).splitlines())

    pairs(tmp_path / "images", tmp_path / "labels", made, text=posed)
    (tmp_path / "data.yaml").write_text("train: images\nkpt_shape: [2, 3]\nnames: [ant, bee, cow]\n")
    assert read_back(fovea.dataset(tmp_path, val_fraction=0).train) == expected(made)


def test_a_configuration_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    folder = yolo(tmp_path, {"train": shots(4, 77)}, "train: pictures/train\nval: nothing\nnames: [ant, bee, cow]\n")
    data = fovea.dataset(folder, val_fraction=0)
    assert len(data.train) == 4  # by the name of the folder
    assert any("data.yaml: val is 'nothing', where no image lies" in note for note in data.notes)


def test_splits_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"train": shots(4, 78, "t"), "test": shots(3, 79, "e")})
    for path in (folder / "Annotations").glob("e*.xml"):
        path.unlink()
    data = fovea.dataset(folder, val_fraction=0)
    assert set(data.splits) == {"train"}
    assert any("the split test has no annotation" in note for note in data.notes)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe\x00", "data.yaml is not UTF-8 text (byte 0)"),
        (b"names: [" + b"[" * 5000, ""),
        (b"train: &a [*a, *a]\nnames: !!python/x y\n", "data.yaml: train is '&a [*a, *a]', where no image lies"),
    ],
)
def test_a_broken_configuration_is_no_obstacle(content: bytes, told: str, tmp_path: Path) -> None:
    made = shots(4, 80)
    folder = yolo(tmp_path, {"train": made}, "")
    (folder / "data.yaml").write_bytes(content)
    (folder / "classes.txt").write_text("ant\nbee\ncow\n")
    data = fovea.dataset(folder, val_fraction=0)
    assert len(data.train) == 4
    assert not told or any(told in note for note in data.notes), data.notes
    assert data.classes == NAMES


def test_texts_in_a_folder_of_another_name(tmp_path: Path) -> None:
    made = shots(5, 86)
    pairs(tmp_path / "pictures", tmp_path / "annotations", made)
    (tmp_path / "annotations/classes.txt").write_text("ant\nbee\ncow\n")
    assert read_back(fovea.dataset(tmp_path, val_fraction=0).train) == expected(made)


def test_images_and_annotations_in_archives_of_their_own(tmp_path: Path) -> None:
    train, val = shots(5, 87, "t"), shots(3, 88, "v")
    for split, made in (("train", train), ("val", val)):
        for shot in made:
            shot.file(tmp_path / split / f"{split}2017", ".jpg")
        content = coco_content(made, 1, suffix=".jpg")
        (tmp_path / "words/annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"words/annotations/instances_{split}2017.json").write_text(json.dumps(content))
    (tmp_path / "set").mkdir()
    for folder, archive in (("train", "train2017"), ("val", "val2017"), ("words", "annotations_trainval2017")):
        packed(tmp_path / folder, tmp_path / "set" / f"{archive}.zip")
    data = fovea.dataset(tmp_path / "set")
    assert read_back(data.train) == expected(train)
    assert read_back(data.splits["val"]) == expected(val)


def test_an_image_with_too_many_boxes_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = yolo(tmp_path, {"train": shots(5, 89)})
    with (folder / "labels/train/s003.txt").open("a") as file:
        file.writelines(f"1 0.5 0.5 0.{number} 0.2\n" for number in range(1000, 1999))
    monkeypatch.setattr(annotated, "machine_memory", lambda: 500_000)
    with pytest.raises(DataError, match=r"\[images/train/s003.png\] has 1,00\d boxes"):
        fovea.dataset(folder, val_fraction=0)
