"""Layer-wise relevance propagation: the score, handed back layer by layer in proportion to what each input gave."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError
from fovea.explain.base import Found, method
from fovea.explain.gated import ACTIVATIONS, LINEAR_RULES, Gated, Gates, Kept, Rule, divided
from fovea.explain.gradients import PLAIN, Variant, remembered
from fovea.explain.multipliers import multipliers
from fovea.explain.question import Question
from fovea.explain.weight_rules import Reweighted, reweighted
from fovea.graph.graph import Graph, Node, Ref

__all__ = ["lrp_epsilon", "lrp_gamma", "lrp_z_plus"]

Array = npt.NDArray[Any]
_SUMS = ("conv", "convtranspose", "dense", "batchnorm")
"""Layers that are weighted sums with a bias: the epsilon rule holds behind each of them."""
_SQUASHING = ("sigmoid", "hardsigmoid")


@method("LRP-epsilon")
def lrp_epsilon(question: Question, *, epsilon: float = 0.1) -> Found:
    """``R_i = sum_j x_i w_ij / (z_j + e sign z_j) R_j``, from the score down to the input; ``raw``: N,*spatial,C.

    e is ``epsilon`` times the root mean square of the layer's z, sample by sample; 0 gives gradient x input on networks
    of ReLU. What a sum's bias or e takes does not reach the pixels; the note says how much of the score did.
    Activations hand relevance on, max-pooling to its winner, a gate (squeeze-and-excitation) gets none. Batch norm
    belongs to the convolution before it. Source: Bach et al. 2015, equation 58; Montavon et al. 2019, section 10.2.1.
    """
    return _propagated(question, epsilon, None)


@method("LRP-gamma")
def lrp_gamma(question: Question, *, gamma: float = 0.25, epsilon: float = 0.1) -> Found:
    """As ``lrp_epsilon``, but in convolutions of activations that are never negative with the weights ``w + gamma
    max(0, w)`` (and biases likewise), which favours what speaks for the class; ``raw``: N,*spatial,C.

    Source: Montavon et al. 2019, "Layer-wise relevance propagation: an overview", section 10.2.1.
    """
    _share("gamma", gamma)

    def favoured(values: Array, is_bias: bool) -> Array:
        return values + np.float32(gamma) * np.maximum(values, 0)

    return _propagated(question, epsilon, Reweighted(("lrp_gamma", float(gamma)), ("conv",), favoured))


@method("LRP-z+", fails_randomisation=True)
def lrp_z_plus(question: Question, *, epsilon: float = 0.1) -> Found:
    """As ``lrp_epsilon``, but in layers whose inputs are never negative with the positive weights alone, and without
    biases; ``raw``: N,*spatial,C.

    Its maps hardly depend on the class (Sixt et al. 2020, section 4). Source: Montavon et al. 2017, equation 13.
    """

    def positive(values: Array, is_bias: bool) -> Array:
        return np.zeros_like(values) if is_bias else np.maximum(values, 0)

    return _propagated(question, epsilon, Reweighted(("lrp_z_plus",), ("conv", "dense"), positive))


def _share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e6:
        raise ConfigError(name, f"expected a number of at least 0, got {value!r}; 0.1 or 0.25 are usual")


def _propagated(question: Question, epsilon: float, changed: Reweighted | None) -> Found:
    _share("epsilon", epsilon)
    model, x, node = question.model, question.x, question.scores[0].node
    part = question.graph.pruned([node])
    own: Variant = PLAIN
    numbers = None
    ruled: frozenset[str] = frozenset()
    key: tuple[Any, ...] = ("lrp", float(epsilon))
    if changed is not None:
        key = (*key, *changed.key)
        both = remembered(model, (*key, "weights", x.shape[1:], node), lambda: reweighted(part, model.store, changed))
        part, numbers, ruled = both.graph, both.gated_numbers, both.ruled
        own = Variant((*key, model.store.version), lambda _: (both.beside, both.numbers))
    gates: Gates = remembered(model, (*key, x.shape[1:], node), lambda: _gates_of(part, epsilon, ruled))
    version = model.store.version  # gates' plans may hold other weights than the model's own
    found = multipliers(question, gates, (*key, "gated", version), network=own, numbers=numbers)
    raw = found.values * x
    totals = raw.sum(tuple(range(1, raw.ndim)), dtype=np.float64)
    notes = [
        (f"relevance: {total:.4g} of the score {score:.4g} reached the pixels",)
        for total, score in zip(totals, found.scores, strict=True)
    ]
    return Found(raw.sum(-1), raw, notes, found.scores)


def _gates_of(graph: Graph, epsilon: float, ruled: frozenset[str]) -> Gates:
    """The network with these rules. Raises EngineError that names a node without a rule."""
    gated = Gated(graph, "LRP")
    readers = graph.consumers()
    followed = {
        node.name
        for node in graph.nodes.values()
        if [graph.node(name).op.kind for name in readers.get(Ref(node.name), [])] == ["batchnorm"]
        and node.op.kind != "batchnorm"
    }
    rules: dict[str, Rule] = dict.fromkeys(_SUMS, partial(_sum, epsilon, followed, ruled))
    rules |= dict.fromkeys(ACTIVATIONS, _activation)
    rules |= {"maxpool": _maxpool, "globalmaxpool": _maxpool, "multiply": _product}
    return gated.written({**LINEAR_RULES, **rules})


def _sum(epsilon: float, followed: set[str], ruled: frozenset[str], gated: Gated, node: Node) -> Ref:
    """``z / (z' + e sign z')`` behind the layer; z' is z but for layers with other weights."""
    value = gated.add(node.name, node.op, *(gated.at(ref) for ref in node.inputs))
    if node.name in followed or (epsilon == 0 and node.name not in ruled):
        return value
    z = gated.kept(Ref(node.name), node)
    changed = gated.kept(Ref(f"{node.name}.rule"), node) if node.name in ruled else z

    def compute(seen: Kept, _: Kept) -> Array:
        other = seen[changed]
        axes = tuple(range(1, other.ndim))
        stabiliser = np.float32(epsilon) * np.sqrt(np.mean(np.square(other), axes, keepdims=True))
        return divided(seen[z], other + np.where(other < 0, -stabiliser, stabiliser), None, 1e-30)

    return gated.times(f"{node.name}.share", value, node.output_shapes[0], compute)


