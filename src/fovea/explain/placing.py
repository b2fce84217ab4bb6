"""Where the positions of a coarse map lie in the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.graph.graph import Graph
from fovea.graph.receptive import receptive_fields

__all__ = ["between", "centres_of", "enlarged"]

Array = npt.NDArray[Any]


def between(maps: Array, centres: Sequence[Array], size: Sequence[int]) -> npt.NDArray[np.float32]:
    """Maps N,rows,columns -> N,height,width: linear between the centres, constant beyond the outer ones."""
    ways = [_weights(places, side) for places, side in zip(centres, size, strict=True)]
    return np.ascontiguousarray(ways[0] @ maps.astype(np.float32) @ ways[1].T)


def _weights(places: Array, size: int) -> npt.NDArray[np.float32]:
    """size,positions: how much of each position a pixel takes; pixel i is centred at i + 1/2."""
    pixels = np.arange(size) + 0.5
    return np.stack([np.interp(pixels, places, unit) for unit in np.eye(len(places))], axis=1).astype(np.float32)


def centres_of(graph: Graph, layer: str) -> list[Array]:
    """The places of a layer's positions along both axes, in pixels of the input of ``graph``, whose sizes are closed.

    Without padding they are the middles of the receptive fields, which begin at the border: the rest that strides leave
    lies at the end. With it they are as far apart as these, symmetrically about the middle of the image: padding moves
    fields to one side (TensorFlow's by half a step of the layer), but not what a trained network looks at: the mean
    place of its gradients stays in the middle. Where fields say nothing (behind a global layer) positions share the
    image.
    """
    fields, shape = receptive_fields(graph)[layer], graph.shape(layer)
    centres = []
    for axis, side in enumerate(int(size or 0) for size in graph.shape(graph.inputs[0])[:2]):
        count = int(shape[axis] or 0)
        jump = fields[axis].jump if fields is not None else 0
        if fields is not None and jump:
            first, size = float(fields[axis].start), float(fields[axis].size)
            if first >= 0 and first + (count - 1) * jump + size <= side:
                centres.append(first + size / 2 + np.arange(count) * jump)
                continue
        step = jump if 0 < jump * (count - 1) <= side else side / count
        centres.append(side / 2 + (np.arange(count) - (count - 1) / 2) * step)
    return centres


def enlarged(graph: Graph, layer: str, maps: Array) -> npt.NDArray[np.float32]:
    """Maps N,h,w of a layer -> N,H,W of the input of ``graph``."""
    return between(maps, centres_of(graph, layer), [int(size or 0) for size in graph.shape(graph.inputs[0])[:2]])
