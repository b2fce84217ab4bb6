"""Geometry of images on uint8: where a source image lands in the network's input, and the resampling of it.

:func:`place` is pure arithmetic and can be inverted (a box found in the network's input goes back to the image); pixels
are moved by Pillow, whose integer resampling gives the same bits everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fovea.errors import DataError

__all__ = ["FILTERS", "Placement", "fit", "luma", "place", "to_channels", "transform"]

U8 = npt.NDArray[np.uint8]

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Placement:
    """``height, width`` after resizing; ``top, left`` of the resized image inside the output (negative: cut off)."""

    source: tuple[int, int]
    height: int
    width: int
    top: int
    left: int
    output: tuple[int, int]

    def to_source(self, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Points ``(..., 2)`` as x, y pixels of the output, back to pixels of the source image."""
        scale = np.array([self.source[1] / self.width, self.source[0] / self.height])
        moved = np.asarray(points, np.float64) - np.array([self.left, self.top])
        return np.asarray(moved * scale)

    def to_output(self, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Points ``(..., 2)`` as x, y pixels of the source image, to pixels of the output."""
        scale = np.array([self.width / self.source[1], self.height / self.source[0]])
        scaled = np.asarray(points, np.float64) * scale
        return np.asarray(scaled + np.array([self.left, self.top]))


def place(
    height: int, width: int, size: tuple[int, int] | None, resize: str, resize_to: int | None = None
) -> Placement:
    """Where an image of ``height`` x ``width`` lands in an input of ``size`` (None: as large as the resized image)."""
    new_height, new_width = height, width
    if resize == "shorter-side" and (resize_to is not None or size is not None):
        if resize_to is not None:  # the longer side is truncated, as torchvision's Resize does
            short, long = min(height, width), max(height, width)
            longer = max(resize_to, int(resize_to * long / short))
            new_height, new_width = (resize_to, longer) if height <= width else (longer, resize_to)
        elif size is not None:
            scale = max(size[0] / height, size[1] / width)
            new_height, new_width = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    elif resize == "stretch" and size is not None:
        new_height, new_width = size
    elif resize == "letterbox" and size is not None:
        scale = min(size[0] / height, size[1] / width)
        new_height = min(size[0], max(1, round(height * scale)))
        new_width = min(size[1], max(1, round(width * scale)))
    output = size if size is not None else (new_height, new_width)
    # Python's round is what torchvision's CenterCrop uses: halves go to the even side.
    top, left = -round((new_height - output[0]) / 2), -round((new_width - output[1]) / 2)
    return Placement((height, width), new_height, new_width, top, left, output)


def transform(image: U8, plan: Placement, interpolation: str, antialias: bool, fill: int) -> U8:
    """``H,W,C`` uint8 resized, cut and padded as ``plan`` says."""
    resized = resize(image, plan.height, plan.width, interpolation, antialias)
    if (plan.height, plan.width) == plan.output:
        return resized
    rows, columns = plan.output
    output = np.full((rows, columns, image.shape[2]), fill, np.uint8)
    top, left = max(0, plan.top), max(0, plan.left)
    cut_top, cut_left = max(0, -plan.top), max(0, -plan.left)
    part = resized[cut_top : cut_top + rows, cut_left : cut_left + columns]
    output[top : top + part.shape[0], left : left + part.shape[1]] = part
    return output


def resize(image: U8, height: int, width: int, interpolation: str = "bilinear", antialias: bool = True) -> U8:
    """``H,W,C`` uint8 to ``height,width,C``. Without ``antialias`` each output pixel samples points of the source."""
    if image.shape[:2] == (height, width):
        return image
    if image.shape[2] not in (1, 3):
        planes = [
            resize(image[:, :, index : index + 1], height, width, interpolation, antialias)
            for index in range(image.shape[2])
        ]
        return np.concatenate(planes, axis=2)
    picture = Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))
    if antialias or interpolation in ("nearest", "lanczos"):  # Lanczos has no point-sampled form
        picture = picture.resize((width, height), FILTERS[interpolation])
    else:  # an affine map, pixel centres on pixel centres, does not widen the filter
        matrix = (image.shape[1] / width, 0.0, 0.0, 0.0, image.shape[0] / height, 0.0)
        picture = picture.transform((width, height), Image.Transform.AFFINE, matrix, FILTERS[interpolation])
    array: U8 = np.array(picture)
    return array if array.ndim == 3 else array[:, :, None]


def to_channels(samples: U8, channels: int) -> U8:
    """Grey to colour by repetition, RGB to grey by luma; other combinations raise DataError."""
    if samples.shape[-1] == channels:
        return samples
    if samples.shape[-1] == 1:
        return samples.repeat(channels, axis=-1)
    if samples.shape[-1] == 3 and channels == 1:
        return luma(samples)[..., None]
    raise DataError("preprocessing", f"images have {samples.shape[-1]} channels, {channels} are expected")


def luma(images: U8) -> U8:
    """ITU-R 601 luma of ``...,3`` RGB: ``0.299 R + 0.587 G + 0.114 B`` in 16-bit fixed point, as Pillow computes it."""
    red, green, blue = (images[..., index].astype(np.uint32) for index in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def fit(values: npt.NDArray[np.float32], size: tuple[int, ...], centre: bool) -> npt.NDArray[np.float32]:
    """``*spatial,C`` cut or zero-padded to ``size``, about the centre or from the beginning."""
    output = np.zeros((*size, values.shape[-1]), np.float32)
    take, put = [], []
    for have, want in zip(values.shape, size, strict=False):
        start = (have - want) // 2 if centre else 0
        take.append(slice(max(0, start), max(0, start) + min(have, want)))
        put.append(slice(max(0, -start), max(0, -start) + min(have, want)))
    output[tuple(put)] = values[tuple(take)]
    return output
