"""Which number of a network an image is made for: names, channels and classes become a node and an objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fovea.errors import ConfigError, GraphError
from fovea.explain.target import class_index, scored_node
from fovea.graph.graph import Graph, Ref
from fovea.model import Model
from fovea.tasks.metrics import class_names

__all__ = ["MONOTONE", "Goal", "channel_goal", "class_goal", "given_to"]

MONOTONE = frozenset({
    "relu", "relu6", "leakyrelu", "sigmoid", "tanh", "hardsigmoid", "elu", "selu", "softplus", "clip",
})  # fmt: skip
"""Activations that grow with their input: both are largest for the same image, but only the input always has slope."""


_POOLED = frozenset({"globalavgpool", "globalmaxpool", "maxpool", "avgpool"})


@dataclass(frozen=True)
class Goal:
    """``node``: whose output is climbed. ``channels`` of it, with their ``names``; ``position``: of a neuron."""

    node: Ref
    channels: tuple[int, ...]
    names: tuple[str, ...]
    position: tuple[int, ...] | None


def given_to(graph: Graph, name: str, everywhere: bool = True) -> Ref:
    """What an activation is given, when it only grows with it, else the node itself.

    A channel that rectifies to 0 everywhere has no gradient, its input has. The mean over a whole rectified map counts
    as the map: some networks end in one for each class. So do pooled ones, where all positions are climbed
    (``everywhere``).
    """
    node = graph.node(name)
    pooled = _POOLED if everywhere else frozenset({"globalavgpool"})
    if node.op.kind in pooled and graph.node(node.inputs[0].node).op.kind in MONOTONE:
        node = graph.node(node.inputs[0].node)
    return node.inputs[0] if node.op.kind in MONOTONE else Ref(name)


def channel_goal(graph: Graph, layer: str, channels: Any, position: Any) -> Goal:
    """Channels of a layer (one or several numbers); ``position``: that of a neuron, "centre", or None for all.

    ``graph`` has closed sizes. Raises GraphError with near names, ConfigError for a channel or position out of range.
    """
    given = graph.shape(layer)
    if graph.node(layer).op.kind in ("input", "constant") or not given:
        raise GraphError(layer, f"expected a layer with channels, got {graph.node(layer).op.kind}; see fovea summary")
    node = given_to(graph, layer, position is None)
    shape = tuple(int(size or 0) for size in graph.shape(node))
    chosen = checked_channels(layer, channels, shape[-1])
    place = _position(layer, position, shape[:-1])
    at = "" if place is None or not place else f" at {','.join(map(str, place))}"
    return Goal(node, chosen, tuple(f"{layer} channel {channel}{at}" for channel in chosen), place)


def checked_channels(layer: str, channels: Any, count: int) -> tuple[int, ...]:
    """Channel numbers of a layer with ``count`` of them. Raises ConfigError."""
    given = list(channels) if isinstance(channels, (Sequence, np.ndarray, range)) else [channels]
    for one in given or [None]:
        if isinstance(one, bool) or not isinstance(one, (int, np.integer)) or not 0 <= one < count:
            raise ConfigError(layer, f"expected channels from 0 to {count - 1}, got {one!r}; choose one of them")
    return tuple(int(one) for one in given)


def _position(layer: str, position: Any, spatial: tuple[int, ...]) -> tuple[int, ...] | None:
    if position is None or not spatial:
        return None
    if isinstance(position, str) and position == "centre":
        return tuple(size // 2 for size in spatial)
    place = tuple(position) if isinstance(position, (tuple, list)) else (position,)
    whole = all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in place)
    if not whole or len(place) != len(spatial) or not all(0 <= i < n for i, n in zip(place, spatial, strict=True)):
        size = "x".join(map(str, spatial))
        raise ConfigError(layer, f"expected a position inside of {size}, or centre, got {position!r}; give one")
    return tuple(int(i) for i in place)


def class_goal(model: Model, graph: Graph, targets: Any) -> Goal:
    """The logits of classes, by number or name; a network that ends in Softmax is climbed before it."""
    ref = scored_node(model)
    shape = graph.shape(ref)
    if (
        model.task.kind != "classification"
        or len(model.graph.outputs) != 1
        or math.prod(s or 0 for s in shape[:-1]) != 1
    ):
        raise ConfigError(
            "visualise", f"expected a classifier with outputs N,classes for a target, got one of {model.task.kind} "
            f"with {('N', *shape)}; name a layer and a channel",
        )  # fmt: skip
    names = class_names(model.classes, int(shape[-1] or 0))
    given = list(targets) if isinstance(targets, (list, tuple, np.ndarray, range)) else [targets]
    chosen = [class_index(names, one, "visualise") if isinstance(one, str) else one for one in given]
    checked = checked_channels("classes", chosen, len(names))
    node = given_to(graph, ref.node) if ref.index == 0 else ref
    return Goal(node, checked, tuple(names[i] for i in checked), None)
