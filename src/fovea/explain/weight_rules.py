"""Rules of relevance propagation that use other weights: layers beside those of the network, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.graph.fold import folded
from fovea.graph.graph import Graph
from fovea.graph.store import ParameterStore
from fovea.ops import Clip

__all__ = ["Reweighted", "RuledNetwork", "never_negative", "reweighted"]

Array = npt.NDArray[Any]
_NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "hardsigmoid", "softplus", "exp", "sqrt", "abs", "softmax")
_AS_ITS_INPUTS = (
    "maxpool", "globalmaxpool", "avgpool", "adaptiveavgpool", "globalavgpool", "flatten", "reshape", "transpose",
    "slice", "split", "channelshuffle", "dropout", "stochasticdepth", "add", "multiply", "concat", "resize",
)  # fmt: skip


@dataclass(frozen=True)
class Reweighted:
    """Which kinds of layer take other weights: ``change(values, is_bias)``, under a key of its own."""

    key: tuple[Any, ...]
    kinds: tuple[str, ...]
    change: Callable[[Array, bool], Array]


@dataclass(frozen=True, eq=False)
class RuledNetwork:
    """``graph``: batch norms folded. ``beside``: with a layer ``NAME.rule`` beside each ``ruled`` one, and ``numbers``
    for both. ``gated_numbers``: of ``graph``, where ruled layers have the other weights."""

    graph: Graph
    beside: Graph
    numbers: ParameterStore
    gated_numbers: ParameterStore
    ruled: frozenset[str]


def reweighted(graph: Graph, store: ParameterStore, how: Reweighted) -> RuledNetwork:
    """Layers of these kinds whose inputs are never negative, with their other weights. ``store`` may hold more."""
    part = ParameterStore(
        {path: store.parameters[path] for path in graph.parameters()},
        {path: store.buffers[path] for path in graph.buffers()}, store.seed,
    )  # fmt: skip
    whole, numbers = folded(graph, part)
    positive = never_negative(whole)
    ruled = [n for n in whole.nodes.values() if n.op.kind in how.kinds and all(r.node in positive for r in n.inputs)]
    entries: list[Any] = []
    for node in whole.nodes.values():
        entries.append((node.name, node.op, node.inputs))
        if node in ruled:
            entries.append((f"{node.name}.rule", replace(node.op), node.inputs))  # type: ignore[type-var]
    changed = {
        path: how.change(numbers.parameters[path], path.endswith(".bias")).astype(np.float32)
        for node in ruled
        for path in node.parameters
    }
    both = dict(numbers.parameters)
    for path, values in changed.items():
        layer, _, name = path.rpartition(".")
        both[f"{layer}.rule.{name}"] = values
    return RuledNetwork(
        whole, Graph.from_nodes(entries, whole.inputs, whole.outputs), ParameterStore(both, numbers.buffers),
        ParameterStore({**numbers.parameters, **changed}, numbers.buffers), frozenset(node.name for node in ruled),
    )  # fmt: skip


def never_negative(graph: Graph) -> set[str]:
    """Nodes whose outputs cannot be below zero, by what they are made of."""
    found: set[str] = set()
    for node in graph.nodes.values():
        inputs = bool(node.inputs) and all(ref.node in found for ref in node.inputs)
        keeps = node.op.kind in _AS_ITS_INPUTS and getattr(node.op, "mode", "") != "bicubic"  # its weights change sign
        keeps |= node.op.kind == "pad" and getattr(node.op, "value", 0.0) >= 0
        own = node.op.kind in _NEVER_NEGATIVE or (isinstance(node.op, Clip) and node.op.low >= 0)
        if own or (keeps and inputs):
            found.add(node.name)
    return found
