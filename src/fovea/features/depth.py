"""How much a network knows at which depth: a linear probe behind every block, from one pass over the data."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fovea import progress
from fovea.data.dataset import Dataset
from fovea.data.load import dataset
from fovea.engines.base import Engine
from fovea.errors import DataError
from fovea.features.extract import codes
from fovea.features.nodes import ACTIVATIONS, behind, penultimate
from fovea.features.probe import Probe, linear_probe
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.receptive import receptive_fields
from fovea.model import Model

__all__ = ["DepthProbe", "DepthProbes", "depths", "probe_depths"]

MOST = 12
"""Depths that are probed when nobody names them."""
_ENDS = ACTIVATIONS | {"maxpool", "avgpool", "globalavgpool", "globalmaxpool", "add", "concat",
                       "conv", "dense", "multiply", "batchnorm", "layernorm", "groupnorm", "layerscale"}  # fmt: skip
"""Kinds of op whose value may be taken; all others move numbers about."""


@dataclass(frozen=True)
class DepthProbe:
    """One depth: the ``layer`` as it was named, the ``node`` whose value was taken, ``channels`` of its code and the
    ``field`` (side of the receptive field in pixels of the input, None: everything), its ``probe``, and that one's
    ``accuracy`` on the validation split (None: there is none)."""

    layer: str
    node: str
    channels: int
    field: int | None
    probe: Probe
    accuracy: float | None


@dataclass(frozen=True)
class DepthProbes:
    """Probes in the order of the network, ``train`` and ``val`` samples that they were made and judged with."""

    model: str
    data: str
    train: int
    val: int
    probes: tuple[DepthProbe, ...]

    @property
    def folds(self) -> int:
        """In so many folds the training samples were held out; 0 where no class has two."""
        return max(one.probe.folds for one in self.probes)

    @property
    def best(self) -> DepthProbe:
        """The depth with the best cross-validated accuracy; among equals the deepest. The validation split, which
        judges it, has no part in the choice."""
        return max(
            reversed(self.probes), key=lambda one: -1.0 if math.isnan(one.probe.accuracy) else one.probe.accuracy
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: what could not be measured is null. ``accuracy`` with its ``spread`` is that on held-out
        folds of the training split, ``val`` that on the validation split."""
        layers = [
            {
                "layer": one.layer, "node": one.node, "size": one.channels, "field": one.field, "c": one.probe.c,
                "accuracy": _number(one.probe.accuracy), "spread": _number(one.probe.spread), "val": one.accuracy,
            }
            for one in self.probes
        ]  # fmt: skip
        facts = {"model": self.model, "data": self.data, "train": self.train, "val": self.val, "folds": self.folds}
        return {**facts, "best": self.best.layer, "layers": layers}


def probe_depths(
    model: Model,
    data: Dataset | str | os.PathLike[str],
    layers: Sequence[str] | None = None,
    *,
    pooling: str = "mean",
    seed: int = 0,
    folds: int = 5,
    engine: str | Engine | None = None,
    cache: bool = True,
) -> DepthProbes:
    """Linear probes on the codes of several layers, learnt on the train split and judged on the validation split.

    ``layers`` None: at most twelve, spread from the first activation to the features that the classifier reads. Their
    codes come from one pass over each split. Options as in ``fovea.codes`` and ``linear_probe``. The accuracies say
    where in a pretrained network the features for these data lie. Raises DataError for data without classes.
    Source: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes".

    >>> found = fovea.features.probe_depths(model, "cats_dogs")  # doctest: +SKIP
    >>> [(one.layer, one.accuracy) for one in found.probes]  # doctest: +SKIP
    """
    opened = data if isinstance(data, Dataset) else dataset(data)
    if opened.task != "classification":
        raise DataError("probe depths", f"expected data with classes, got {opened.task} from {opened.name}")
    names = list(depths(model.graph) if layers is None else layers)
    given = {
        split: part for split in ("train", "val") if (part := opened.splits.get(split)) is not None and part.listed
    }
    if "train" not in given:
        raise DataError("probe depths", f"expected a train split, got none in {opened.name}; use other data")
    found = {
        name: codes(model, part, names, pooling=pooling, engine=engine, cache=cache) for name, part in given.items()
    }
    fields = _fields(model, opened)
    probes = []
    with progress.bar(len(names), "probes", unit="layers") as bar:
        for layer in _in_order(model.graph, found["train"].nodes):
            probe = linear_probe(found["train"][layer], given["train"].targets, opened.classes, seed=seed, folds=folds)
            accuracy = probe.score(found["val"][layer], given["val"].targets) if "val" in given else None
            node = found["train"].nodes[layer]
            probes.append(DepthProbe(layer, node, len(probe.weight), fields.get(node), probe, accuracy))
            bar.update(1)
    sizes = [len(given[name]) if name in given else 0 for name in ("train", "val")]
    return DepthProbes(model.name, opened.name, sizes[0], sizes[1], tuple(probes))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _in_order(graph: Graph, nodes: dict[str, str]) -> list[str]:
    place = {name: index for index, name in enumerate(graph.nodes)}
    return sorted(nodes, key=lambda layer: place[nodes[layer]])


