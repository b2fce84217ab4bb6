"""The part of a network that an objective needs, for images of a size of one's own, with the way back to its input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.preprocess import Preprocessing
from fovea.engines.registry import get_engine
from fovea.errors import ConfigError, DataError, EngineError, ShapeError
from fovea.explain.visualise.objectives import Objective
from fovea.graph.graph import Graph, Ref
from fovea.model import Model

__all__ = ["Part", "image_model", "own_size", "part_of", "resized"]

Array = npt.NDArray[Any]
USUAL = 224
"""Pixels along an axis of images for a network of any size whose preprocessing names none: what most are trained on."""


def own_size(model: Model, where: str) -> tuple[int, ...]:
    """Spatial size of the input of a model with preprocessing: its own, that of preprocessing where it is open, else
    for images the usual one. Raises ConfigError."""
    own, known = model.graph.input_shapes[0][:-1], model.preprocessing
    closed = tuple(size for size in own if size is not None)
    if len(closed) == len(own):
        return closed
    if known is not None and known.size is not None:
        return known.size
    if known is not None and known.kind == "image":
        return tuple(USUAL if size is None else size for size in own)
    raise ConfigError(where, f"expected a size for the open input {own}, got none; give size=128, say")


class Part:
    """A plan from the input to one node. ``climb`` gives an objective's values and its gradient at the input."""

    def __init__(self, graph: Graph, model: Model, engine: str | None, batch_size: int) -> None:
        self.graph, self.node = graph, graph.outputs[0]
        self._source = graph.inputs[0]
        self._plan = get_engine(engine).compile(graph, model.store, batch_size=batch_size, wrt=[self._source])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample's output at the node."""
        return tuple(int(size or 0) for size in self.graph.shape(self.node))

    def outputs(self, x: Array) -> Array:
        """The node's output for network input N,...."""
        return np.asarray(self._plan.forward(x))

    def climb(self, x: Array, objective: Objective) -> tuple[Array, Array]:
        """Values N and gradient N,*spatial,C for network input of at most ``batch_size`` samples."""
        values, seeds = objective(np.asarray(self._plan.forward(x)))
        return values, self._plan.backward(np.ascontiguousarray(seeds, np.float32))[self._source]


def part_of(
    model: Model, node: Ref, where: str, *, size: tuple[int, ...] | None = None, engine: str | None = None,
    batch_size: int = 1,
) -> Part:  # fmt: skip
    """The part of the model that ``node`` needs. ``size``: spatial size of its input, the model's own unless told.

    Raises ConfigError for a network of another size than its layers allow or without a size, EngineError for a
    quantised one.
    """
    if model.quantization is not None:
        fix = "give the model that it was made from"
        raise EngineError(where, f"expected a network with gradients, got one quantised to int8; {fix}")
    if len(model.graph.inputs) != 1:
        raise ShapeError(where, f"expected a network with one input, got {len(model.graph.inputs)}; give another")
    own = model.graph.input_shapes[0]
    known = None if model.preprocessing is None else model.preprocessing.size
    chosen = size or (known if None in own[:-1] else own[:-1])
    if chosen is None or len(chosen) != len(own) - 1:
        raise ConfigError(where, f"expected a size for the open input {own}, got {chosen}; give size=(224, 224), say")
    closed = tuple(int(one or 0) for one in chosen)
    try:
        return Part(resized(model, node, closed, where), model, engine, batch_size)
    except ShapeError as error:
        raise ConfigError(where, f"expected a size that the network's layers allow, got {chosen}: {error}") from None


def resized(model: Model, node: Ref, size: tuple[int, ...], where: str) -> Graph:
    """What ``node`` needs of the network, for inputs of another spatial size. Raises ConfigError for a layer that does
    not allow it."""
    shape, pruned = (*size, model.graph.input_shapes[0][-1]), model.graph.pruned([node])
    entries: list[Any] = [
        (one.name, type(one.op)(shape) if one.name == pruned.inputs[0] else one.op, one.inputs)  # type: ignore[call-arg]
        for one in pruned.nodes.values()
    ]
    try:
        return Graph.from_nodes(entries, pruned.inputs, [node])
    except ShapeError as error:
        raise ConfigError(where, f"expected a size that the network's layers allow, got {size}: {error}") from None


def image_model(model: Model, where: str) -> Preprocessing:
    """The preprocessing of a model of images. Raises ConfigError or DataError for other things."""
    if not isinstance(model, Model):
        raise ConfigError(where, f"expected a Model, got {type(model).__name__}; load one with fovea.load")
    known = model.preprocessing
    if known is None or known.kind != "image":
        what = "none" if known is None else f"that of {known.kind}s"
        fix = "import it with --preprocess, or set model.preprocessing" if known is None else "use one of images"
        raise DataError(where, f"expected a model with preprocessing of images, got {what}; {fix}")
    return known
