"""The size that samples are decoded to when the user names none: equal ones stay, unequal ones are fitted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fovea.data.preprocess import Preprocessing
from fovea.data.source import ArraySource, FileSource, Shape, Source
from fovea.errors import DataError

__all__ = ["spatial_for"]

_PROBES = 64
_LARGEST_KEPT = 256  # equal images up to this side keep their size
_DEFAULT_SIDE = 128  # larger or unequal ones are decoded to this, which a CPU trains on in minutes
_DETECTION_SIDE = 320  # for boxes
_COARSEST = 32  # stride of the coarsest feature map of a detector
Size = int | tuple[int, ...] | None


def spatial_for(
    source: Source, size: Size, length: int | None, per_sample: bool | None, task: str = "classification"
) -> tuple[Preprocessing, list[str]]:
    """The spatial half for samples like those of ``source``, and notes about what was chosen."""
    _check_options(source.kind, size, length)
    if task == "detection":
        return _letterbox(source, _probe(source, _PROBES), size)
    if isinstance(source, FileSource) and source.kind == "signal":
        source.set_rate()
    probes = _probe(source, _PROBES)
    if source.kind in ("image", "clip"):
        return _pictures(source, probes, size, length)
    return _numbers(source, probes, size, length, per_sample)


def _check_options(kind: str, size: Size, length: int | None) -> None:
    if length is not None and kind not in ("signal", "clip"):
        raise DataError("length", f"is for signals and clips; these are {kind}s, give size")
    if size is not None and kind == "signal":
        raise DataError("size", "is for images, clips and volumes; these are signals, give length")
    sides = () if size is None else tuple(size) if isinstance(size, (tuple, list)) else (size,)
    for side in (*sides, *(() if length is None else (length,))):
        if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or not 1 <= side <= 1 << 16:
            raise DataError("size", f"must be positive integers up to 65536, got {side!r}")


def _probe(source: Source, count: int) -> list[Shape]:
    """Shapes of up to ``count`` evenly spaced samples that can be read."""
    rows = sorted({round(row) for row in np.linspace(0, len(source) - 1, min(count, len(source)))})
    shapes, reason = [], ""
    for row in rows:
        try:
            shapes.append(source.shape(row))
        except DataError as error:
            reason = reason or f"{source.ids[row]} {error.message}"
    if not shapes and len(rows) < len(source):
        return _probe(source, len(source))
    if not shapes:
        raise DataError("data", f"none of {len(source)} {source.kind}s can be read: {reason}")
    return shapes


def _pictures(source: Source, probes: list[Shape], size: Size, length: int | None) -> tuple[Preprocessing, list[str]]:
    notes: list[str] = []
    channels = _channels(source, probes)
    sides = [shape.shape[-2:] for shape in probes]
    equal = len(set(sides)) == 1
    if size is not None:
        chosen = _pair(source.kind, size)
    elif equal and max(sides[0]) <= _LARGEST_KEPT:
        chosen = sides[0]
    else:
        shorter = int(np.median([min(side) for side in sides]))
        side = min(_DEFAULT_SIDE, max(8, shorter // 8 * 8))
        chosen = (side, side)
        what = f"{sides[0][0]}x{sides[0][1]} {source.kind}s" if equal else f"{source.kind}s of unequal size"
        notes.append(f"{what} are decoded to {side}x{side} (shorter side fitted, centre cut); choose with size")
    if source.kind == "image":
        return Preprocessing("image", size=(int(chosen[0]), int(chosen[1])), channels=channels), notes
    frames = [shape.shape[0] for shape in probes]
    count = length or min(16, int(np.median(frames)))
    if length is None and (len(set(frames)) > 1 or count != frames[0]):
        notes.append(
            f"clips of {min(frames)} to {max(frames)} frames give {count} evenly spaced ones; choose with length"
        )
    return Preprocessing("clip", size=(count, int(chosen[0]), int(chosen[1])), channels=channels), notes


def _letterbox(source: Source, probes: list[Shape], size: Size) -> tuple[Preprocessing, list[str]]:
    """For boxes the whole image is kept, fitted and padded; sides are multiples of a detector's coarsest stride."""
    sides = [shape.shape[-2:] for shape in probes]
    notes: list[str] = []
    if size is not None:
        chosen = _pair(source.kind, size)
        wrong = next((side for side in chosen if side % _COARSEST), None)
        if wrong is not None:
            low = max(_COARSEST, wrong // _COARSEST * _COARSEST)
            text = f"for detection must be multiples of {_COARSEST}, got {wrong}; take {low} or {low + _COARSEST}"
            raise DataError("size", text)
    else:
        longer = int(np.median([max(side) for side in sides]))
        side = min(_DETECTION_SIDE, math.ceil(longer / _COARSEST) * _COARSEST)
        chosen = (side, side)
        what = f"{sides[0][0]}x{sides[0][1]} images" if len(set(sides)) == 1 else "images of unequal size"
        notes.append(f"{what} are fitted into {side}x{side} (letterbox); choose with size")
    return Preprocessing(
        "image", size=(int(chosen[0]), int(chosen[1])), channels=_channels(source, probes), resize="letterbox"
    ), notes


def _pair(kind: str, size: int | tuple[int, ...]) -> tuple[int, ...]:
    chosen = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(chosen) != 2:
        raise DataError("size", f"of {kind}s is one number or (height, width), got {size!r}")
    return chosen


def _channels(source: Source, probes: list[Shape]) -> int:
    if isinstance(source, ArraySource):
        return source.channels
    # one coloured picture among grey ones must not lose its colour: look at every header before saying grey
    return 1 if all(shape.grey for shape in probes) and all(s.grey for s in _probe(source, len(source))) else 3


def _numbers(
    source: Source, probes: list[Shape], size: Size, length: int | None, per_sample: bool | None
) -> tuple[Preprocessing, list[str]]:
    notes: list[str] = []
    counts = {shape.shape[-1] for shape in probes}
    channels = counts.pop() if len(counts) == 1 else 1
    chosen: tuple[int, ...]
    if source.kind == "signal":
        lengths = sorted(shape.shape[0] for shape in (probes if length else _probe(source, 4096)))
        if length is None and lengths[0] != lengths[-1]:
            # nine of ten signals fit whole; a round number keeps strided networks even
            length = math.ceil(lengths[int(0.9 * (len(lengths) - 1))] / 64) * 64
            notes.append(
                f"signals of {lengths[0]} to {lengths[-1]} samples are cut or padded to {length}; choose with length"
            )
        chosen = (length or lengths[0],)
    else:
        shapes = np.array([shape.shape[:3] for shape in probes])
        chosen = tuple(int(side) for side in np.median(shapes, axis=0))
        if size is not None:
            chosen = (size,) * 3 if isinstance(size, int) else tuple(size)
        elif len(set(map(tuple, shapes.tolist()))) > 1:
            notes.append(f"volumes of unequal size are cut or padded to {'x'.join(map(str, chosen))}; choose with size")
    rate = source.rate if isinstance(source, FileSource) and source.kind == "signal" else None
    fields: dict[str, Any] = {"rate": rate, "size": chosen, "channels": channels, "resize": "none", "scale": 1.0}
    return Preprocessing(
        source.kind, per_sample=source.kind == "volume" if per_sample is None else per_sample, **fields
    ), notes
