"""The images, and the exact parts of them, that excite channels most: one pass over the data for all channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError
from fovea.explain.maps import layer_names, stream
from fovea.explain.visualise.climbed import checked_channels
from fovea.graph.reach import reach
from fovea.model import Model

__all__ = ["Exciting", "exciting", "patch"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Exciting:
    """Of one layer, K channels and their k strongest samples each, the strongest first.

    ``channels``: K. ``values``: K,k; ``samples``: K,k, numbers among the readable samples (-1 where there are fewer);
    ``positions``: K,k,axes, where in the feature map. ``low``, ``high``: K,k,axes, the receptive field there in
    elements of the network's input, cut at its border: nothing outside changes the value, unless ``gated``: then a
    factor or a normalisation takes the whole image into account as well, and the box is where the element looks.
    ``images``: what the network saw of the samples, by number (before the pixel half).
    """

    layer: str
    channels: Ints
    values: npt.NDArray[np.float32]
    samples: Ints
    positions: Ints
    low: Ints
    high: Ints
    gated: bool
    images: dict[int, Array]

    def patch(self, row: int, rank: int) -> Array:
        """The receptive field of one of them, cut out of its image."""
        return patch(self.images[int(self.samples[row, rank])], self.low[row, rank], self.high[row, rank])


def patch(image: Array, low: Any, high: Any) -> Array:
    """The box of one image ``*spatial,C``."""
    cut: Any = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return np.asarray(image[cut])


def exciting(
    model: Model,
    samples: Any,
    layers: str | Sequence[str],
    channels: Any = None,
    *,
    top_k: int = 9,
    engine: str | None = None,
) -> dict[str, Exciting]:
    """For channels of layers the samples (a split, images, paths) with the largest values anywhere, and where.

    One entry a sample: its largest position (the first of equal ones). ``channels``: numbers for every layer, or a
    mapping from layer to numbers; None: all. In memory are the best ``top_k`` of each channel and their images,
    whatever the number of samples. Among equal values the earlier sample comes first. Raises the errors of
    ``activations``, ConfigError for a channel that does not exist.
    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 3.
    """
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= 1000:
        raise ConfigError("exciting", f"expected top_k as an integer from 1 to 1000, got {top_k!r}; 9 is usual")
    names = layer_names(model.graph, [layers] if isinstance(layers, str) else layers)
    chosen = {name: _channels(model, name, channels) for name in names}
    best = {name: _Best(len(chosen[name]), top_k) for name in names}
    images: dict[int, Array] = {}
    shape: tuple[int, ...] = ()
    for piece in stream(model, samples, names, engine=engine, what="exciting"):
        shape = tuple(piece.inputs.shape[1:])
        for name, outputs in piece.outputs.items():
            best[name].add(outputs[..., chosen[name]], piece.first)
        images |= {piece.first + row: piece.inputs[row] for row in range(len(piece.inputs))}
        used = {int(number) for one in best.values() for number in one.samples.flat}
        images = {number: np.array(image) for number, image in images.items() if number in used}
    return {name: _located(model, name, shape, np.array(chosen[name], np.int64), best[name], images) for name in names}


def _channels(model: Model, name: str, channels: Any) -> tuple[int, ...]:
    count = int(model.graph.shape(name)[-1] or 0)
    wanted = channels.get(name) if isinstance(channels, dict) else channels
    return checked_channels(name, range(count) if wanted is None else wanted, count)


class _Best:
    """The k largest of a stream for K channels at once: each piece is merged by one sort of k + N candidates."""

    def __init__(self, channels: int, k: int) -> None:
        self._k = k
        self.values = np.full((channels, k), -np.inf, np.float32)
        self.samples = np.full((channels, k), -1, np.int64)
        self.places = np.zeros((channels, k), np.int64)

    def add(self, outputs: Array, first: int) -> None:
        """N,*spatial,K of the samples from ``first`` on."""
        flat = outputs.reshape(len(outputs), -1, outputs.shape[-1])
        places = flat.argmax(axis=1).T  # K,N
        values = np.take_along_axis(flat, places.T[:, None], axis=1)[:, 0].T
        numbers = np.broadcast_to(first + np.arange(len(flat)), values.shape)
        values = np.concatenate([self.values, values.astype(np.float32)], axis=1)
        numbers = np.concatenate([self.samples, numbers], axis=1)
        places = np.concatenate([self.places, places], axis=1)
        # by value, then by number: what came earlier stands before what is equal; no sample at all comes last
        order = np.lexsort((np.where(numbers < 0, np.iinfo(np.int64).max, numbers), -values), axis=1)[:, : self._k]
        self.values, self.samples, self.places = (
            np.take_along_axis(array, order, axis=1) for array in (values, numbers, places)
        )


def _located(
    model: Model, name: str, shape: tuple[int, ...], channels: Ints, best: _Best, images: dict[int, Array]
) -> Exciting:
    """Places in the feature map become positions and boxes of the input."""
    graph = model.graph.at(shape)
    spatial = tuple(int(size or 0) for size in graph.shape(name)[:-1])
    positions = (
        np.stack(np.unravel_index(best.places, spatial), axis=-1) if spatial else np.zeros((*best.places.shape, 0))
    )
    flat = positions.reshape(best.places.size, len(spatial)).astype(np.int64)
    distinct, back = np.unique(flat, axis=0, return_inverse=True) if spatial else (flat[:1], np.zeros(len(flat), int))
    boxes, looked = reach(graph, name, distinct), reach(graph, name, distinct, gates=False)
    gated = bool((boxes.low != looked.low).any() or (boxes.high != looked.high).any())
    back = np.asarray(back).reshape(best.places.shape)
    used = {int(number) for number in best.samples.flat}
    return Exciting(
        name, channels, best.values, best.samples, positions.astype(np.int64), looked.low[back], looked.high[back],
        gated, {number: image for number, image in images.items() if number in used},
    )  # fmt: skip
