"""Small pictures with bright rectangles, and the layouts of boxes that people have, written by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

NAMES = ("ant", "bee", "cow")
SHADES = ((220, 60, 60), (60, 220, 60), (60, 60, 220))
Box = tuple[int, int, int, int]


@dataclass
class Shot:
    """A picture, and its objects as (class index, x1, y1, x2, y2), the last two exclusive."""

    name: str
    pixels: npt.NDArray[np.uint8]
    objects: list[tuple[int, int, int, int, int]]

    def file(self, folder: Path, suffix: str = ".png", orientation: int = 1) -> Path:
        """The picture on disk, lossless."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (self.name + suffix)
        exif = Image.Exif()
        exif[0x0112] = orientation
        kind = "PNG" if suffix.lower() == ".png" else "JPEG"
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, kind, exif=exif.tobytes() if orientation != 1 else b"")
        path.write_bytes(buffer.getvalue())
        return path

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


def shots(count: int, seed: int = 0, prefix: str = "s", height: int = 48, width: int = 64) -> list[Shot]:
    """Pictures with one to four rectangles each, of every class in turn."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        pixels = rng.integers(90, 120, (height, width, 3)).astype(np.uint8)
        objects = []
        for index in range(int(rng.integers(1, 5))):
            x1, y1 = int(rng.integers(1, width - 12)), int(rng.integers(1, height - 12))
            x2, y2 = x1 + int(rng.integers(5, 12)), y1 + int(rng.integers(5, 12))
            label = (number + index) % len(NAMES)
            pixels[y1:y2, x1:x2] = SHADES[label]
            objects.append((label, x1, y1, x2, y2))
        made.append(Shot(f"{prefix}{number:03d}", pixels, objects))
    return made


def voc_text(
    shot: Shot, stated: tuple[int, int] | None = None, inclusive: bool = True, filename: str = "", extra: str = ""
) -> str:
    """The annotation of one picture; ``inclusive`` as PASCAL counts, else corners as edges from 0."""
    height, width = stated or shot.size
    lines = ["<annotation>", f"  <filename>{filename or shot.name + '.png'}</filename>"]
    lines.append(f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for label, x1, y1, x2, y2 in shot.objects:
        shift = int(inclusive)
        lines += [
            "  <object>", f"    <name>{NAMES[label]}</name>", "    <difficult>0</difficult>",
            f"    <bndbox><xmin>{x1 + shift}</xmin><ymin>{y1 + shift}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>", "  </object>",
        ]  # fmt: skip
    return "\n".join([*lines, extra, "</annotation>"]) + "\n"


def voc(root: Path, splits: dict[str, Sequence[Shot]]) -> Path:
    """JPEGImages, Annotations and ImageSets/Main."""
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for split, made in splits.items():
        for shot in made:
            shot.file(root / "JPEGImages")
            (root / f"Annotations/{shot.name}.xml").write_text(voc_text(shot))
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{shot.name}\n" for shot in made))
    return root


def coco_content(made: Sequence[Shot], first_id: int = 0, folder: str = "", suffix: str = ".png") -> dict[str, Any]:
    """The content of a COCO file; category ids begin at ``first_id``."""
    images = [
        {"id": 10 + number, "file_name": folder + shot.name + suffix, "height": shot.size[0], "width": shot.size[1]}
        for number, shot in enumerate(made)
    ]
    annotations = [
        {"image_id": 10 + number, "category_id": label + first_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for number, shot in enumerate(made)
        for label, x1, y1, x2, y2 in shot.objects
    ]
    for number, drawn in enumerate(annotations):
        drawn["id"] = number
    categories = [{"id": index + first_id, "name": name} for index, name in enumerate(NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco(root: Path, splits: dict[str, Sequence[Shot]], first_id: int = 1) -> Path:
    """annotations/instances_SPLIT.json and images/SPLIT."""
    (root / "annotations").mkdir(parents=True)
    for split, made in splits.items():
        for shot in made:
            shot.file(root / "images" / split)
        text = json.dumps(coco_content(made, first_id))
        (root / f"annotations/instances_{split}.json").write_text(text)
    return root


def yolo_text(shot: Shot, first_id: int = 0) -> str:
    """The labels of one picture."""
    height, width = shot.size
    return "".join(
        f"{label + first_id} {(x1 + x2) / 2 / width!r} {(y1 + y2) / 2 / height!r}"
        f" {(x2 - x1) / width!r} {(y2 - y1) / height!r}\n"
        for label, x1, y1, x2, y2 in shot.objects
    )


def yolo(root: Path, splits: dict[str, Sequence[Shot]], config: str | None = None, suffix: str = ".png") -> Path:
    """images/SPLIT, labels/SPLIT and data.yaml (``config`` None: Ultralytics' form; "": none)."""
    for split, made in splits.items():
        (root / "labels" / split).mkdir(parents=True)
        for shot in made:
            shot.file(root / "images" / split, suffix)
            (root / "labels" / split / f"{shot.name}.txt").write_text(yolo_text(shot))
    if config is None:
        lines = [f"{split}: images/{split}" for split in splits]
        config = "\n".join([*lines, "names:", *(f"  {index}: {name}" for index, name in enumerate(NAMES))]) + "\n"
    if config:
        (root / "data.yaml").write_text(config)
    return root


def expected(made: Sequence[Shot]) -> dict[str, set[tuple[int, ...]]]:
    """Objects of each picture by its name."""
    return {shot.name: set(shot.objects) for shot in made}


def read_back(split: Any) -> dict[str, set[tuple[int, ...]]]:
    """The same of a split, in pixels of the files: class index and corners, rounded."""
    found = {}
    for name, rows in zip(split.ids, split.listed_targets[split.readable], strict=True):
        real = rows[rows[:, 4] >= 0]
        stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        found[stem] = {(int(row[4]), *(round(float(value)) for value in row[:4])) for row in real}
        assert np.abs(real[:, :4] - np.round(real[:, :4])).max(initial=0) < 1e-3
    return found
