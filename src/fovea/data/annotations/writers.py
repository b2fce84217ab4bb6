"""The three layouts of boxes as files: each writer is told of image after image, and ends with its lists."""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import AREA, BOX, CROWD, DIFFICULT, FLAGS, LABEL

__all__ = ["WRITERS", "CocoWriter", "VocWriter", "Writer", "YoloWriter"]

Array = npt.NDArray[Any]
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ ./+-]*[A-Za-z0-9_./+]|[A-Za-z_]")
_UNSURE = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}  # what YAML takes for something else
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Writer(abc.ABC):
    """Writes below ``folder``. ``whole``: every corner of the set is a whole pixel, and no box is one pixel thin."""

    flat = False
    """Whether images of all splits lie in one folder, so that their names must differ."""

    def __init__(self, folder: Path, classes: Sequence[str], whole: bool) -> None:
        self.folder, self.classes, self.whole = folder, classes, whole
        self.lost: dict[str, int] = {}

    @abc.abstractmethod
    def image_path(self, split: str, name: str) -> str:
        """Where an image belongs."""

    @abc.abstractmethod
    def add(self, split: str, name: str, size: tuple[int, int], rows: Array) -> int:
        """Boxes ``(m, 9)`` of an image of height and width ``size``; returns how many were written."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Write what is known only at the end."""

    def lose(self, what: str, count: int) -> None:
        """Note that the layout cannot hold something."""
        if count:
            self.lost[what] = self.lost.get(what, 0) + count

    def write(self, path: str, text: str) -> None:
        """A text file below the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")


class VocWriter(Writer):
    """JPEGImages, Annotations, ImageSets/Main, and ``labelmap.txt`` with the order of the classes.

    Whole corners are written as PASCAL counts them, from 1 and both inside; others as edges, which each file says.
    """

    flat = True

    def __init__(self, folder: Path, classes: Sequence[str], whole: bool) -> None:
        super().__init__(folder, [" ".join(name.split()) for name in classes], whole)  # readers strip what they find
        self._lists: dict[str, list[str]] = {}

    def image_path(self, split: str, name: str) -> str:
        return f"JPEGImages/{name}"

    def add(self, split: str, name: str, size: tuple[int, int], rows: Array) -> int:
        stem = name.rsplit(".", 1)[0]
        self._lists.setdefault(split, []).append(stem)
        lines = [
            "<annotation>",
            "  <folder>JPEGImages</folder>",
            f"  <filename>{_xml(name)}</filename>",
            f"  <size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>",
            "  <segmented>0</segmented>",
            *([] if self.whole else ["  <corners>edges</corners>"]),
        ]
        for row in rows:
            lines += self._object(row)
        self.write(f"Annotations/{stem}.xml", "\n".join([*lines, "</annotation>", ""]))
        boxes = rows[:, BOX].astype(np.float64)
        own = np.abs(rows[:, AREA] - (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) > 0.5
        self.lose("areas of objects that are not those of their boxes", int(own.sum()))
        return len(rows)

    def _object(self, row: Array) -> list[str]:
        x1, y1, x2, y2 = (float(value) for value in row[BOX])
        flags = int(row[FLAGS])
        shift = 1 if self.whole else 0
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x1 + shift, y1 + shift, x2, y2), strict=True)
        return [
            "  <object>",
            f"    <name>{_xml(self.classes[int(row[LABEL])])}</name>",
            f"    <difficult>{int(flags & DIFFICULT > 0)}</difficult>",
            *(["    <iscrowd>1</iscrowd>"] if flags & CROWD else []),
            "    <bndbox>" + "".join(f"<{tag}>{_number(value)}</{tag}>" for tag, value in corners) + "</bndbox>",
            "  </object>",
        ]

    def finish(self) -> None:
        for split, stems in self._lists.items():
            self.write(f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems))
        lines = [f"{name}:::" for name in self.classes]
        self.write("labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *lines, ""]))


class CocoWriter(Writer):
    """annotations/instances_SPLIT.json and images/SPLIT; category ids begin at 1, as COCO's do."""

    def __init__(self, folder: Path, classes: Sequence[str], whole: bool) -> None:
        super().__init__(folder, classes, whole)
        self._content: dict[str, tuple[list[Any], list[Any]]] = {}

    def image_path(self, split: str, name: str) -> str:
        return f"images/{split}/{name}"

    def add(self, split: str, name: str, size: tuple[int, int], rows: Array) -> int:
        images, drawn = self._content.setdefault(split, ([], []))
        number = len(images) + 1
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for row in rows:
            x1, y1, x2, y2 = (_short(value) for value in row[BOX])
            flags = int(row[FLAGS])
            entry = {
                "id": len(drawn) + 1, "image_id": number, "category_id": int(row[LABEL]) + 1,
                "bbox": [x1, y1, _short(x2 - x1), _short(y2 - y1)], "area": _short(row[AREA]),
                "iscrowd": int(flags & CROWD > 0), "segmentation": [],
            }  # fmt: skip
            drawn.append({**entry, "ignore": 1} if flags & DIFFICULT else entry)
        return len(rows)

    def finish(self) -> None:
        categories = [
            {"id": number, "name": name, "supercategory": "none"} for number, name in enumerate(self.classes, 1)
        ]
        for split, (images, drawn) in self._content.items():
            content = {"info": {}, "licenses": [], "images": images, "annotations": drawn, "categories": categories}
            fields = ",\n".join(f'"{key}": {_lines(value)}' for key, value in content.items())
            self.write(f"annotations/instances_{split}.json", f"{{\n{fields}\n}}\n")


