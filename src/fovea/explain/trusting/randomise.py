"""Cascading randomisation: the network with its top layers' weights drawn anew, one layer after the other downwards.

A map that explains the network must change with it; one that does not shows the image. Source: Adebayo et al. 2018,
"Sanity checks for saliency maps", section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fovea.graph.graph import Ref
from fovea.graph.initialize import initialize
from fovea.model import Model

__all__ = ["cascade", "layers_from_the_top", "with_plain_samples"]


def layers_from_the_top(model: Model, node: Ref) -> tuple[str, ...]:
    """The layers with parameters that the output ``node`` depends on, the last one first."""
    part = model.graph.pruned([node])
    return tuple(node.name for node in reversed(list(part.nodes.values())) if node.parameters)


def cascade(model: Model, node: Ref, seed: int, most: int) -> Iterator[tuple[str, Model]]:
    """The lowest randomised layer, and the network with it and all above drawn anew; at most ``most`` such networks.
    ``node``: whose output is explained, which is where "above" begins.

    They lie evenly between the top layer alone and all layers. Weights are drawn as a new network's are, once: a
    deeper cascade keeps what a shallower one has drawn. Statistics of norms start anew, too.
    """
    layers = layers_from_the_top(model, node)
    stops = np.unique(np.linspace(1, len(layers), min(most, len(layers))).round().astype(int))
    drawn = initialize(model.graph, seed, "kaiming").tensors()
    for count in stops.tolist():
        store = model.store.copy()
        chosen = set(layers[:count])
        store.load({path: values for path, values in drawn.items() if path.rpartition(".")[0] in chosen})
        yield layers[count - 1], replaced(model, store)


def replaced(model: Model, store: object) -> Model:
    """The same network with other numbers."""
    return Model.from_store(
        model.graph, store, model.classes, model.preprocessing, model.task, model.name  # type: ignore[arg-type]
    )  # fmt: skip


def with_plain_samples(model: Model, size: Sequence[int]) -> Model:
    """The same network for samples as it sees them: nothing is resized, cut or standardised any more."""
    known = model.preprocessing
    if known is None:
        return model
    plain = replace(known, size=tuple(size), resize="none", resize_to=None, per_sample=False)
    return Model.from_store(
        model.graph, model.store, model.classes, plain, model.task, model.name, quantization=model.quantization
    )
