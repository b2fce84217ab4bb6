"""Boxes with their words drawn into an image, legible whatever its size."""

from __future__ import annotations

import colorsys
import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

__all__ = ["Mark", "colour_of", "draw_boxes"]

U8 = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

_COLOURS: tuple[Colour, ...] = (  # apart for the eye, also of the colour-blind: Okabe and Ito's, the dark ones lighter
    (230, 159, 0), (86, 180, 233), (0, 190, 130), (240, 228, 66), (60, 130, 246), (235, 100, 20), (225, 130, 190),
)  # fmt: skip
_LONG_SIDE, _SHORT_SIDE, _LARGEST_SIDE = 480, 64, 4000
"""Smaller pictures are drawn enlarged by a whole number, though not beyond the last: letters need pixels."""
_FONT = "mpl-data/fonts/ttf/DejaVuSans-Bold.ttf"


@dataclass(frozen=True)
class Mark:
    """A box x1, y1, x2, y2 in pixels of the image, the words at it ("": none) and its colour; a dashed line for what
    only is there for comparison."""

    box: tuple[float, float, float, float]
    words: str = ""
    colour: Colour = _COLOURS[0]
    dashed: bool = False


def colour_of(label: int) -> Colour:
    """The colour of a class: seven that the eye tells apart, then hues at the golden angle."""
    if label < len(_COLOURS):
        return _COLOURS[label]
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.55 + 0.4 * (label % 2), 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_boxes(image: U8, marks: Sequence[Mark], weight: float = 1.0) -> U8:
    """``H,W,1|3`` uint8 with boxes -> ``kH,kW,3`` uint8. k is 1 for all but small pictures.

    Lines and letters grow with the picture; the words of a box stand where they cover no others, if there is such a
    place: above it, inside it, below it. The first marks lie on top. ``weight``: how much heavier than usual lines and
    letters are, for a picture that will be shown small.
    """
    from PIL import Image, ImageDraw

    pixels = np.ascontiguousarray(image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1))
    factor = _enlarged(*pixels.shape[:2])
    picture = Image.fromarray(pixels)
    if factor > 1:
        picture = picture.resize((pixels.shape[1] * factor, pixels.shape[0] * factor), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    reach = (picture.width * picture.height) ** 0.5
    line = max(2, round(weight * reach / 320))
    letters = max(11, round(weight * reach / (50 if len(marks) <= 12 else 65)))
    boxes = [_inside(mark.box, factor, picture) for mark in marks]
    for mark, box in reversed(list(zip(marks, boxes, strict=True))):
        _outline(pen, box, mark, line)
    taken: list[Rectangle] = []
    for mark, box in zip(marks, boxes, strict=True):
        if mark.words:
            taken.append(_words(pen, picture, box, mark, letters, line, taken))
    return np.asarray(picture)


def _enlarged(height: int, width: int) -> int:
    long, short = max(height, width), min(height, width)
    return max(1, -(-_LONG_SIDE // long), min(-(-_SHORT_SIDE // short), _LARGEST_SIDE // long))


def _inside(box: Sequence[float], factor: int, picture: Image.Image) -> Rectangle:
    """The box in pixels of the picture, with its line inside it."""
    x1, y1, x2, y2 = (float(value) * factor for value in box)
    left, right = (min(max(value, 0.0), picture.width - 1.0) for value in (x1, x2 - 1))
    top, bottom = (min(max(value, 0.0), picture.height - 1.0) for value in (y1, y2 - 1))
    return left, top, max(left, right), max(top, bottom)


def _outline(pen: ImageDraw.ImageDraw, box: Rectangle, mark: Mark, line: int) -> None:
    left, top, right, bottom = box
    if not mark.dashed:
        pen.rectangle(box, outline=mark.colour, width=line)
        return
    step = 4 * line
    for start in np.arange(left, right, 2 * step).tolist():
        end = min(start + step, right)
        pen.rectangle((start, top, end, min(top + line - 1, bottom)), fill=mark.colour)
        pen.rectangle((start, max(bottom - line + 1, top), end, bottom), fill=mark.colour)
    for start in np.arange(top, bottom, 2 * step).tolist():
        end = min(start + step, bottom)
        pen.rectangle((left, start, min(left + line - 1, right), end), fill=mark.colour)
        pen.rectangle((max(right - line + 1, left), start, right, end), fill=mark.colour)


def _words(
    pen: ImageDraw.ImageDraw, picture: Image.Image, box: Rectangle, mark: Mark, letters: int, line: int,
    taken: list[Rectangle],
) -> Rectangle:  # fmt: skip
    """Write the words of a mark where they cover fewest others; returns the room that they took."""
    font = _font(letters)
    rim = max(1, letters // 6)
    start, above, end, below = pen.textbbox((0, 0), mark.words, font=font)
    wide, high = end - start + 2 * rim, below - above + 2 * rim
    left, top, right, bottom = box
    places = [
        (left, top - high),
        (left, top),
        (left, bottom + 1),
        (right - wide, top - high),
        (right - wide, bottom + 1),
    ]
    rooms = []
    for x, y in places:
        x = min(max(x, 0.0), max(0.0, picture.width - wide))
        y = min(max(y, 0.0), max(0.0, picture.height - high))
        rooms.append((x, y, x + wide, y + high))
    room = min(rooms, key=lambda one: sum(_common(one, other) for other in taken))  # of equals the first
    pen.rectangle(room, fill=mark.colour)
    light = (299 * mark.colour[0] + 587 * mark.colour[1] + 114 * mark.colour[2]) / 1000
    pen.text(
        (room[0] + rim - start, room[1] + rim - above), mark.words, fill="black" if light > 135 else "white", font=font
    )
    return room


def _common(one: Rectangle, other: Rectangle) -> float:
    wide, high = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)


@functools.lru_cache(maxsize=8)
def _font(letters: int) -> Any:
    """matplotlib's DejaVu Sans, which knows most alphabets; matplotlib itself is not loaded for it."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")
    for folder in (found.submodule_search_locations or []) if found else []:
        file = Path(folder) / _FONT
        if file.is_file():
            return ImageFont.truetype(str(file), letters)
    return ImageFont.load_default(letters)
