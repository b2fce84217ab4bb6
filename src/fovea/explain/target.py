"""What is explained: a class by number or name, one element of any node, or any scalar made of a node's output."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError
from fovea.graph.graph import Ref
from fovea.model import Model
from fovea.tasks.classify import Classification
from fovea.tasks.detect.task import Detection
from fovea.tasks.metrics import class_names, log_softmax, softmax

__all__ = ["SCORES", "Score", "class_index", "default_score", "element", "scored_node", "scores_of"]

Array = npt.NDArray[Any]
Scalars = Callable[[Array], tuple[Array, Array]]
"""Outputs N,... -> one number a sample, N, and its gradient with respect to the outputs, N,..."""
SCORES = ("logit", "probability", "log-probability")


@dataclass(frozen=True, eq=False)
class Score:
    """One number for each sample: a function of one node's output. ``index``: the class, None for other scalars;
    ``box``: x1, y1, x2, y2 in pixels of the network's input, of a box that a detector found; ``place``: the position in
    the node's feature map, where it is a function of one position alone."""

    node: Ref
    name: str
    index: int | None
    scalars: Scalars
    box: tuple[float, float, float, float] | None = None
    place: tuple[int, ...] = ()

    def values(self, outputs: Array) -> Array:
        """Outputs of the node N,... -> N."""
        return self.scalars(outputs)[0]


def class_index(classes: Sequence[str], name: str, where: str = "class map") -> int:
    """The number of a class by its name, by one of the synonyms in it ("macaw"), by words or by its number.

    Raises ConfigError with the names that fit, or those that are near.
    """
    wanted, lowered = name.lower().strip(), [one.lower() for one in classes]
    rules: tuple[Callable[[str], bool], ...] = (
        lambda one: one == wanted,
        lambda one: wanted in one.split(", "),
        lambda one: f" {wanted} " in f" {one.replace(',', '')} ",
    )
    found: list[int] = []
    for rule in rules:
        found = [i for i, one in enumerate(lowered) if rule(one)]
        if len(found) == 1:
            return found[0]
        if found:
            break
    if not found and wanted.isdecimal() and int(wanted) < len(classes):
        return int(wanted)
    if not found and wanted.isdecimal():
        raise ConfigError(where, f"expected a class from 0 to {len(classes) - 1}, got {wanted[:20]}; choose another")
    near = found or _near(lowered, wanted) or list(range(len(classes)))
    names = "; ".join(classes[i] for i in near[:4]) + ("; ..." if len(near) > 4 else "")
    fit = "it fits" if found else "names are"
    raise ConfigError(where, f"expected the name of one class, got {name[:60]!r}; {fit} {names}")


def _near(lowered: Sequence[str], wanted: str) -> list[int]:
    """Classes of which a synonym is spelled nearly so, the nearest first."""
    synonyms = {part: i for i, one in reversed(list(enumerate(lowered))) for part in (*one.split(", "), one)}
    close = difflib.get_close_matches(wanted[:60], synonyms, 4)
    return list(dict.fromkeys(synonyms[one] for one in close))


def scored_node(model: Model) -> Ref:
    """The node whose output holds the logits: a last Softmax is left out."""
    ref = model.graph.outputs[0]
    return model.graph.node(ref.node).inputs[0] if model.gives_probabilities else ref


def default_score(model: Model, wanted: str) -> str:
    """The kind of score that a method explains unless told: a task without probabilities has its values alone."""
    return wanted if isinstance(model.task, (Classification, Detection)) else "logit"


def element(node: Ref, index: Sequence[int], name: str) -> Score:
    """The element at ``index`` of one sample's output."""
    at: Any = (slice(None), *index)

    def scalars(outputs: Array) -> tuple[Array, Array]:
        gradient = np.zeros_like(outputs)
        gradient[at] = 1
        return outputs[at], gradient

    return Score(node, name, None, scalars, place=tuple(index[:-1]))