class YoloWriter(Writer):
    """images/SPLIT, labels/SPLIT and data.yaml. A crowd is no object that can be counted: it is left out."""

    def __init__(self, folder: Path, classes: Sequence[str], whole: bool) -> None:
        super().__init__(folder, classes, whole)
        self._splits: list[str] = []

    def image_path(self, split: str, name: str) -> str:
        return f"images/{split}/{name}"

    def add(self, split: str, name: str, size: tuple[int, int], rows: Array) -> int:
        if split not in self._splits:
            self._splits.append(split)
        flags = rows[:, FLAGS].astype(np.int64)
        self.lose("crowds, left out", int((flags & CROWD > 0).sum()))
        kept = rows[flags & CROWD == 0]
        self.lose("marks of difficult objects", int((kept[:, FLAGS].astype(np.int64) & DIFFICULT > 0).sum()))
        boxes = kept[:, BOX].astype(np.float64)
        own = np.abs(kept[:, AREA] - (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) > 0.5
        self.lose("areas of objects that are not those of their boxes", int(own.sum()))
        height, width = size
        lines = [
            f"{int(row[LABEL])} {(x1 + x2) / 2 / width:.10g} {(y1 + y2) / 2 / height:.10g}"
            f" {(x2 - x1) / width:.10g} {(y2 - y1) / height:.10g}\n"
            for row, (x1, y1, x2, y2) in zip(kept, boxes, strict=True)
        ]
        self.write(f"labels/{split}/{name.rsplit('.', 1)[0]}.txt", "".join(lines))
        return len(kept)

    def finish(self) -> None:
        lines = [f"{split}: images/{split}" for split in self._splits]
        names = [f"  {number}: {_yaml(name)}" for number, name in enumerate(self.classes)]
        self.write("data.yaml", "\n".join([*lines, "", f"nc: {len(self.classes)}", "names:", *names, ""]))


WRITERS: dict[str, type[Writer]] = {"voc": VocWriter, "coco": CocoWriter, "yolo": YoloWriter}
"""By the name of the layout."""


def _lines(value: Any) -> str:
    """JSON with a line for each entry of a list, so that a message can name it and a comparison show it."""
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in value) + "\n]"


def _xml(text: str) -> str:
    return escape(_NO_XML.sub(" ", text))


def _yaml(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text.lower() not in _UNSURE else json.dumps(text, ensure_ascii=False)


def _short(value: Any) -> float | int:
    """A number of pixels to a ten-thousandth; whole ones without a point."""
    rounded = round(float(value), 4)
    return int(rounded) if rounded == int(rounded) else rounded


def _number(value: float) -> str:
    return str(_short(value))
