"""Pictures of samples, filters and feature maps: PNG inside the page for images, an outline for signals.

Layouts: image ``H,W,C``, signal ``L,C``, volume ``D,H,W,C`` (its middle slice), clip ``T,H,W,C`` (some of its frames).
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.report.page import text

__all__ = ["filters", "heat", "image", "maps", "sample", "wave"]

Array = npt.NDArray[Any]
_PICTURE = 320  # pixels of the longer side: enough for a page, small enough that hundreds of them fit in one file
_FRAMES = 4


def image(pixels: Array, title: str = "", side: int = _PICTURE) -> str:
    """``uint8 H,W`` or ``H,W,1|3|4`` as an ``img`` with its data inside, at most ``side`` pixels long; small ones stay
    sharp when enlarged."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    elif pixels.ndim == 3 and pixels.shape[-1] == 2:  # two channels have no colours of their own
        pixels = pixels.mean(axis=-1).astype(np.uint8)
    elif pixels.ndim == 3 and pixels.shape[-1] > 4:
        pixels = pixels[..., :3]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    sharp = ' class="sharp"' if max(picture.size) <= 96 else ""
    if max(picture.size) > side:
        picture.thumbnail((side, side))
    data = io.BytesIO()
    photograph = picture.mode == "RGB" and max(picture.size) > 96  # a PNG of a photograph is five times the size
    picture.save(data, "JPEG" if photograph else "PNG", **({"quality": 88} if photograph else {"optimize": True}))
    kind = "jpeg" if photograph else "png"
    return (
        f'<img{sharp} alt="{text(title)}" src="data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}">'
    )


def grey(values: Array) -> Array:
    """Numbers stretched to ``uint8`` 0..255; a constant becomes mid-grey."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all() or high <= low:
        return np.full(values.shape, 128, np.uint8)
    return ((values - low) / (high - low) * 255).astype(np.uint8)


def sample(kind: str, value: Array, title: str = "") -> str:
    """One input of a data set, as a person wants to see it."""
    if kind == "signal":
        return wave(value, title)
    if kind == "volume":
        return image(grey(value[len(value) // 2]), title)
    if kind == "clip":
        chosen = np.unique(np.linspace(0, len(value) - 1, min(_FRAMES, len(value))).astype(int))
        return f'<div class="frames">{"".join(image(value[frame], title) for frame in chosen)}</div>'
    return image(value if value.dtype == np.uint8 else grey(value), title)


def wave(signal: Array, title: str = "") -> str:
    """A signal ``L`` or ``L,C`` (its first channel) as its outline: lowest and highest of each of 240 stretches."""
    line = np.asarray(signal, np.float64).reshape(len(signal), -1)[:, 0]
    stretches = np.array_split(line, min(240, max(1, len(line))))
    low = np.array([part.min() for part in stretches])
    high = np.array([part.max() for part in stretches])
    reach = max(float(np.abs(line).max(initial=0.0)), 1e-12)
    x = np.arange(len(stretches)) / max(1, len(stretches) - 1) * 240
    ends = [
        f"{place:.1f} {30 - 28 * value / reach:.1f}"
        for place, top, bottom in zip(x, high, low, strict=True)
        for value in ((top,) if top == bottom else (top, bottom))
    ]
    path = "M" + "L".join(ends)
    box = f'viewBox="0 0 240 60" preserveAspectRatio="none" role="img" aria-label="{text(title)}"'
    return f'<svg class="wave" {box}><path d="{path}"/></svg>'


def heat(values: Array, title: str = "") -> str:
    """A feature map ``H,W`` in the colours of viridis, which are even to the eye and safe for the colour-blind."""
    from matplotlib import colormaps

    table = (np.asarray(colormaps["viridis"](np.arange(256)))[:, :3] * 255).astype(np.uint8)
    values = np.asarray(values, np.float32)
    if values.min() == values.max():  # a channel that is silent on this sample stays dark
        return image(np.broadcast_to(table[0], (*values.shape, 3)), title)
    return image(table[grey(values)], title)


def maps(activation: Array, num_spatial_dims: int, limit: int = 16) -> str:
    """The first `limit` channels of one sample's activation ``*spatial,C``; a signal's become rows of one picture."""
    channels = min(limit, activation.shape[-1])
    if num_spatial_dims == 0:
        width = int(np.ceil(np.sqrt(activation.size)))
        padded = np.pad(activation.reshape(-1), (0, width * width - activation.size), constant_values=activation.min())
        return f'<div class="sample">{heat(padded.reshape(width, width), "activation")}</div>'
    if num_spatial_dims == 1:
        rows = activation[:, : limit * 2].T
        rows = np.stack([part.mean(axis=1) for part in np.array_split(rows, min(240, rows.shape[1]), axis=1)], axis=1)
        high = max(1, 72 // len(rows))
        return f'<div class="rows">{heat(np.repeat(rows, high, axis=0), "channels over time")}</div>'
    if num_spatial_dims == 3:
        activation = activation[len(activation) // 2]
    columns = 8 if max(activation.shape[:2]) > 24 else 16  # small maps need less room
    tiles = "".join(heat(activation[..., c], f"channel {c}") for c in range(channels))
    return f'<div class="tiles maps{columns}">{tiles}</div>'


def filters(weight: Array, input_shape: tuple[int | None, ...], limit: int = 64) -> str:
    """The first layer's weights as pictures: ``*kernel,C_in,C_out``, or ``in,out`` of a dense layer on all inputs.

    Three input channels are shown as colours (one scale for red, green and blue of a filter), otherwise the first one.
    """
    weight = np.asarray(weight, np.float32)
    if weight.ndim == 2:
        closed = [size for size in input_shape if size is not None]
        if len(closed) != len(input_shape) or int(np.prod(closed)) != weight.shape[0]:
            return ""
        weight = weight.reshape(*closed, weight.shape[1])
    tiles = []
    for index in range(min(limit, weight.shape[-1])):
        one = weight[..., index]
        if one.ndim == 2:  # 1-D: kernel, C_in
            tiles.append(f"<div>{wave(one, f'filter {index}')}</div>")
            continue
        plane = one[len(one) // 2] if one.ndim == 4 else one
        plane = plane if plane.shape[-1] == 3 else plane[..., 0]
        tiles.append(image(grey(plane), f"filter {index}"))
    return f'<div class="tiles">{"".join(tiles)}</div>'
