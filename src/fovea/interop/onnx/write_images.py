"""The spatial half of preprocessing inside an ONNX graph: images of any size in, resized, cut or padded as we do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fovea.data.preprocess import Preprocessing
from fovea.errors import ModelFileError
from fovea.interop.onnx.writer import Writer

__all__ = ["DOUBLE", "FLOAT", "LONG", "Resized", "resized_images"]

LONG, DOUBLE, FLOAT, BYTE = 7, 11, 1, 2
MODES = {"bilinear": "linear", "bicubic": "cubic"}


@dataclass(frozen=True)
class Resized:
    """``pixels`` N,height,width,C uint8, and what a ``Placement`` knows: the size of the images, that of the resized
    ones, and where these lie in the input; each a whole number in an array of one."""

    pixels: str
    height: str
    width: str
    new_height: str
    new_width: str
    top: str
    left: str


def resized_images(write: Writer, images: str, how: Preprocessing) -> Resized:
    """``images`` N,H,W,C uint8 of any H, W -> N,height,width,C uint8 of the network's size.

    The same arithmetic as ``fovea.data.spatial.place``, in whole numbers and float64, and ONNX's antialiased resizing;
    pixels differ by at most one step of 255 from Pillow's. Raises ModelFileError for what
    ONNX has no operator for.
    """
    points = how.interpolation == "bicubic" and not how.antialias  # runtimes only enlarge so
    if how.kind != "image" or how.size is None or how.interpolation not in MODES or how.resize == "none" or points:
        raise ModelFileError(
            write.where,
            "expected images that are resized to a size by bilinear, or bicubic with antialias, got kind "
            f"{how.kind!r}, size {how.size}, {how.resize!r}, {how.interpolation!r}, "
            f"antialias={how.antialias}; export without images",
        )
    place = _Arithmetic(write)
    shape = write.emit("Shape", [images])
    height, width = (write.emit("Gather", [shape, write.integers(axis)]) for axis in (1, 2))
    rows, columns = (write.integers(side) for side in how.size)
    new = _new_size(place, how, height, width, (rows, columns))
    floats = write.emit("Transpose", [write.emit("Cast", [images], to=FLOAT)], perm=[0, 3, 1, 2])
    ends = [write.emit("Gather", [shape, write.integers(axis)]) for axis in (0, 3)]
    if how.antialias:  # rows first, as Pillow does, whole numbers between
        wide = _resampled(write, floats, [*ends, height, new[1]], how)
        whole = _resampled(write, wide, [*ends, *new], how)
    else:
        whole = _resampled(write, floats, [*ends, *new], how)
    offsets = [place.half(place.minus(now, side)) for now, side in zip(new, (rows, columns), strict=True)]
    if how.resize == "letterbox":
        whole = _padded(write, place, whole, new, (rows, columns), float(how.fill))
    else:
        stops = [place.plus(offset, side) for offset, side in zip(offsets, (rows, columns), strict=True)]
        whole = write.emit(
            "Slice",
            [whole, write.emit("Concat", offsets, axis=0), write.emit("Concat", stops, axis=0), write.integers(2, 3)],
        )
    last = write.emit("Transpose", [whole], perm=[0, 2, 3, 1])
    fixed = write.emit("Reshape", [last, write.integers(0, *how.size, how.channels)])
    top, left = (place.minus(write.integers(0), offset) for offset in offsets)
    return Resized(write.emit("Cast", [fixed], to=BYTE), height, width, *new, top, left)


def _resampled(write: Writer, x: str, sizes: Sequence[str], how: Preprocessing) -> str:
    """N,C,H,W resized, as whole numbers from 0 to 255: rounded, halves up, along one axis with antialiasing; Pillow
    samples points of both axes at once, and drops what is behind the point."""
    empty = write.constant("nothing", np.zeros(0, np.float32))
    resized = write.emit(
        "Resize", [x, empty, empty, write.emit("Concat", list(sizes), axis=0)], mode=MODES[how.interpolation],
        coordinate_transformation_mode="half_pixel", antialias=int(how.antialias),
        exclude_outside=int(how.antialias),  # weights beyond the border are dropped, and the others grow
        cubic_coeff_a=-0.5 if how.interpolation == "bicubic" else None,
    )  # fmt: skip
    limits = [write.constant("limit", np.array(value, np.float32)) for value in (0.0, 255.0)]
    more = 0.5 if how.antialias else 1e-3  # Round's halves do not go up; a sum of equal pixels may fall short of them
    raised = write.emit("Add", [resized, write.constant("raise", np.array(more, np.float32))])
    return write.emit("Clip", [write.emit("Floor", [raised]), *limits])


class _Arithmetic:
    """Whole numbers as arrays of one element."""

    def __init__(self, write: Writer) -> None:
        self.write = write

    def plus(self, a: str, b: str) -> str:
        return self.write.emit("Add", [a, b])

    def minus(self, a: str, b: str) -> str:
        return self.write.emit("Sub", [a, b])

    def double(self, a: str) -> str:
        return self.write.emit("Cast", [a], to=DOUBLE)

    def rounded(self, a: str) -> str:
        """To the nearest whole number, halves to the even one, as Python does."""
        return self.write.emit("Cast", [self.write.emit("Round", [a])], to=LONG)

    def half(self, a: str) -> str:
        """``round(a / 2)``."""
        return self.rounded(self.write.emit("Mul", [self.double(a), self.write.constant("half", np.array([0.5]))]))

    def scaled(self, a: str, factor: str) -> str:
        """``round(a * factor)``."""
        return self.rounded(self.write.emit("Mul", [self.double(a), factor]))


def _new_size(place: _Arithmetic, how: Preprocessing, height: str, width: str, sides: Sequence[str]) -> tuple[str, str]:
    """Height and width after resizing: see ``fovea.data.spatial.place``."""
    write, (rows, columns) = place.write, sides
    if how.resize == "stretch":
        return rows, columns
    if how.resize == "shorter-side" and how.resize_to is not None:
        target = write.integers(how.resize_to)
        short, long = write.emit("Min", [height, width]), write.emit("Max", [height, width])
        longer = write.emit("Max", [target, write.emit("Div", [write.emit("Mul", [target, long]), short])])
        upright = write.emit("LessOrEqual", [height, width])
        return write.emit("Where", [upright, target, longer]), write.emit("Where", [upright, longer, target])
    ratios = [
        write.emit("Div", [place.double(side), place.double(size)]) for side, size in ((rows, height), (columns, width))
    ]
    covers = how.resize == "shorter-side"
    scale = write.emit("Max" if covers else "Min", ratios)
    new = [place.scaled(size, scale) for size in (height, width)]
    if covers:
        return write.emit("Max", [rows, new[0]]), write.emit("Max", [columns, new[1]])
    one = write.integers(1)
    grown = [write.emit("Max", [one, size]) for size in new]
    return write.emit("Min", [rows, grown[0]]), write.emit("Min", [columns, grown[1]])


def _padded(write: Writer, place: _Arithmetic, x: str, new: Sequence[str], sides: Sequence[str], fill: float) -> str:
    before = [
        place.minus(write.integers(0), place.half(place.minus(now, side))) for now, side in zip(new, sides, strict=True)
    ]
    after = [place.minus(place.minus(side, now), lo) for now, side, lo in zip(new, sides, before, strict=True)]
    none = write.integers(0, 0)
    pads = write.emit("Concat", [none, *before, none, *after], axis=0)
    return write.emit("Pad", [x, pads, write.constant("fill", np.array(fill, np.float32))], mode="constant")
