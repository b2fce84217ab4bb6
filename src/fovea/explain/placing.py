"""Where the positions of a coarse map lie in the image: at the centres of their receptive fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.graph.graph import Graph
from fovea.graph.receptive import receptive_fields

__all__ = ["between", "enlarged"]

Array = npt.NDArray[Any]


def between(maps: Array, centres: Sequence[Array], size: Sequence[int]) -> npt.NDArray[np.float32]:
    """Maps N,rows,columns -> N,height,width: linear between the centres, constant beyond the outer ones."""
    ways = [_weights(places, side) for places, side in zip(centres, size, strict=True)]
    return np.ascontiguousarray(ways[0] @ maps.astype(np.float32) @ ways[1].T)


def _weights(places: Array, size: int) -> npt.NDArray[np.float32]:
    """size,positions: how much of each position a pixel takes; pixel i is centred at i + 1/2."""
    pixels = np.arange(size) + 0.5
    return np.stack([np.interp(pixels, places, unit) for unit in np.eye(len(places))], axis=1).astype(np.float32)


def enlarged(graph: Graph, layer: str, maps: Array) -> npt.NDArray[np.float32]:
    """Maps N,h,w of a layer -> N,H,W of the input of ``graph``, whose sizes are closed.

    Padding shifts fields: with symmetric padding the first position of a ResNet's last map is centred at the corner of
    the image, not half a step inside it. Where fields say nothing (behind a global layer) positions share the image.
    """
    fields, size = receptive_fields(graph)[layer], [int(side or 0) for side in graph.shape(graph.inputs[0])[:2]]
    centres = []
    for axis, (side, count) in enumerate(zip(size, maps.shape[1:], strict=True)):
        field = fields[axis] if fields is not None else None
        if field is None or field.jump == 0:
            centres.append((np.arange(count) + 0.5) * side / count)
        else:
            centres.append(field.start + field.size / 2 + np.arange(count) * field.jump)
    return between(maps, centres, size)
