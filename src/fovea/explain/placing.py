"""Where the positions of a coarse map lie in the input, along each of its axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.graph.graph import Graph
from fovea.graph.receptive import receptive_fields

__all__ = ["along", "between", "centres_of", "enlarged"]

Array = npt.NDArray[Any]


def between(maps: Array, centres: Sequence[Array], size: Sequence[int]) -> npt.NDArray[np.float32]:
    """Maps N,*positions -> N,*size: linear between the centres along each axis, constant beyond the outer ones."""
    ways = [_weights(places, side) for places, side in zip(centres, size, strict=True)]
    return np.ascontiguousarray(along(maps.astype(np.float32), ways))


def along(values: Array, ways: Sequence[Array]) -> Array:
    """Each axis behind the first times its matrix (new size, old size): N,*old -> N,*new."""
    for axis, way in enumerate(ways[:-1], 1):
        shape = values.shape
        flat = way @ values.reshape(math.prod(shape[:axis]), shape[axis], -1)
        values = flat.reshape(*shape[:axis], len(way), *shape[axis + 1 :])
    return np.asarray(values @ ways[-1].T)


def _weights(places: Array, size: int) -> npt.NDArray[np.float32]:
    """size,positions: how much of each position a pixel takes; pixel i is centred at i + 1/2."""
    pixels = np.arange(size) + 0.5
    return np.stack([np.interp(pixels, places, unit) for unit in np.eye(len(places))], axis=1).astype(np.float32)


def centres_of(graph: Graph, layer: str) -> list[Array]:
    """The places of a layer's positions along each axis, in pixels of the input of ``graph``, whose sizes are closed.

    Without padding they are the middles of the receptive fields, which begin at the border: the rest that strides leave
    lies at the end. With it they are as far apart as these, symmetrically about the middle of the input: padding moves
    fields to one side (TensorFlow's by half a step of the layer), but not what a trained network looks at: the mean
    place of its gradients stays in the middle. Where fields say nothing (behind a global layer) positions share the
    input.
    """
    fields, shape = receptive_fields(graph)[layer], graph.shape(layer)
    centres = []
    for axis, side in enumerate(_sides(graph)):
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
    """Maps N,*positions of a layer -> N,*spatial of the input of ``graph``."""
    return between(maps, centres_of(graph, layer), _sides(graph))


def _sides(graph: Graph) -> list[int]:
    return [int(size or 0) for size in graph.shape(graph.inputs[0])[:-1]]
