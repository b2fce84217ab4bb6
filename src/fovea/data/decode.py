"""Image files to uint8 arrays: every mode that people have, one rule each, and a reason for each file that fails.

What happens to a file: EXIF orientation is applied; a palette becomes RGB; alpha is composited on white; 16-bit grey is
rounded to 8 bits; CMYK and YCbCr become RGB; of an animation the first frame is taken. Float, 32-bit and Lab pixels are
refused by name, as are pictures of more than :data:`MAX_PIXELS` pixels, before any of their pixels is decoded.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from fovea.errors import DataError

__all__ = [
    "IMAGE_SUFFIXES", "MAX_PIXELS", "ImageSize", "image_header", "image_pixels", "image_size", "read_frames",
    "read_image", "read_images",
]  # fmt: skip

U8 = npt.NDArray[np.uint8]

MAX_PIXELS = 80_000_000  # 240 MB as RGB; below Pillow's own warning threshold
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jfif")
# Only formats that are plain pixels: EPS would start an interpreter.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises on damaged input; anything else would be a mistake of ours.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # only where warnings are errors
)


def read_image(source: bytes | str | os.PathLike[str], channels: int = 3, name: str | None = None) -> U8:
    """One image file as ``H,W,C`` uint8, C = 3 (RGB) or 1 (grey, ITU-R 601 luma).

    ``source`` is a path or the file's bytes, ``name`` what an error calls it. Raises DataError for anything that is not
    a whole, ordinary image.

    >>> read_image("cat.jpg").shape  # doctest: +SKIP
    (360, 480, 3)
    """
    where, data = _bytes_of(source, name)
    with _opened(data, where) as image:
        return image_pixels(image, channels, where)


def image_pixels(image: Image.Image, channels: int = 3, name: str = "image") -> U8:
    """An image that Pillow has opened or made, as ``read_image`` gives a file. Raises DataError as that does."""
    try:
        pixels = _to_mode(image, channels, name)
        orientation = _orientation(image)  # now, for Pillow itself turns a TIFF when its pixels are read
        if orientation in _TURNS:
            pixels = pixels.transpose(_TURNS[orientation])
        array = np.array(pixels)
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(name, f"is damaged or cut short: {_reason(error)}") from None
    return array if array.ndim == 3 else array[:, :, None]


def read_images(
    sources: Sequence[bytes | str | os.PathLike[str]], channels: int = 3, workers: int | None = None
) -> list[U8]:
    """Several image files, decoded by threads (Pillow releases the interpreter lock), in order."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(lambda source: read_image(source, channels), sources))


def read_frames(source: bytes | str | os.PathLike[str], channels: int = 3, name: str | None = None) -> U8:
    """Every frame of an animation (GIF, WebP, APNG, multi-page TIFF) as ``T,H,W,C`` uint8."""
    where, data = _bytes_of(source, name)
    with _opened(data, where) as image:
        try:
            count = int(getattr(image, "n_frames", 1))
            _check_pixels(image.width * image.height * count, where)
            frames = []
            for index in range(count):
                image.seek(index)
                frames.append(np.array(_to_mode(image, channels, where)))
            array = np.stack(frames)
        except DataError:
            raise
        except _DAMAGE as error:
            raise DataError(where, f"is damaged or cut short: {_reason(error)}") from None
    return array if array.ndim == 4 else array[..., None]


def image_header(data: bytes, name: str) -> tuple[int, int, bool, int]:
    """``(height, width, is_grey, frames)`` from the header, orientation applied; decodes no pixels."""
    with _opened(data, name) as image:
        try:
            turned = not _is_plain_png(image, data) and _orientation(image) in (5, 6, 7, 8)
            width, height = _stored_size(image)
            frames = int(getattr(image, "n_frames", 1))
            grey = image.mode in _GREY_MODES or (image.mode == "P" and _grey_palette(image))
        except _DAMAGE as error:
            raise DataError(name, f"is damaged or cut short: {_reason(error)}") from None
    return (width, height, grey, frames) if turned else (height, width, grey, frames)


