"""``fovea data convert``: a data set of boxes in another layout; images are copied as they are."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fovea import progress
from fovea.data.annotations.records import Finding
from fovea.data.annotations.writers import WRITERS, Writer
from fovea.data.boxes import BOX, is_box
from fovea.data.dataset import Dataset, Split
from fovea.data.decode import IMAGE_SUFFIXES, image_size
from fovea.data.new_folder import check_new, written_whole
from fovea.data.source import FileSource
from fovea.errors import ConfigError, DataError

__all__ = ["Converted", "convert"]

Array = npt.NDArray[Any]


@dataclass
class Converted:
    """What was written: images of each split, boxes, what the layout could not hold, and images left out with the
    reason."""

    layout: str
    images: dict[str, int] = field(default_factory=dict)
    boxes: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "layout": self.layout, "images": self.images, "boxes": self.boxes, "lost": self.lost,
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out], "notes": list(self.notes),
        }  # fmt: skip


def convert(data: Dataset | str | os.PathLike[str], out: str | os.PathLike[str], to: str) -> Converted:
    """Write annotated images as ``voc``, ``coco`` or ``yolo`` into a new folder, which is whole or not there at all.

    Bytes of image files are copied; arrays become PNG. Splits stay (a path is opened without making a validation
    split), classes keep their order. Boxes are those that ``fovea.dataset`` reads: cut at the edges of the image, in
    pixels of the picture as it is shown. VOC and COCO keep crowd and difficult marks, YOLO has none; areas of objects
    are kept by COCO alone.

    Raises DataError for data without boxes and for a folder that holds something, ConfigError for another layout.

    >>> convert("cells_voc/", "cells_coco/", "coco").images  # doctest: +SKIP
    {'train': 205, 'val': 87, 'test': 72}
    """
    if to not in WRITERS:
        raise ConfigError("convert", f"expected a layout from {', '.join(WRITERS)}, got {str(to)[:40]!r}; give --to")
    target = check_new(out)
    if not isinstance(data, Dataset):
        from fovea.data.load import dataset

        data = dataset(data, val_fraction=0, max_bad=1.0)
    if data.task != "detection":
        raise DataError(data.name, f"expected images with boxes, got data for {data.task}; convert is for detection")
    with written_whole(target) as folder:
        return _write(data, WRITERS[to](folder, data.classes, _all_whole(data)), to)


def _write(data: Dataset, writer: Writer, to: str) -> Converted:
    done = Converted(to, notes=tuple(note for note in data.notes if isinstance(note, Finding)))
    names = _names(data, writer.flat)
    turned = 0
    with progress.bar(sum(split.listed for split in data.splits.values()), "convert", unit="images") as bar:
        for split in data.splits.values():
            for path, content, rows in _listed(split):
                bar.update()
                try:
                    size = image_size(content, path)
                except DataError as error:
                    done.left_out.append((path, error.message))
                    continue
                name = names[split.name, path]
                file = writer.folder / writer.image_path(split.name, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                turned += size.orientation != 1 and len(rows) > 0
                done.boxes += writer.add(split.name, name, (size.height, size.width), rows)
                done.images[split.name] = done.images.get(split.name, 0) + 1
    if not done.images:
        raise DataError(data.name, "has no image that can be read")
    writer.finish()
    done.lost = dict(writer.lost)
    if turned:
        text = f"{turned} images have an EXIF orientation; their boxes are those of the picture as it is shown"
        done.notes = (*done.notes, text)
    return done


def _listed(split: Split) -> Iterator[tuple[str, bytes, Array]]:
    """Id, bytes and boxes of every image; bytes are empty where the file cannot be read."""
    source = split.source
    for row, rows in zip(split.listed_rows.tolist(), split.listed_targets, strict=True):
        content = b""
        if isinstance(source, FileSource):
            try:
                content = source.tree.read(source.files[row][0])
            except DataError:
                content = b""  # said when its size is looked for
        else:
            pixels = source.raw(row, 3)
            buffer = io.BytesIO()
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
            content = buffer.getvalue()
        yield source.ids[row], content, rows[is_box(rows)]


def _names(data: Dataset, flat: bool) -> dict[tuple[str, str], str]:
    """A file name for each (split, id): its own where no other image has that stem, else with its folders before it."""
    splits = data.splits.values()
    keys = list(dict.fromkeys((split.name, split.source.ids[row]) for split in splits for row in split.listed_rows))
    names: dict[tuple[str, str], str] = {}
    scope = {key: "" if flat else key[0] for key in keys}
    counts = Counter((scope[key], _stem(_base(key[1]))) for key in keys)
    used: set[tuple[str, str]] = set()
    for key in keys:
        base = _base(key[1])
        if counts[scope[key], _stem(base)] > 1:
            base = _base(key[1].replace("/", "_"))
        stem, dot, suffix = base.rpartition(".")
        number = 2
        while (scope[key], _stem(base)) in used:
            base = f"{stem}_{number}{dot}{suffix}"
            number += 1
        used.add((scope[key], _stem(base)))
        names[key] = base
    return names


def _base(path: str) -> str:
    stem, dot, suffix = path.rsplit("/", 1)[-1].replace("#", "_").rpartition(".")
    name = stem.strip() + dot + suffix  # lists of files know no spaces at the ends of a line
    return name if name.lower().endswith(IMAGE_SUFFIXES) else name + ".png"


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0].lower()


def _all_whole(data: Dataset) -> bool:
    for split in data.splits.values():
        boxes = split.listed_targets[is_box(split.listed_targets)][:, BOX]
        if np.abs(boxes - np.round(boxes)).max(initial=0) > 1e-4 or (boxes[:, 2:] - boxes[:, :2]).min(initial=9) < 1.5:
            return False
    return True
