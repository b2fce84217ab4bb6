"""Scores and their gradients with respect to any node, on any engine: plans compiled with ``wrt`` and kept per model.

Methods that alter the network (another backward rule, gates) give a ``Variant``: a function that makes the graph and
its numbers, and a key under which its plans are kept.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.base import Engine, Plan
from fovea.engines.registry import get_engine
from fovea.errors import ConfigError, ShapeError
from fovea.explain.target import Score, scores_of
from fovea.graph.graph import Graph, Ref
from fovea.graph.store import ParameterStore
from fovea.graph.summary import summarize
from fovea.model import Model

__all__ = [
    "PLAIN", "Gradients", "Numbers", "Variant", "capacity_of", "closed", "forward_of", "gradient_of", "gradients",
    "outputs_of", "remembered",
]  # fmt: skip

Array = npt.NDArray[Any]
_BYTES = 192 << 20
"""Activations that a plan with gradients keeps stay below this, as long as one sample does."""
_MOST_SAMPLES = 32
_CACHED_PLANS, _REMEMBERED = 4, 24


Numbers = ParameterStore | None
"""Of a variant: None for the model's own."""


def _unchanged(graph: Graph) -> tuple[Graph, Numbers]:
    """The network as it is, with the model's own numbers."""
    return graph, None


@dataclass(frozen=True)
class Variant:
    """Another network made of a model's: ``make(graph)`` gives its graph and its numbers.

    ``graph`` is the model's at closed sizes, pruned to what the score needs. Plans are kept under ``key``.
    """

    key: tuple[Any, ...] = ()
    make: Callable[[Graph], tuple[Graph, Numbers]] = _unchanged


PLAIN = Variant()
"""The network as it is."""


@dataclass(frozen=True, eq=False)
class Gradients:
    """``scores``: N. ``wrt``: node -> gradient of each sample's score, N,.... ``kept``: node -> output, N,...."""

    scores: Array
    wrt: Mapping[str, Array]
    kept: Mapping[str, Array]


class _Plans:
    """The plans of one model, the last used last; one caller at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.plans: OrderedDict[Any, tuple[Graph, ParameterStore, Plan]] = OrderedDict()
        self.remembered: OrderedDict[Any, tuple[Any, Any]] = OrderedDict()


_models: weakref.WeakKeyDictionary[Model, _Plans] = weakref.WeakKeyDictionary()


def _plans(model: Model) -> _Plans:
    return _models.setdefault(model, _Plans())


def gradient_of(
    model: Model,
    x: Array,
    target: Any = None,
    wrt: Sequence[str] = (),
    *,
    keep: Sequence[str] = (),
    score: str = "logit",
    engine: str | None = None,
) -> Gradients:
    """The gradient of one number of each sample: network input N,*spatial,C -> with respect to the nodes ``wrt``.

    ``wrt``: names of nodes, the network's input unless told. ``keep``: nodes whose outputs are wanted too. ``target``:
    as of ``attributions``, one for all samples or a list with one for each. Plans are kept: the second call is fast.
    Raises GraphError with near names for a node that does not exist, EngineError for a network without gradients.
    """
    x = np.asarray(x)
    count = len(x)
    if x.dtype.kind != "f" or not count:
        got = f"{x.dtype} {x.shape}"
        raise ShapeError("gradient", f"expected float32 network input N,*spatial,C, got {got}; preprocess images first")
    targets = target if isinstance(target, list) else [target] * count
    if len(targets) != count:
        raise ConfigError("gradient", f"expected a target for each of {count} samples, got {len(targets)}; give one")
    shape = tuple(x.shape[1:])

    def of(ref: Ref) -> Array:
        return outputs_of(model, x, ref, engine)

    scores = scores_of(model, targets, score, of, closed(model, shape).shape)
    return gradients(model, x, scores, tuple(wrt), keep=tuple(keep), engine=engine)


def gradients(
    model: Model,
    x: Array,
    scores: Sequence[Score],
    wrt: Sequence[str] = (),
    *,
    keep: Sequence[str] = (),
    engine: str | None = None,
    variant: Variant = PLAIN,
    gates: Mapping[str, Array] | None = None,
    outputs: Array | None = None,
    room: int | None = None,
) -> Gradients:
    """As ``gradient_of``, for resolved scores (one for each sample, or one for all) of a variant of the network.

    ``gates``: the variant's further inputs by name, N,...; ``outputs``: what the scores are made of, N,..., where that
    is not what the variant computes. ``room``: how many samples at once, of callers that come again with as many or
    fewer: they get the same plan.
    """
    node = scores[0].node
    names = tuple(wrt) or (model.graph.inputs[0],)
    shape = tuple(x.shape[1:])
    room = capacity_of(model, shape, len(x)) if room is None else room
    parts: list[tuple[Array, list[Array], list[Array]]] = []
    with _compiled(model, shape, node, room, names, tuple(keep), engine, variant) as plan:
        extra = [(gates or {})[name] for name in plan.spec.inputs[1:]]
        for start in range(0, len(x), room):
            piece = slice(start, start + room)
            out = plan.forward(x[piece], *(array[piece] for array in extra))
            values, seeds = _scalars(scores, out if outputs is None else outputs[piece], start)
            kept = [plan.kept[name] for name in keep]
            found = plan.backward(seeds)
            parts.append((values, [found[name] for name in names], kept))
    return Gradients(
        np.concatenate([part[0] for part in parts]),
        {name: _joined([part[1][i] for part in parts]) for i, name in enumerate(names)},
        {name: _joined([part[2][i] for part in parts]) for i, name in enumerate(keep)},
    )


def outputs_of(model: Model, x: Array, node: Ref, engine: str | None = None, room: int | None = None) -> Array:
    """A node's output for network input N,*spatial,C, in inference: also of a quantised network."""
    return forward_of(model, x, node, engine=engine, room=room)[0]


