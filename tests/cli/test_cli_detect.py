"""``fovea detect``: pictures with boxes, JSON, COCO, speed; files that cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.detect.square_finder import finder, painted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, a folder of pictures in which one cannot be read, and one beside it."""
    finder().save(tmp_path / "finder.safetensors")
    inside = tmp_path / "in" / "deep"
    inside.mkdir(parents=True)
    image = painted(128, 256, [(32, 32, 64, 64, 0), (96, 32, 128, 64, 1)])
    Image.fromarray(image).save(tmp_path / "in" / "a.png")
    Image.fromarray(image[:, ::-1]).save(inside / "b.jpg", quality=97)
    Image.fromarray(painted(64, 64, [])).save(tmp_path / "in" / "empty.bmp")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    Image.fromarray(image).save(tmp_path / "a.png")
    return tmp_path


def test_a_folder(folder: Path, fovea: Any) -> None:
    out = folder / "found"
    model, images = folder / "finder.safetensors", folder / "in"
    code, said, complained = fovea("detect", model, images, folder / "a.png", "--out", out, "--coco", out / "coco.json")
    assert code == 2
    assert len(complained.splitlines()) == 1
    assert "bad.png" in complained
    lines = said.splitlines()
    assert re.fullmatch(r".*a\.png  1 red  1 blue  [\d.]+ ms", lines[0]), lines[0]
    assert re.fullmatch(r".*b\.jpg  1 .*  [\d.]+ ms", lines[1]), lines[1]
    assert "nothing found" in lines[2]
    assert re.search(r"4 images, an image: decode [\d.]+ ms  preprocess [\d.]+ ms  network [\d.]+ ms  boxes", said)
    assert "images/s" in said
    pictures = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert pictures == {"a.png", "a-2.png", "deep/b.jpg", "empty.bmp.png", "detections.json", "coco.json"}
    with Image.open(out / "a.png") as one, Image.open(out / "deep" / "b.jpg") as other:
        drawn = np.asarray(one.convert("RGB"))
        assert other.format == "JPEG"
    assert drawn.shape == (256, 512, 3)  # twice its size, for the letters
    edge = drawn[100, 63:66]
    assert (edge == (230, 159, 0)).all(axis=-1).any()  # the left side of the red square in the colour of its class


def test_what_is_written(folder: Path, fovea: Any) -> None:
    out = folder / "found"
    model = folder / "finder.safetensors"
    code, said, _ = fovea("detect", model, folder / "a.png", "--out", out, "--coco", folder / "coco.json", "--json")
    assert code == 0
    record = json.loads(said)
    assert json.loads((out / "detections.json").read_text()) == record
    (image,) = record["images"]
    assert (image["width"], image["height"]) == (256, 128)
    assert [(one["label"], one["box"]) for one in image["objects"]] == [
        ("red", [32, 32, 64, 64]), ("blue", [96, 32, 128, 64]),
    ]  # fmt: skip
    assert set(record["speed"]["stages"]) == {"decode", "preprocess", "network", "boxes"}
    coco = json.loads((folder / "coco.json").read_text())
    assert [one["name"] for one in coco["categories"]] == ["red", "blue"]
    assert [one["bbox"] for one in coco["annotations"]] == [[32, 32, 32, 32], [96, 32, 32, 32]]
    assert {one["image_id"] for one in coco["annotations"]} == {coco["images"][0]["id"]}
    assert all(0.9 < one["score"] < 1 for one in coco["annotations"])


def test_options(folder: Path, fovea: Any) -> None:
    model, image = folder / "finder.safetensors", folder / "a.png"
    assert "nothing found" in fovea("detect", model, image, "--score", "0.99")[1]
    assert re.search(
        r"\d (red  \d blue|blue  \d red)",
        fovea("detect", model, image, "--tile", "128", "--overlap", "0.5", "--tta")[1],
    )
    assert "1 red" in fovea("detect", model, image, "--soft", "--class-agnostic", "--iou", "0.5")[1]


def test_mistakes(folder: Path, fovea: Any) -> None:
    model, images = folder / "finder.safetensors", folder / "in"

    def complaint(*words: object) -> str:
        code, _, err = fovea("detect", *words)
        assert code == 2
        assert len(err.splitlines()) == 1
        return str(err)

    assert "they would be lost" in complaint(model, images, "--out", images)
    assert "[--score] expected a number from 0 to 1, got 3" in complaint(model, images, "--score", 3)
    assert "[tile] expected pixels as an integer of at least 32, got 3" in complaint(model, images, "--tile", 3)
    (folder / "bare").mkdir()
    assert "found none in this folder" in complaint(model, folder / "bare")
    assert "nothing.safetensors" in complaint(folder / "nothing.safetensors", images)
    assert "nowhere.png" in complaint(model, "nowhere.png")
