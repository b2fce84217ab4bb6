"""The input size of a network that leaves it open, for files and comparisons that need one."""

from __future__ import annotations

from fovea.model import Model

__all__ = ["at_its_size"]


def at_its_size(model: Model) -> Model:
    """The model for the one size that its preprocessing makes, where its network has one input of open size."""
    shapes, known = model.graph.input_shapes, model.preprocessing
    if len(shapes) != 1 or None not in shapes[0] or known is None or len(known.size or ()) != len(shapes[0]) - 1:
        return model
    graph = model.graph.at((*(known.size or ()), shapes[0][-1]))
    return Model.from_store(
        graph, model.store, model.classes, known, model.task, model.name, model.provenance, model.quantization
    )