def forward_of(
    model: Model, x: Array, node: Ref, keep: Sequence[str] = (), *, engine: str | None = None, variant: Variant = PLAIN,
    room: int | None = None,
) -> tuple[Array, dict[str, Array]]:  # fmt: skip
    """A node's output for network input N,*spatial,C, in inference, and those of the nodes ``keep`` by name."""
    shape = tuple(x.shape[1:])
    room = capacity_of(model, shape, len(x), backward=bool(keep)) if room is None else room
    parts: list[Array] = []
    kept: list[dict[str, Array]] = []
    with _compiled(model, shape, node, room, (), tuple(keep), engine, variant) as plan:
        for start in range(0, len(x), room):
            parts.append(plan.forward(x[start : start + room]))
            kept.append(plan.kept)
    return _joined(parts), {name: _joined([one[name] for one in kept]) for name in keep}


def remembered(model: Model, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """``make()``, made once for this key as long as the model keeps its graph and its numbers are unchanged."""
    known, state = _plans(model).remembered, (model.graph, model.store, model.store.version)
    if key not in known or any(a is not b and a != b for a, b in zip(known[key][0], state, strict=True)):
        known[key] = (state, make())
        while len(known) > _REMEMBERED:
            known.popitem(last=False)
    return known[key][1]


def capacity_of(model: Model, shape: tuple[int, ...], count: int, backward: bool = True) -> int:
    """How many samples a plan takes at once: a power of two, within the memory that plans may use."""
    graph = closed(model, shape)
    bytes_of_one = remembered(model, ("bytes", shape), lambda: int(summarize(graph).totals["activation_bytes"]))
    each = max(1, bytes_of_one) * (1 if backward else 0.5)
    limit = max(1, min(_MOST_SAMPLES, int(_BYTES / each)))
    return int(min(1 << (limit.bit_length() - 1), 1 << max(0, count - 1).bit_length()))


def closed(model: Model, shape: tuple[int, ...]) -> Graph:
    """The model's graph for inputs of this shape, made once. Raises ShapeError for a network with several inputs."""
    if len(model.graph.inputs) != 1:
        raise ShapeError(
            "explain", f"expected a network with one input, got {len(model.graph.inputs)}; explain it in Python, node "
            "by node, from plan.backward",
        )  # fmt: skip
    graph: Graph = remembered(model, ("closed", shape), lambda: model.graph.at(shape))
    return graph


def _scalars(scores: Sequence[Score], outputs: Array, start: int) -> tuple[Array, Array]:
    """Each sample's score N, and the gradient that begins its way back N,...."""
    if len(scores) == 1:
        values, seeds = scores[0].scalars(outputs)
        return np.asarray(values), np.asarray(seeds, np.float32)
    pairs = [scores[start + i].scalars(outputs[i : i + 1]) for i in range(len(outputs))]
    return np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs]).astype(np.float32)


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@contextlib.contextmanager
def _compiled(
    model: Model, shape: tuple[int, ...], node: Ref, room: int, wrt: tuple[str, ...], keep: tuple[str, ...],
    engine: str | None, variant: Variant,
) -> Iterator[Plan]:  # fmt: skip
    """The plan for these wishes, from the cache or new, for this caller alone."""
    computes, cache, graph, store = get_engine(engine), _plans(model), model.graph, model.store
    key = (computes.name, shape, node, room, wrt, keep, variant.key)
    with cache.lock:
        if key not in cache.plans or cache.plans[key][0] is not graph or cache.plans[key][1] is not store:
            cache.plans[key] = (graph, store, _new_plan(model, shape, node, room, wrt, keep, computes, variant))
        cache.plans.move_to_end(key)
        while len(cache.plans) > _CACHED_PLANS:
            cache.plans.popitem(last=False)
        yield cache.plans[key][2]


def _new_plan(
    model: Model, shape: tuple[int, ...], node: Ref, room: int, wrt: tuple[str, ...], keep: tuple[str, ...],
    engine: Engine, variant: Variant,
) -> Plan:  # fmt: skip
    options: dict[str, Any] = {"batch_size": room, "keep": keep, "wrt": wrt, "lean": True}
    if model.quantization is not None and not wrt:
        options |= {"precision": "int8", "quantization": model.quantization}
    changed, numbers = variant.make(closed(model, shape).pruned([node]))
    missing = [name for name in (*wrt, *keep) if name not in changed.nodes]
    if missing:
        model.graph.node(missing[0])  # says so when there is no such node at all
        raise ConfigError(
            "explain", f"expected a layer that {node.node} depends on, got {missing[0]}; choose one before it"
        )
    return engine.compile(changed, model.store if numbers is None else numbers, **options)