def _activation(gated: Gated, node: Node) -> Ref:
    """``y / z``: relevance is handed on as it is."""
    z, y = gated.kept(node.inputs[0], node), gated.kept(Ref(node.name), node)
    shape = node.output_shapes[0]
    return gated.times(node.name, gated.at(node.inputs[0]), shape, lambda seen, _: divided(seen[y], seen[z], None))


def _maxpool(gated: Gated, node: Node) -> Ref:
    """To the winner of each window."""
    z = gated.kept(node.inputs[0], node)
    return gated.routed(node, gated.at(node.inputs[0]), "winners", lambda seen, _: seen[z])


def _product(gated: Gated, node: Node) -> Ref:
    """All to the signal, none to the gate: the factor that is spread over positions, or comes from a sigmoid."""
    varying = [i for i, ref in enumerate(node.inputs) if ref.node in gated.varies]
    if len(varying) == 2:
        sizes = [np.prod([size or 1 for size in shape]) for shape in node.input_shapes]
        kinds = [gated.graph.node(ref.node).op.kind in _SQUASHING for ref in node.inputs]
        if sizes[0] == sizes[1] and kinds[0] == kinds[1]:
            raise gated.refusal(node, " of two feature maps")
        varying = [int(sizes[1] > sizes[0]) if sizes[0] != sizes[1] else int(kinds[0])]
    (signal,) = varying
    other = node.inputs[1 - signal]
    if other.node not in gated.varies:
        return gated.same(node)
    gate, shape = gated.kept(other, node), node.input_shapes[1 - signal]
    return gated.times(node.name, gated.at(node.inputs[signal]), shape, lambda seen, _: seen[gate])
