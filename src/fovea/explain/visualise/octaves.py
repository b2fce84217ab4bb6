"""DeepDream: a photograph changed so that a layer sees more of what it sees in it already, from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import progress, random
from fovea.data import spatial
from fovea.data.given import as_samples
from fovea.errors import ConfigError, DataError
from fovea.explain.visualise.climbed import channel_goal
from fovea.explain.visualise.objectives import units
from fovea.explain.visualise.part import image_model, own_size, part_of
from fovea.graph.graph import Ref
from fovea.model import Model

__all__ = ["Dream", "deep_dream", "resized"]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
_JITTER = 16
_SMALLEST = 16


@dataclass(frozen=True, eq=False)
class Dream:
    """``image``: what was given, ``dreamed``: what became of it, both uint8 H,W,C. ``layer``, ``octaves``: sizes."""

    image: npt.NDArray[np.uint8]
    dreamed: npt.NDArray[np.uint8]
    layer: str
    octaves: tuple[tuple[int, int], ...]


def deep_dream(
    model: Model,
    image: Any,
    layer: str,
    channel: int | None = None,
    *,
    octaves: int = 4,
    scale: float = 1.4,
    steps: int = 12,
    strength: float = 1.5,
    size: int | None = None,
    seed: int = 0,
    engine: str | None = None,
) -> Dream:
    """One image (uint8 H,W,C or a path) in which a layer's output has been strengthened.

    The objective is half of the sum of squares of the layer's output, so that what is strong becomes stronger, or the
    mean of one ``channel``. The image is first shrunk by ``scale`` as often as there are ``octaves``; at each size
    ``steps`` steps of ``strength`` grey levels times gradient over its mean size are taken on an image that is shifted
    at random, and the change is enlarged to the next size. ``size``: pixels of the shorter side (else twice
    the network's own). Raises ConfigError and GraphError in one line, DataError for an image that cannot be read.
    Source: Mordvintsev, Olah and Tyka 2015, "Inceptionism: going deeper into neural networks".
    """
    known = image_model(model, "dream")
    for name, value, most in (("octaves", octaves, 12), ("steps", steps, 1000)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ConfigError("dream", f"expected {name} as an integer from 1 to {most}, got {value!r}; 4 is usual")
    if not 1 < scale <= 4 or not 0 < strength <= 100:
        got = f"scale={scale!r}, strength={strength!r}"
        raise ConfigError("dream", f"expected scale above 1 and strength above 0, got {got}; leave them out")
    closed = model.graph.at((*own_size(model, "dream"), known.channels))
    goal = channel_goal(closed, layer, 0 if channel is None else channel, None)
    node = Ref(layer) if channel is None else goal.node  # its own squares: what a rectifier is given goes below 0
    whole = _at_size(model, image, size)
    sizes = _sizes(whole.shape[:2], octaves, scale)
    detail = np.zeros((*sizes[0], known.channels), np.float32)
    with progress.bar(len(sizes) * steps, f"dreaming {layer}", unit="steps") as bar:
        for number, (height, width) in enumerate(sizes):
            base = resized(whole.astype(np.float32), (height, width))
            detail = resized(detail, (height, width))
            part = part_of(model, node, "dream", size=(height, width), engine=engine)
            objective = _strongest if channel is None else units(goal.channels, None)
            for step in range(steps):
                shift = random.integers(random.key(seed, "dream", number, step), 2, -_JITTER, _JITTER + 1)
                detail += strength * _uphill(part, known, base + detail, tuple(int(one) for one in shift), objective)
                detail = np.clip(base + detail, 0, 255) - base
                bar.update(1)
    dreamed = np.round(resized(whole.astype(np.float32), sizes[-1]) + detail).clip(0, 255).astype(np.uint8)
    return Dream(whole, dreamed, layer, tuple(sizes))


def _strongest(outputs: Array) -> tuple[Array, Array]:
    """Half of the sum of squares: its gradient is the output itself."""
    return 0.5 * (outputs.reshape(len(outputs), -1).astype(np.float64) ** 2).sum(axis=1), outputs


def _uphill(part: Any, known: Any, pixels: F32, shift: tuple[int, ...], objective: Callable[[Array], Any]) -> F32:
    """The gradient at a shifted copy, H,W,C, divided by its mean size."""
    moved = np.roll(pixels, shift, axis=(0, 1))
    gradient = known.apply_pixels_adjoint(part.climb(known.apply_pixels(moved[None]), objective)[1])[0]
    back = np.roll(gradient, (-shift[0], -shift[1]), axis=(0, 1))
    return np.asarray(back / (np.abs(back).mean() + 1e-30), np.float32)


def _at_size(model: Model, image: Any, size: int | None) -> npt.NDArray[np.uint8]:
    known = image_model(model, "dream")
    if size is None:
        size = 2 * min(own_size(model, "dream"))
    if isinstance(size, bool) or not isinstance(size, int) or not _SMALLEST <= size <= 4096:
        raise ConfigError("dream", f"expected size as pixels from {_SMALLEST} to 4096, got {size!r}; 448 is usual")
    loaded = as_samples(image, known)
    if len(loaded) != 1:
        raise DataError("dream", f"expected one image, got {len(loaded)}; dream them one after the other")
    pixels = spatial.to_channels(np.asarray(loaded[0]), known.channels)
    plan = spatial.place(pixels.shape[0], pixels.shape[1], None, "shorter-side", size)
    return spatial.resize(pixels, plan.height, plan.width)


def _sizes(full: tuple[int, ...], octaves: int, scale: float) -> list[tuple[int, int]]:
    """From the smallest to the image's own; sizes below what a network can take are left out."""
    sizes = [(round(full[0] / scale**k), round(full[1] / scale**k)) for k in reversed(range(octaves))]
    return [one for one in sizes if min(one) >= min(_SMALLEST, *full)]


def resized(values: F32, size: tuple[int, int]) -> F32:
    """H,W,C floats brought to another size, linearly."""
    from PIL import Image

    if values.shape[:2] == size:
        return values
    planes = [Image.fromarray(np.ascontiguousarray(values[..., c])) for c in range(values.shape[-1])]
    moved = [np.asarray(plane.resize((size[1], size[0]), Image.Resampling.BILINEAR)) for plane in planes]
    return np.stack(moved, axis=-1).astype(np.float32)