def scores_of(
    model: Model, targets: Sequence[Any], kind: str, outputs: Callable[[Ref], Array], shape: Callable[[Ref], Any]
) -> list[Score]:
    """One score for each sample. ``outputs``: a node's output for all samples, computed only for a target of None.

    A target is None (the first class), a class by number or name, ``(node, index)`` with the index of one element of a
    sample's output, ``(node, function)`` or, for the network's output, a function: outputs N,... -> scores N and
    their gradients N,... A Score stands for itself: it was resolved for another network of this graph. Of a detector
    None is the surest box, a class the surest box of it, and ``Box`` any found box (``explain/boxes.py``). Raises
    ConfigError.
    """
    from fovea.explain.boxes import box_score  # it is made of what stands here

    if kind not in SCORES:
        raise ConfigError("explain", f"expected score as {', '.join(SCORES)}, got {kind!r}; choose one of them")
    first: Array | None = None
    result = []
    for number, target in enumerate(targets):
        if isinstance(target, Score):
            result.append(target)
            continue
        if callable(target) or _names_node(target):
            result.append(_scalar(model, target, shape))
            continue
        if isinstance(model.task, Detection):
            nodes = model.graph.outputs
            maps = [outputs(one)[number : number + 1] for one in nodes]
            result.append(box_score(model.task, model.classes, nodes, target, kind, maps))
            continue
        node = scored_node(model)
        count = _classes(model, shape(node))
        names: Sequence[str] = class_names(model.classes, count)
        if not isinstance(model.task, Classification):
            names = [f"output {i}" for i in range(count)]
        if target is None:
            first = outputs(node) if first is None else first
            index = int(first[number].argmax())
        else:
            index = _index(target, names)
        result.append(_class_score(model, node, index, names[index], kind))
    return result


def _names_node(target: Any) -> bool:
    return isinstance(target, (tuple, list)) and len(target) == 2 and isinstance(target[0], (str, Ref))


def _scalar(model: Model, target: Any, shape: Callable[[Ref], Any]) -> Score:
    """The score of a function, of a node and a function, or of a node and an index."""
    if callable(target):
        return Score(model.graph.outputs[0], getattr(target, "__name__", "score"), None, target)
    node = Ref(target[0]) if isinstance(target[0], str) else target[0]
    sizes, what = shape(node), target[1]
    if callable(what):
        return Score(node, f"{node.node}: {getattr(what, '__name__', 'score')}", None, what)
    index = tuple(what) if isinstance(what, (tuple, list)) else (what,)
    whole = all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in index)
    inside = whole and len(index) == len(sizes) and all(-size <= i < size for i, size in zip(index, sizes, strict=True))
    if not inside:
        raise ConfigError(
            "explain", f"expected the index of one element of {node.node} with shape {sizes}, got {what!r}; give one"
        )
    place = ",".join(str(i) for i in index)
    return element(node, [int(i) % size for i, size in zip(index, sizes, strict=True)], f"{node.node}[{place}]")


def _classes(model: Model, sizes: Any) -> int:
    if len(model.graph.outputs) != 1 or len(sizes) != 1:
        found = [tuple(one) for one in model.graph.output_shapes]
        raise ConfigError(
            "explain", f"expected a network with outputs N,classes, got {found}; give the target as (node, index), or "
            f"--target {model.graph.outputs[0].node}:{','.join('0' * len(sizes))} for one number of its output",
        )  # fmt: skip
    return int(sizes[0])


def _index(target: Any, names: Sequence[str]) -> int:
    if isinstance(target, str):
        return class_index(names, target, "explain")
    if isinstance(target, bool) or not isinstance(target, (int, np.integer)) or not 0 <= target < len(names):
        raise ConfigError(
            "explain", f"expected a class from 0 to {len(names) - 1} or its name, got {target!r}; choose another"
        )
    return int(target)


def _class_score(model: Model, node: Ref, index: int, name: str, kind: str) -> Score:
    """Logit z_k; probability p_k = softmax(z / T)_k with dp_k/dz = p_k (e_k - p) / T; its logarithm: (e_k - p) / T."""
    if kind == "logit":
        one = element(node, [index], name)
        return Score(node, name, index, one.scalars)
    if not isinstance(model.task, Classification):
        raise ConfigError("explain", f"expected score 'logit' for a task of {model.task.kind}, got {kind!r}; choose it")
    temperature = model.task.temperature

    def scalars(outputs: Array) -> tuple[Array, Array]:
        shares = softmax(outputs / temperature)
        step = -shares / temperature
        step[:, index] += 1 / temperature
        own = shares[:, index]
        if kind == "probability":
            return own, own[:, None] * step
        return log_softmax(outputs / temperature)[:, index], step

    return Score(node, f"{kind} of {name}", index, scalars)