def _fields(model: Model, data: Dataset) -> dict[str, int | None]:
    known = model.preprocessing
    size = data.input_shape[:-1] if known is None or known.size is None else known.size
    shape = tuple(
        own if own is not None else given for own, given in zip(model.graph.input_shapes[0], size, strict=False)
    )
    fields = receptive_fields(model.graph.at((*shape, model.graph.input_shapes[0][-1])))
    return {
        name: None if not seen or seen[0].jump == 0 else max(one.size for one in seen) for name, seen in fields.items()
    }


def depths(graph: Graph, most: int = MOST) -> list[str]:
    """Nodes at which everything that the classifier will learn of the input passes through one value, in order.

    They end a layer or a block: an activation, a pooling, a residual addition, a concatenation. Where there are more
    than ``most``, ends of blocks (scopes) come before what lies inside, and the rest is spread evenly; the features
    that the classifier reads are the last in any case.
    """
    last = penultimate(graph)
    candidates = [name for name in _passages(graph.pruned([Ref(last)])) if name == last or _ends(graph, name)]
    candidates = [name for name in candidates if name == last or not _averaged(graph, name)]
    if len(candidates) <= most:
        return candidates
    ends = [
        name for name, after in zip(candidates, [*candidates[1:], ""], strict=True) if _scope(name) != _scope(after)
    ]
    chosen = _spread(candidates, ends if _scope(ends[0]) or len(ends) > 1 else candidates, [last], most)
    return _spread(candidates, candidates, chosen, most)


def _passages(graph: Graph) -> list[str]:
    """Nodes that every way from the inputs to the output goes through, without the inputs."""
    names = [name for name, node in graph.nodes.items() if node.op.kind != "constant"]
    place = {name: index for index, name in enumerate(names)}
    readers: dict[str, int] = {}
    for name in names:
        for ref in graph.node(name).inputs:
            readers[ref.node] = max(readers.get(ref.node, 0), place[name])
    found, reach = [], 0
    for index, name in enumerate(names):
        if reach <= index and graph.node(name).inputs:
            found.append(name)
        reach = max(reach, readers.get(name, 0))
    return found


def _ends(graph: Graph, name: str) -> bool:
    return graph.node(name).op.kind in _ENDS and behind(graph, name) == name


def _averaged(graph: Graph, name: str) -> bool:
    """Whether only a global average reads a map: both have the same code."""
    readers: list[Node] = [node for node in graph.nodes.values() if any(ref.node == name for ref in node.inputs)]
    return [node.op.kind for node in readers] == ["globalavgpool"]


def _scope(name: str) -> str:
    return name.rpartition(".")[0]


def _spread(order: list[str], pool: list[str], chosen: list[str], most: int) -> list[str]:
    """``chosen`` and more of ``pool``, each time what is farthest from those chosen; at most so many, in order."""
    place = {name: index for index, name in enumerate(order)}
    taken = list(chosen)
    while len(taken) < most and (rest := [name for name in pool if name not in taken]):
        taken.append(max(rest, key=lambda name: min(abs(place[name] - place[one]) for one in taken)))
    return sorted(taken, key=lambda name: place[name])
