"""A new head on a trained network: other classes, the weights of a probe, an earlier layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError, ShapeError
from fovea.graph.head import find_head, with_head, with_head_at
from fovea.graph.initialize import initialize
from fovea.model import Model
from fovea.tasks.classify import Classification
from fovea.tasks.metrics import accuracy

__all__ = ["fresh", "head_accuracy", "headed_at", "kept_classes", "put_into_head", "replace_head"]

Array = npt.NDArray[Any]


def replace_head(model: Model, classes: Sequence[str], *, seed: int = 0) -> Model:
    """The network with a head for other classes: logits N,len(classes). Everything below is copied with its weights.

    The head is the Dense layer, or the 1x1 convolution before the mean over all positions, that gives one number a
    class. A class that the model knows by the same name keeps its weights and bias, the others begin with small random
    ones (uniform within +-1/sqrt(fan_in), drawn with ``seed``; bias 0). Softmax or an activation behind the head, and
    padding of a 1x1 convolution, are left out: the loss takes logits, which may have any value.

    Preprocessing stays; the task becomes classification without a fitted temperature. Raises GraphError, naming the
    node, for a network that ends in another way; ConfigError for class names that make no sense.

    >>> import fovea
    >>> digits = fovea.models.lenet5(classes=list("0123456789"))
    >>> replace_head(digits, ["7", "other"]).parameters()["dense3.weight"].shape
    (84, 2)
    """
    names = _names(model, classes)
    head = find_head(model.graph)
    known = {name: index for index, name in enumerate(model.classes or ())}
    graph, store = with_head(model.graph, model.store, head, [known.get(name) for name in names], seed)
    return Model.from_store(
        graph, store, names, model.preprocessing, Classification(), model.name, dict(model.provenance)
    )


def kept_classes(model: Model, classes: Sequence[str]) -> list[str]:
    """The classes that ``replace_head`` finds in the model by name."""
    return [name for name in classes if name in (model.classes or ())]


def _names(model: Model, classes: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(model, Model):
        raise ConfigError("replace_head", f"expected a Model, got {type(model).__name__}; load one")
    if model.quantization is not None:
        fix = "take the model that it was made from"
        raise ConfigError("replace_head", f"expected a float32 model, got one quantised to int8; {fix}")
    if isinstance(classes, str) or not isinstance(classes, (Sequence, np.ndarray)):
        raise ConfigError("replace_head", f"expected classes as a list of names, got {classes!r}; give ['cat', 'dog']")
    names = tuple(map(str, classes))
    if len(names) < 2 or len(set(names)) != len(names):
        raise ConfigError("replace_head", f"expected two or more different class names, got {list(names)[:8]}")
    return names


def put_into_head(model: Model, weight: Array, bias: Array) -> None:
    """Let the head be a linear classifier on its features, weight D,K and bias K, as a linear probe gives them.

    Exact for a 1x1 convolution as well: the mean of a linear function is that of the mean. Raises ShapeError.
    """
    node = find_head(model.graph).node
    own = model.store.parameters[f"{node}.weight"]
    if own.reshape(-1, own.shape[-1]).shape != weight.shape:
        got = f"weights of shape {weight.shape}"
        raise ShapeError(node, f"expected {own.shape} as the head has, got {got}; make the probe on what it reads")
    model.store.load({f"{node}.weight": weight.reshape(own.shape), f"{node}.bias": bias}, node)


def head_accuracy(model: Model, codes: Array, targets: Array) -> float:
    """The share of samples that the head puts right, from the codes N,D that it reads."""
    node = find_head(model.graph).node
    weight, bias = (model.store.parameters[f"{node}.{name}"] for name in ("weight", "bias"))
    return accuracy(codes @ weight.reshape(-1, weight.shape[-1]) + bias, targets)


def headed_at(model: Model, features: str, classes: Sequence[str], seed: int = 0) -> Model:
    """The network up to the node ``features``, the mean over its positions, and a fresh Dense layer for the classes."""
    names = _names(model, classes)
    graph, store, _ = with_head_at(model.graph, model.store, features, len(names), seed)
    return Model.from_store(
        graph, store, names, model.preprocessing, Classification(), model.name, dict(model.provenance)
    )


def fresh(model: Model, seed: int) -> Model:
    """The same network with starting values in place of its weights: what training from scratch begins with."""
    from fovea.models.registry import MODELS

    known = MODELS.get(model.name)
    store = initialize(model.graph, seed, "kaiming" if known is None else known.initializer)
    constants = {path: model.store.buffers[path] for path in store.buffers if path.endswith(".value")}
    store.load(constants)
    provenance = {name: value for name, value in model.provenance.items() if name != "weights"}
    made = Model.from_store(
        model.graph, store, model.classes, model.preprocessing, replace(model.task), model.name, provenance
    )
    return made
