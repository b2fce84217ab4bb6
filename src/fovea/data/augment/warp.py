"""A part of an image drawn somewhere in a canvas, and its boxes moved along: one affine map for both.

Coordinates are those of boxes: pixel ``i`` covers ``[i, i + 1)`` and its centre is ``i + 1/2``. Pillow's AFFINE samples
at the same centres, so the matrix that moves a box's corners is the one that moves pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fovea.data.boxes import AREA, BOX, CROWD, FLAGS, SCALE, is_box

__all__ = ["Rect", "Tile", "content", "draw", "moved", "scaled"]

Array = npt.NDArray[Any]
Rect = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels, the ends exclusive."""

LEAST_SIDE = 2.0
"""Boxes with a shorter side than this, in pixels, are taken out: too small to be told from noise."""
_MARGIN = 2  # pixels around what is sampled, so that the edge of the cut is never seen
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


@dataclass(frozen=True)
class Tile:
    """The part ``source`` of image ``row``, drawn into the part ``window`` of a canvas.

    A point ``(x, y)`` of the image lands on ``matrix[:, :2] @ (x, y) + matrix[:, 2]`` of the canvas. ``color``: hue in
    turns, factors of saturation and value.
    """

    row: int
    source: Rect
    matrix: npt.NDArray[np.float64]
    window: Rect
    color: tuple[float, float, float] = (0.0, 1.0, 1.0)


def content(image: Array, rows: Array, fill: int) -> Rect:
    """The image ``H,W,C`` without the borders of plain ``fill`` that letterboxing left, but with all of its boxes."""
    height, width, channels = image.shape
    drawn = image.reshape(height, width * channels) != fill
    lines = np.flatnonzero(drawn.any(axis=1))
    columns = np.flatnonzero(drawn.any(axis=0).reshape(width, channels).any(axis=1))
    if not len(lines):
        return 0, 0, width, height
    left, top, right, bottom = columns[0], lines[0], columns[-1] + 1, lines[-1] + 1
    boxes = rows[is_box(rows), BOX]
    if len(boxes):
        left, top = min(left, math.floor(boxes[:, 0].min())), min(top, math.floor(boxes[:, 1].min()))
        right, bottom = max(right, math.ceil(boxes[:, 2].max())), max(bottom, math.ceil(boxes[:, 3].max()))
    return max(0, int(left)), max(0, int(top)), min(width, int(right)), min(height, int(bottom))


def draw(canvas: Array, image: Array, tile: Tile, fill: int) -> None:
    """Draw the tile's part of ``image`` into ``canvas``, both ``uint8 H,W,C``, bilinear; ``fill`` about turned ones.

    Where it becomes less than half as large, whole blocks of pixels are averaged first.
    """
    linear, offset = tile.matrix[:, :2], tile.matrix[:, 2]
    ends = _corners(np.array(tile.source, np.float64)) @ linear.T + offset
    # pixels whose centres lie within the drawn part, of those in the window
    left, top = np.maximum(np.ceil(ends.min(axis=0) - 0.5).astype(int), tile.window[:2])
    right, bottom = np.minimum(np.ceil(ends.max(axis=0) - 0.5).astype(int), tile.window[2:])
    if left >= right or top >= bottom:
        return
    inverse = np.linalg.inv(linear)
    reach = (_corners(np.array([left, top, right, bottom], np.float64)) - offset) @ inverse.T
    shrink = max(1, int(1 / math.sqrt(abs(np.linalg.det(linear))) + 1e-9))
    margin = _MARGIN * shrink
    x1, y1 = np.maximum(np.floor(reach.min(axis=0)).astype(int) - margin, tile.source[:2])
    x2, y2 = np.minimum(np.ceil(reach.max(axis=0)).astype(int) + margin, tile.source[2:])
    part = np.ascontiguousarray(image[y1:y2, x1:x2])
    picture = _tinted(Image.fromarray(part[:, :, 0] if part.shape[2] == 1 else part), tile.color)
    if shrink > 1:
        picture = picture.reduce(shrink)
    start = (inverse @ (np.array([left, top]) - offset) - np.array([x1, y1])) / shrink
    (a, b), (c, d) = inverse / shrink
    place = canvas[top:bottom, left:right]
    around: Any = (fill,) * 3 if picture.mode == "RGB" else fill
    warped = picture.transform(
        (int(right - left), int(bottom - top)), Image.Transform.AFFINE, (a, b, start[0], c, d, start[1]),
        Image.Resampling.BILINEAR, fillcolor=around,
    )  # fmt: skip
    place[:] = np.asarray(warped).reshape(place.shape)


