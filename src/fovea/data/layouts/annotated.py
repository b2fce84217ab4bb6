"""Drawn boxes become targets: names become indices, corners are put in order, turned with the picture, cut at its edge.

Whatever cannot be used is left out and noted with its place; nothing here raises for one bad box.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.annotations.records import Annotated, Drawn, Finding, Findings
from fovea.data.boxes import COLUMNS, padded, rows_of
from fovea.data.decode import ImageSize, image_size
from fovea.data.layouts.base import Found, natural
from fovea.data.source import FileSource
from fovea.data.tree import Tree, machine_memory
from fovea.errors import DataError

__all__ = ["class_names", "settle"]

Array = npt.NDArray[Any]
Box = tuple[float, float, float, float]
_SLACK = 1.0  # pixels beyond an edge that are rounding, not a mistake


def settle(
    tree: Tree, splits: Mapping[str, Sequence[Annotated]], classes: Sequence[str], findings: Findings,
    notes: Sequence[str] = (),
) -> Found:  # fmt: skip
    """Annotated images of each split -> what the tree holds. Raises DataError when no image or no class is left."""
    position = {name: index for index, name in enumerate(classes)}
    found = Found("image", "detection", {}, tuple(classes))
    for split in ("train", "val", "test"):
        images = splits.get(split) or ()
        if not images:
            continue
        sizes = _sizes(tree, [image.path for image in images])
        rows = [_rows(image, size, position, findings) for image, size in zip(images, sizes, strict=True)]
        _check_room(tree, images, rows)
        source = FileSource(tree, "image", [(image.path,) for image in images])
        found.parts[split] = (source, padded(rows))
        found.sizes[split] = np.array([(size.height, size.width) if size else (1, 1) for size in sizes], np.int64)
    if not found.parts:
        missing = findings.first("missing image") or findings.first("bad annotation")
        raise DataError(tree.name, f"holds annotations of boxes but none of their images: {missing or 'no list'}")
    if not classes:
        unnamed = findings.first("unknown class")
        what = f"holds boxes, but no class has a name ({unnamed})" if unnamed else "holds images but not one object"
        raise DataError(tree.name, f"{what}; there is nothing to learn")
    found.notes = [*notes, *findings.notes(), *_spellings(splits)]
    return found


def _spellings(splits: Mapping[str, Sequence[Annotated]]) -> list[Finding]:
    """Classes that one split writes in another way than the others."""
    words: dict[str, dict[str, set[str]]] = {}
    for split, images in splits.items():
        for label in {drawn.label for image in images for drawn in image.objects}:
            plain = "".join(letter for letter in label.casefold() if letter.isalnum())
            words.setdefault(plain or label, {}).setdefault(label, set()).add(split)
    pairs = tuple(
        " / ".join(f"{label!r} in {', '.join(sorted(where))}" for label, where in found.items())
        for found in words.values()
        if len(found) > 1 and len({frozenset(where) for where in found.values()}) > 1
    )
    text = f"classes that the splits write in different ways: {len(pairs)} ({', '.join(pairs[:3])})"
    return [Finding(text, "class spelled twice", "error", len(pairs), pairs)] if pairs else []


def _check_room(tree: Tree, images: Sequence[Annotated], rows: Sequence[Array]) -> None:
    """Raise DataError when one image has so many boxes that the array of all would not fit into memory."""
    most = max(range(len(rows)), key=lambda number: len(rows[number]))
    needed = len(rows) * len(rows[most]) * len(COLUMNS) * 4
    if needed > machine_memory() // 4:
        text = f"has {len(rows[most]):,} boxes, which {needed / 1e9:.0f} GB of targets would follow from; take it out"
        raise DataError(images[most].path, text)


def class_names(splits: Mapping[str, Sequence[Annotated]]) -> tuple[str, ...]:
    """The labels that were drawn, sorted."""
    return tuple(natural(drawn.label for images in splits.values() for image in images for drawn in image.objects))


def _sizes(tree: Tree, paths: Sequence[str]) -> list[ImageSize | None]:
    """Of each image, from its header; None where it cannot be read (the split will say why)."""

    def look(path: str) -> ImageSize | None:
        try:
            return image_size(tree.read(path), path)
        except DataError:
            return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(look, paths))


def _rows(image: Annotated, size: ImageSize | None, position: Mapping[str, int], findings: Findings) -> Array:
    """The usable objects of one image as rows ``(m, 9)`` in pixels of the picture as it is shown."""
    if size is None:
        return rows_of(np.zeros((0, 4)), [])
    turn = _turned(image, size, findings)
    boxes: list[Box] = []
    labels: list[int] = []
    flags: list[int] = []
    areas: list[float] = []
    seen: set[tuple[Any, ...]] = set()
    for drawn in image.objects:
        if drawn.label not in position:
            findings.add("unknown class", f"{image.place(drawn)}: {drawn.label!r}")
            continue
        box = _box(image, drawn, size, turn, findings)
        if box is None:
            continue
        key = (drawn.label, drawn.flags, *(round(value, 3) for value in box))
        if key in seen:
            findings.add("duplicate boxes", f"{image.place(drawn)}: {drawn.label}")
            continue
        seen.add(key)
        own = drawn.area if drawn.area is not None and math.isfinite(drawn.area) and drawn.area > 0 else None
        boxes.append(box)
        labels.append(position[drawn.label])
        flags.append(drawn.flags)
        areas.append(own if own is not None else (box[2] - box[0]) * (box[3] - box[1]))
    return rows_of(np.array(boxes, np.float64).reshape(-1, 4), labels, flags, areas)


def _turned(image: Annotated, size: ImageSize, findings: Findings) -> bool:
    """Whether the boxes were drawn on the stored pixels, which are shown turned."""
    stated = image.stated if image.stated and min(image.stated) > 0 else None
    shown, stored = (size.height, size.width), size.stored
    if size.orientation != 1 and image.objects:
        if stated == stored and stored != shown:
            findings.add("turned", image.path)
            return True
        findings.add("exif", image.path)
    if stated is not None and stated != shown:
        text = f"{image.source}: {stated[1]}x{stated[0]}, {image.path} has {shown[1]}x{shown[0]}"
        findings.add("other size", text)
    return False


def _box(image: Annotated, drawn: Drawn, size: ImageSize, turn: bool, findings: Findings) -> Box | None:
    """Corners in order, in pixels of the shown picture and inside of it; None for a box that cannot be used."""
    if not all(map(math.isfinite, drawn.box)):
        findings.add("not a number", _place(image, drawn))
        return None
    x1, y1, x2, y2 = drawn.box
    if x1 > x2 or y1 > y2:
        findings.add("swapped corners", _place(image, drawn))
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    if x1 == x2 or y1 == y2:
        findings.add("no area", _place(image, drawn))
        return None
    if image.relative:
        x1, y1, x2, y2 = x1 * size.width, y1 * size.height, x2 * size.width, y2 * size.height
    if turn:
        x1, y1, x2, y2 = size.shown_box((x1, y1, x2, y2))
    cut = (max(0.0, x1), max(0.0, y1), min(float(size.width), x2), min(float(size.height), y2))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        findings.add("outside", f"{_place(image, drawn)} in {size.width}x{size.height}")
        return None
    if max(abs(a - b) for a, b in zip(cut, (x1, y1, x2, y2), strict=True)) > _SLACK:
        findings.add("cut", f"{_place(image, drawn)} in {size.width}x{size.height}")
    return cut


def _place(image: Annotated, drawn: Drawn) -> str:
    return f"{image.place(drawn)}: {drawn.label} " + " ".join(f"{value:g}" for value in drawn.box)