class ImageSize(NamedTuple):
    """Height and width of a picture as it is shown, and the EXIF orientation (1 to 8) that turns its pixels so."""

    height: int
    width: int
    orientation: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width of the pixels as they lie in the file."""
        return (self.width, self.height) if self.orientation in (5, 6, 7, 8) else (self.height, self.width)

    def shown_box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box xyxy on the stored pixels -> the box on the picture as it is shown."""
        height, width = self.stored
        x1, y1, x2, y2 = box
        if self.orientation in (2, 3, 7, 8):  # the stored x runs backwards
            x1, x2 = width - x2, width - x1
        if self.orientation in (3, 4, 6, 7):
            y1, y2 = height - y2, height - y1
        return (y1, x1, y2, x2) if self.orientation in (5, 6, 7, 8) else (x1, y1, x2, y2)


def image_size(data: bytes, name: str) -> ImageSize:
    """The size of a picture and how it is turned, from its header. Raises DataError for what is no image."""
    with _opened(data, name) as image:
        try:
            orientation = 1 if _is_plain_png(image, data) else _orientation(image)
            width, height = _stored_size(image)
        except _DAMAGE as error:
            raise DataError(name, f"is damaged or cut short: {_reason(error)}") from None
    known = orientation if orientation in _TURNS else 1
    return ImageSize(width, height, known) if known in (5, 6, 7, 8) else ImageSize(height, width, known)


def _bytes_of(source: bytes | str | os.PathLike[str], name: str | None) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return name or "image", source
    try:
        return name or os.fspath(source), Path(source).read_bytes()
    except OSError as error:
        raise DataError(name or os.fspath(source), f"cannot be read: {error.strerror or error}") from None


def _opened(data: bytes, where: str) -> Image.Image:
    if not data:
        raise DataError(where, "is an empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise DataError(where, f"is not an image of a known format ({', '.join(_FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(where, f"has more than {MAX_PIXELS:,} pixels; make it smaller first") from None
    except _DAMAGE as error:
        raise DataError(where, f"is damaged or cut short: {_reason(error)}") from None
    _check_pixels(image.width * image.height, where)
    return image


def _check_pixels(pixels: int, where: str) -> None:
    if pixels > MAX_PIXELS:
        raise DataError(where, f"has {pixels:,} pixels, more than {MAX_PIXELS:,}; make it smaller first")
    if pixels == 0:
        raise DataError(where, "has no pixels")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:  # unreadable metadata is no reason to lose the picture
        return 1


def _is_plain_png(image: Image.Image, data: bytes) -> bool:
    """Whether a PNG says nothing of an orientation; Pillow would decode all of its pixels to find out."""
    return image.format == "PNG" and not any(mark in data for mark in (b"eXIf", b"exif", b"Exif", b"adobe.xmp"))


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the pixels in the file; of a TIFF, Pillow says those of the turned picture."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    return (int(tags[256]), int(tags[257])) if 256 in tags and 257 in tags else image.size


def _to_mode(image: Image.Image, channels: int, where: str) -> Image.Image:
    target = "L" if channels == 1 else "RGB"
    image.load()
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        "transparency" in image.info and not image.mode.startswith("I")
    ):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert(target)
    if image.mode == target:
        return image
    if image.mode.startswith("I"):
        return Image.fromarray(_from_16_bits(image, where)).convert(target)
    if image.mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"):
        return image.convert(target)
    raise DataError(where, f"has {image.mode} pixels; 8-bit grey, palette, RGB, RGBA, CMYK and 16-bit grey are read")


def _from_16_bits(image: Image.Image, where: str) -> U8:
    values: npt.NDArray[Any] = np.asarray(image)
    if values.size and (int(values.min()) < 0 or int(values.max()) > 65535):
        raise DataError(where, "has 32-bit pixels; save it with 8 or 16 bits a channel")
    if "transparency" in image.info:  # the one value that is seen through
        values = np.where(values == image.info["transparency"], 65535, values)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257


def _grey_palette(image: Image.Image) -> bool:
    palette = image.getpalette() or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