def moved(rows: Array, tile: Tile, visible: float) -> Array:
    """Rows ``(m, 9)`` of the tile's image -> those of the canvas: each the box around what is seen of the old one.

    What is left of an object of which less than the share ``visible`` is seen becomes a crowd: neither demanded nor
    wrong to find. Where no pixels or a side below 2 pixels are left, the row is taken out. The scale is multiplied by
    that of the map, the area by the share that is left.
    """
    kept = rows[is_box(rows)].copy()
    linear, offset = tile.matrix[:, :2], tile.matrix[:, 2]
    own = kept[:, BOX].astype(np.float64)
    part = np.array(tile.source, np.float64)
    cut = np.concatenate([np.maximum(own[:, :2], part[:2]), np.minimum(own[:, 2:], part[2:])], axis=1)
    apart = (cut[:, 2:] <= cut[:, :2]).any(axis=1)
    cut[apart] = 0
    whole = _around(_corners(own) @ linear.T + offset)
    corners = _corners(cut) @ linear.T + offset
    window = np.array(tile.window, np.float64)
    straight = linear[0, 1] == linear[1, 0] == 0 or linear[0, 0] == linear[1, 1] == 0
    seen = _clipped(_around(corners) if straight else _seen(corners, window), window)
    sides = seen[:, 2:] - seen[:, :2]
    share = np.where(apart, 0, sides.prod(axis=1) / np.maximum((whole[:, 2:] - whole[:, :2]).prod(axis=1), 1e-12))
    kept[:, BOX] = seen
    kept[:, SCALE] = scaled(kept[:, SCALE], tile)
    kept[:, AREA] *= np.minimum(share, 1)
    kept[:, FLAGS] = np.where(share < visible, kept[:, FLAGS].astype(np.int64) | CROWD, kept[:, FLAGS])
    return kept[~apart & (share > 0) & (sides >= LEAST_SIDE).all(axis=1)]


def scaled(scales: Array, tile: Tile) -> Array:
    """How much larger than in its file an image is drawn, x and y ``(..., 2)``, after the tile's map."""
    return np.asarray(np.linalg.norm(tile.matrix[:, :2] * scales[..., None, :], axis=-1))


def _corners(boxes: Array) -> Array:
    """Boxes ``(..., 4)`` -> their corners ``(..., 4, 2)``, going round."""
    x1, y1, x2, y2 = (boxes[..., index] for index in range(4))
    return np.stack([np.stack([x1, x2, x2, x1], -1), np.stack([y1, y1, y2, y2], -1)], -1)


def _around(points: Array) -> Array:
    """The smallest boxes ``(m, 4)`` around points ``(m, n, 2)``."""
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def _clipped(boxes: Array, window: Array) -> Array:
    low, high = np.clip(boxes[:, :2], window[:2], window[2:]), np.clip(boxes[:, 2:], window[:2], window[2:])
    return np.concatenate([low, high], axis=1)


def _seen(quads: Array, window: Array) -> Array:
    """The smallest boxes around the parts of convex ``quads (m, 4, 2)`` within the window; no size where there is none.

    Its corners are the ends of the quad's edges, cut at the window (Liang and Barsky 1984), and the corners of the
    window that lie in the quad.
    """
    along = np.roll(quads, -1, axis=1) - quads  # m,4,2
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (window[:2] - quads) / along, (window[2:] - quads) / along
    within = (quads >= window[:2]) & (quads <= window[2:])
    level = along == 0  # parallel to an axis: wholly within that axis's strip, or never
    enter = np.where(level, np.where(within, -np.inf, np.inf), np.minimum(one, two)).max(axis=2).clip(0)
    leave = np.where(level, np.where(within, np.inf, -np.inf), np.maximum(one, two)).min(axis=2).clip(None, 1)
    meets = enter <= leave  # m,4
    ends = [quads + along * np.where(meets, at, 0)[..., None] for at in (enter, leave)]
    frame = _corners(window)
    sides = frame[None, :, None] - quads[:, None]  # m,frame,edge,2
    turns = along[:, None, :, 0] * sides[..., 1] - along[:, None, :, 1] * sides[..., 0]
    inside = (turns >= 0).all(axis=2) | (turns <= 0).all(axis=2)  # m,frame
    points = np.concatenate([*ends, np.broadcast_to(frame, (len(quads), 4, 2))], axis=1)
    valid = np.concatenate([meets, meets, inside], axis=1)[..., None]
    low, high = np.where(valid, points, np.inf).min(axis=1), np.where(valid, points, -np.inf).max(axis=1)
    none = ~valid.any(axis=(1, 2))
    low[none], high[none] = 0, 0
    return np.concatenate([low, high], axis=1)


def _tinted(picture: Image.Image, color: tuple[float, float, float]) -> Image.Image:
    """Hue turned about the axis of greys, chroma and brightness scaled: one matrix on RGB (by way of YIQ)."""
    turn, saturation, value = color
    if color == (0.0, 1.0, 1.0):
        return picture
    if picture.mode == "L":
        return picture.point([min(255, round(level * value)) for level in range(256)])
    angle = 2 * math.pi * turn
    chroma = saturation * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.eye(3)
    middle[1:, 1:] = chroma
    matrix = value * (_FROM_YIQ @ middle @ _TO_YIQ)
    numbers = tuple(float(number) for row in matrix for number in (*row, 0.0))
    return picture.convert("RGB", numbers)
