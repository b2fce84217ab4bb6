"""A sheet of annotated samples: what a detector will be told is there, for the eye, before it is trained."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment.scene import Scene
from fovea.data.boxes import BOX, CROWD, DIFFICULT, FLAGS, LABEL, is_box
from fovea.data.dataset import Dataset, Split
from fovea.data.loader import Loader
from fovea.detection.draw import Mark, _font, colour_of, draw_boxes
from fovea.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

__all__ = ["annotated", "annotation_sheet", "choose"]

Array = npt.NDArray[Any]
_SIDE = 480  # pixels of a tile
_GAP = 14
_MOST = 64  # tiles
_ROOMY = 6  # so many boxes of an image have room for their names
_OVER = 1.6  # where there are more, a name may be so many times as wide as its box
_LETTER = 7.5  # pixels of the letters at boxes, across
_LEGEND = 24  # classes in the legend
_TEXT, _TITLE = 17, 24  # pixels of letters


def annotation_sheet(
    data: Dataset, split: str = "train", count: int = 12, seed: int = 0, columns: int = 4, augment: Scene | None = None
) -> bytes:
    """PNG of ``count`` images of a split with their boxes: names at the boxes, dashed lines for difficult objects and
    crowds, a legend with how many objects each class has.

    Images are drawn with ``seed``, in turn for each class that is the rarest of theirs; with ``augment`` they are the
    scenes that training would see, at the size of its inputs. Raises DataError for data without boxes, ConfigError for
    a count out of range.
    """
    from PIL import Image, ImageDraw

    if data.task != "detection":
        raise DataError(data.name, f"holds data for {data.task}; a sheet shows images with boxes")
    if not 1 <= count <= _MOST:
        raise ConfigError("sheet", f"expected 1 to {_MOST} images, got {count}; give another count")
    chosen = data.split(split)
    found = _readable(chosen, count, seed) if augment is None else _scenes(chosen, count, seed, augment)
    tiles = sorted(found, key=lambda tile: tile[0].shape[0])  # rows of like heights
    if not tiles:
        raise DataError(data.name, f"has no image in {split} that can be read; see fovea data check")
    columns = max(1, min(columns, len(tiles)))
    width = columns * (_SIDE + _GAP) + _GAP
    labels = chosen.listed_targets[is_box(chosen.listed_targets)][:, LABEL].astype(np.int64)
    counts = np.bincount(labels, minlength=len(data.classes)).tolist()
    title = f"{data.name}: {len(tiles)} of {chosen.listed} images of {split}, {sum(counts)} objects"
    legend = [(colour_of(index), f"{name}  {counts[index]}") for index, name in enumerate(data.classes[:_LEGEND])]
    if len(data.classes) > _LEGEND:
        legend.append(((255, 255, 255), f"and {len(data.classes) - _LEGEND} more"))
    top = _head(None, width, title, legend)
    lines = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(tile.shape[0] for tile, _ in line) + _TEXT + 8 + _GAP for line in lines]
    picture = Image.new("RGB", (width, top + sum(heights)), "white")
    pen = ImageDraw.Draw(picture)
    _head(pen, width, title, legend)
    for line, y in zip(lines, np.cumsum([top, *heights]).tolist(), strict=False):
        for column, (tile, words) in enumerate(line):
            x = _GAP + column * (_SIDE + _GAP)
            picture.paste(Image.fromarray(tile), (x, y))
            pen.text((x, y + tile.shape[0] + 3), _fitting(pen, words, _SIDE), fill="black", font=_font(_TEXT - 3))
    return _png(picture)


def _readable(split: Split, count: int, seed: int) -> Iterator[tuple[npt.NDArray[np.uint8], str]]:
    """Tiles of the first images that can be read, of those that ``choose`` offers; the split itself is not decoded."""
    for position in choose(split, seed):
        try:
            yield annotated(split, position, _SIDE)
        except DataError:
            continue
        count -= 1
        if not count:
            return


def _scenes(split: Split, count: int, seed: int, augment: Scene) -> Iterator[tuple[npt.NDArray[np.uint8], str]]:
    """Tiles of the first scenes of an epoch."""
    if not len(split):
        return
    batch = Loader(split, count, seed=seed, augment=augment).batch(0)
    names = dict(zip(split.indices.tolist(), split.ids, strict=True))
    for pixels, rows, index in zip(batch.inputs, batch.targets, batch.indices.tolist(), strict=True):
        yield _tile(pixels, rows, split.classes, names[index], _SIDE)


def choose(split: Split, seed: int) -> list[int]:
    """Positions of all listed images, one of each group (those whose rarest class is the same) in turn."""
    groups = split.listed_groups
    order = random.permutation(random.key(seed, "sheet"), len(groups))
    turns = np.zeros(len(groups), np.int64)
    for group in np.unique(groups):
        members = order[groups[order] == group]
        turns[members] = np.arange(len(members))
    return [int(position) for position in order[np.argsort(turns[order], kind="stable")]]


def annotated(split: Split, position: int, side: int) -> tuple[npt.NDArray[np.uint8], str]:
    """A listed image as its file holds it, fitted into ``side`` pixels, with its boxes; and the words below it.

    Raises DataError for an image that cannot be read.
    """
    pixels = split.source.raw(int(split.listed_rows[position]), split.spatial.channels)
    name = split.source.ids[int(split.listed_rows[position])]
    return _tile(pixels, split.listed_targets[position], split.classes, name, side)


def _tile(
    pixels: Array, rows: Array, classes: tuple[str, ...], name: str, side: int
) -> tuple[npt.NDArray[np.uint8], str]:
    from PIL import Image

    rows = rows[is_box(rows)]
    scale = side / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    plain = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    drawn = np.asarray(plain.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC))
    factors = np.array([size[0] / pixels.shape[1], size[1] / pixels.shape[0]] * 2)
    order = np.argsort((rows[:, 2:4] - rows[:, 0:2]).prod(axis=1), kind="stable")  # the small ones on top
    marks = [_mark(one, one[BOX] * factors, classes, len(rows) <= _ROOMY) for one in rows[order]]
    words = f"{name.rsplit('/', 1)[-1]}   {len(rows)} object{'s' * (len(rows) != 1)}"
    return draw_boxes(drawn, marks), words


def _mark(row: Array, box: Array, classes: tuple[str, ...], roomy: bool) -> Mark:
    """A box with its name, unless there are many and the name would hide the neighbours of this one."""
    label, flags = int(row[LABEL]), int(row[FLAGS])
    x1, y1, x2, y2 = box.tolist()
    words = classes[label] if roomy or len(classes[label]) * _LETTER <= _OVER * (x2 - x1) else ""
    words += " (crowd)" if flags & CROWD else " (difficult)" if flags & DIFFICULT else ""
    return Mark((x1, y1, x2, y2), words, colour_of(label), dashed=flags != 0)


def _head(pen: ImageDraw.ImageDraw | None, width: int, title: str, legend: list[tuple[Any, str]]) -> int:
    """Title and legend, in as many lines as they need; returns where they end. Without a pen nothing is drawn."""
    if pen is not None:
        pen.text((_GAP, _GAP), _fitting(pen, title, width - 2 * _GAP), fill="black", font=_font(_TITLE))
    font = _font(_TEXT)
    x, y = _GAP, _GAP + _TITLE + 14
    for colour, words in legend:
        room = _TEXT + 6 + int(font.getlength(words)) + 26
        if x > _GAP and x + room > width:
            x, y = _GAP, y + _TEXT + 10
        if pen is not None:
            pen.rectangle((x, y, x + _TEXT, y + _TEXT), fill=colour)
            pen.text((x + _TEXT + 6, y - 1), words, fill="black", font=font)
        x += room
    return y + _TEXT + 2 * _GAP


def _fitting(pen: ImageDraw.ImageDraw, words: str, width: int) -> str:
    """The words, cut in their middle where there is not enough room (file names differ at both ends)."""
    size = _TITLE if width > _SIDE else _TEXT - 3
    kept = words
    while len(kept) > 8 and pen.textlength(kept, font=_font(size)) > width:
        half = (len(kept) - 2) // 2
        kept = kept[: half - 1] + "…" + kept[len(kept) - half :]
    return kept


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
