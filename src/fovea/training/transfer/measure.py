"""What can be known about data before training on them: how many, how well each depth of the network tells the classes
apart, and what the network took them for so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.dataset import Dataset
from fovea.engines.base import Engine
from fovea.features import DepthProbes, codes, probe_depths
from fovea.features.depth import depths
from fovea.graph.graph import Graph
from fovea.model import Model
from fovea.tasks.metrics import class_names, softmax

__all__ = ["Depth", "Measured", "Recognition", "measure", "recognition", "standing"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Depth:
    """A linear probe behind one node: ``accuracy`` on held-out folds of train with its ``spread`` over them (standard
    deviation), ``val`` on the validation split; ``size`` of a code."""

    layer: str
    size: int
    accuracy: float
    spread: float
    val: float | None


@dataclass(frozen=True)
class Recognition:
    """What the source model itself says about the images, without any training.

    ``confidence``: mean of its highest probability. ``standing``: share of images whose class is told by the source
    class that the model names, when every source class stands for the class that most other images with it have;
    ``chance`` is the share of the largest class. ``names``: for each class the source classes named most often, with
    their shares.
    """

    confidence: float
    standing: float
    chance: float
    source_classes: int
    names: Mapping[str, tuple[tuple[str, float], ...]]

    @property
    def gain(self) -> float:
        """``(standing - chance) / (1 - chance)``: at 0 the source classes say nothing of the classes, at 1 all."""
        return (self.standing - self.chance) / max(1.0 - self.chance, 1e-9)


@dataclass(frozen=True)
class Measured:
    """Training images by class, probes from input to head, and what the source model recognises (None: it cannot be
    asked)."""

    per_class: Mapping[str, int]
    depths: tuple[Depth, ...]
    recognition: Recognition | None

    @property
    def images(self) -> int:
        """Of the training split."""
        return sum(self.per_class.values())

    @property
    def median(self) -> float:
        """Training images of a class, the median."""
        return float(np.median(list(self.per_class.values())))

    def best(self, errors: float = 1.0) -> Depth:
        """The depth with the best probe; the last unless an earlier one beats it by so many standard errors.

        The error is that of a share, ``sqrt(p (1 - p) / n)``, of the last layer's probe (p at most 1 - 1/n): with few
        images only a large difference counts.
        """
        last = self.depths[-1]
        if math.isnan(last.accuracy):
            return last
        share = min(last.accuracy, 1.0 - 1.0 / self.images)
        error = math.sqrt(share * (1.0 - share) / self.images)
        best = max(reversed(self.depths), key=lambda one: one.accuracy)
        return best if best.accuracy > last.accuracy + errors * error else last

    def to_dict(self) -> dict[str, Any]:
        """As JSON: nan, which it does not have, becomes null."""
        record = asdict(self)
        for depth in record["depths"]:
            depth.update({name: None for name, value in depth.items() if value != value})
        return record


def measure(
    model: Model, data: Dataset, *, seed: int = 0, engine: str | Engine | None = None
) -> tuple[Measured, DepthProbes]:
    """Measure on the training split, one pass of the network over it; the probes themselves go with it."""
    layers, output = [*_flattened(model.graph), *depths(model.graph)], model.graph.outputs[0].node
    found = codes(model, data.train, [*layers, output], engine=engine)  # kept: the probes find them again
    probes = probe_depths(model, data, layers, seed=seed, engine=engine)
    counts = dict(zip(data.classes, map(int, data.train.class_counts()), strict=True))
    by_depth = tuple(
        Depth(one.node, one.channels, one.probe.accuracy, one.probe.spread, one.accuracy) for one in probes.probes
    )
    return Measured(counts, by_depth, recognition(model, found[output], data.train.targets, data.classes)), probes


def _flattened(graph: Graph) -> list[str]:
    """Maps as the first dense layer sees them: with all positions, which a mean would lose."""
    vectors = [node for node in graph.nodes.values() if node.op.kind == "flatten" and len(node.input_shapes[0]) > 1]
    return [node.name for node in vectors if any(size != 1 for size in node.input_shapes[0][:-1])]


def recognition(model: Model, outputs: Array, targets: Rows, classes: tuple[str, ...]) -> Recognition | None:
    """What the outputs N,K of a classifier say about images of other classes; None for a model that is none."""
    if model.task.kind != "classification" or outputs.ndim != 2 or outputs.shape[1] < 2:
        return None
    shares = outputs if model.gives_probabilities else softmax(outputs / getattr(model.task, "temperature", 1.0))
    named, own = shares.argmax(axis=1), class_names(model.classes, outputs.shape[1])
    often = {}
    for index, name in enumerate(classes):
        here = np.bincount(named[targets == index], minlength=len(own))
        best = [place for place in np.argsort(-here, kind="stable")[:3] if here[place]]
        often[name] = tuple((own[place], float(here[place] / max(1, here.sum()))) for place in best)
    chance = float(np.bincount(targets).max() / len(targets))
    return Recognition(
        float(shares.max(axis=1).mean()), standing(named, targets, len(classes)), chance, len(own), often
    )


def standing(named: Rows, targets: Rows, num_classes: int) -> float:
    """The share of samples whose target is the most frequent one among the OTHER samples of the same ``named`` class.

    Leaving each sample out keeps a source class that was named once from telling anything; of equally frequent targets
    the first counts.
    """
    counts = np.zeros((int(named.max(initial=0)) + 1, num_classes), np.int64)
    np.add.at(counts, (named, targets), 1)
    others = counts[named]  # N,K
    others[np.arange(len(targets)), targets] -= 1
    right = (others.argmax(axis=1) == targets) & (others.max(axis=1) > 0)
    return float(right.mean())
