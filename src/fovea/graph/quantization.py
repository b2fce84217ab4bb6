"""What makes a model an int8 model: grids of activations, scales of weights, and where they come from.

An activation on a grid is stored as bytes, ``x = (q - zero) * scale`` with q from 0 to 255: one scale for a tensor, and
real zero is a byte of its own, so padding is exact. A weight is stored as int8, ``w = q * scale`` with q from -127 to
127 and one scale for every output channel. How layers compute with them: ``fovea.graph.integer``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ModelFileError
from fovea.graph.graph import Graph

__all__ = [
    "SCALE_SUFFIX",
    "Grid",
    "Quantization",
    "expected_shapes",
    "float_tensors",
    "float_weights",
    "int8_weights",
    "stored_tensors",
]

Array = npt.NDArray[Any]

SCALE_SUFFIX = ".scale"
"""Scales of the weight ``conv1.weight`` are the tensor ``conv1.weight.scale`` of a model file."""


@dataclass(frozen=True)
class Grid:
    """The numbers that a byte stands for: ``(q - zero) * scale``.

    >>> Grid(0.5, 10).scale * (12 - 10)
    1.0
    """

    scale: float
    zero: int


@dataclass(frozen=True)
class Quantization:
    """``grids``: of the first output of each named node. ``scales``: weight path -> one float32 per output channel.

    ``about``: how it was calibrated, for people. ``winograd``: whether wide 3x3 layers are computed as
    ``fovea.graph.winograd`` says.
    """

    grids: Mapping[str, Grid]
    scales: Mapping[str, Array]
    about: Mapping[str, Any] = field(default_factory=dict)
    winograd: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the scales of the weights: they are tensors."""
        grids = {name: [grid.scale, grid.zero] for name, grid in self.grids.items()}
        own = {"grids": grids, "weights": list(self.scales), "about": dict(self.about)}
        return own | ({"winograd": True} if self.winograd else {})

    def describe(self, graph: Graph) -> str:
        """One line for people."""
        weights = {path: spec.size for path, spec in graph.parameters().items() if path in self.scales}
        size = sum(weights.values()) + 4 * sum(len(scale) for scale in self.scales.values())
        about = ", ".join(f"{key} {value}" for key, value in self.about.items())
        return (
            f"int8: the weights of {len(weights)} layers ({size / 1e6:.2f} MB), {len(self.grids)} activations ({about})"
        )

    def renamed(self, old: str, new: str) -> Quantization:
        """The same with another name for one node's grid."""
        grids = {new if name == old else name: grid for name, grid in self.grids.items()}
        return replace(self, grids=grids)


def expected_shapes(where: str, record: Any, graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a model file with such a record (None: float32 alone). Raises ModelFileError."""
    parameters = graph.parameters()
    shapes = {path: spec.shape for path, spec in {**parameters, **graph.buffers()}.items()}
    if record is None:
        return shapes
    paths = record.get("weights") if isinstance(record, dict) else None
    names: list[Any] = paths if isinstance(paths, list) else [None]
    if any(not isinstance(path, str) or path not in parameters or not shapes[path] for path in names):
        raise ModelFileError(where, "expected a record of quantization that names its weights; the file is damaged")
    return shapes | {path + SCALE_SUFFIX: shapes[path][-1:] for path in names}


def float_tensors(
    where: str, record: Any, graph: Graph, stored: Mapping[str, Array]
) -> tuple[dict[str, Array], Quantization | None]:
    """The float32 numbers that a model file stands for, and its record. Raises ModelFileError for any other type, and
    for a record that does not belong to the graph."""
    scaled = [] if record is None else record["weights"]
    for name, array in stored.items():
        wanted = np.dtype(np.int8 if name in scaled else np.float32)
        if array.dtype != wanted:
            raise ModelFileError(where, f"expected {wanted} numbers in {name}, got {array.dtype}; the file is damaged")
    if record is None:
        return dict(stored), None
    scales = {path: stored[path + SCALE_SUFFIX] for path in scaled}
    beside = {path + SCALE_SUFFIX for path in scaled}
    tensors = {name: array for name, array in stored.items() if name not in beside}
    tensors |= {path: float_weights(stored[path], scale) for path, scale in scales.items()}
    grids, winograd = _grids(where, record, graph), record.get("winograd") is True
    return tensors, Quantization(grids, _positive(where, scales), _about(record), winograd)


def _grids(where: str, record: Mapping[str, Any], graph: Graph) -> dict[str, Grid]:
    try:
        grids = {name: Grid(float(scale), int(zero)) for name, (scale, zero) in record["grids"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelFileError(
            where, f"expected the grids of activations, got {type(error).__name__} in them; the file is damaged"
        ) from None
    for name, grid in grids.items():
        sound = math.isfinite(grid.scale) and 1e-30 < grid.scale < 1e30 and 0 <= grid.zero <= 255
        if name not in graph.nodes or not sound:
            raise ModelFileError(
                where, f"expected grids of the graph's nodes, got {name[:80]!r}: {grid}; the file is damaged"
            )
    return grids


def _positive(where: str, scales: dict[str, Array]) -> dict[str, Array]:
    for path, scale in scales.items():
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ModelFileError(where, f"expected positive scales for {path}; the file is damaged")
    return scales


def _about(record: Mapping[str, Any]) -> dict[str, Any]:
    about = record.get("about")
    return dict(about) if isinstance(about, dict) else {}


def int8_weights(weight: Array, scale: Array) -> Array:
    """The nearest numbers q of ``weight = q * scale``."""
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)


def float_weights(stored: Array, scale: Array) -> Array:
    """``q * scale`` as float32."""
    return stored.astype(np.float32) * scale


def stored_tensors(tensors: Mapping[str, Array], quantization: Quantization | None) -> dict[str, Array]:
    """What a model file holds: weights with scales as int8, their scales beside them, all else as it is."""
    if quantization is None:
        return dict(tensors)
    result: dict[str, Array] = {}
    for path, array in tensors.items():
        scale = quantization.scales.get(path)
        result[path] = array if scale is None else int8_weights(array, scale)
        if scale is not None:
            result[path + SCALE_SUFFIX] = scale
    return result
