"""DeepLIFT with the rescale rule: how much each pixel's difference from a baseline counts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.reference.ops import PAIRS
from fovea.engines.reference.pair import Needs
from fovea.explain.base import Found, method
from fovea.explain.baseline import baseline_of
from fovea.explain.gated import ACTIVATIONS, LINEAR_RULES, Gated, Gates, Kept, Rule, divided
from fovea.explain.gradients import remembered
from fovea.explain.multipliers import multipliers
from fovea.explain.question import Question
from fovea.graph.graph import Graph, Node, Ref
from fovea.model import Model
from fovea.ops import Add

__all__ = ["deeplift"]

Array = npt.NDArray[Any]


@method("DeepLIFT (rescale)")
def deeplift(question: Question, *, baseline: Any = "zero") -> Found:
    """``raw = m (x - b)``, N,*spatial,C, and its sum over the channels, with multipliers m walked back from the score.

    Through an activation ``m_z = m_y (y - y_b) / (z - z_b)``, its slope where both are equal; through sums and
    convolutions as the gradient; through a product ``m_u = m_y (v + v_b) / 2``; through max-pooling the difference of
    the maxima goes to the winners of both. The values add up to ``S(x) - S(b)``, the gap is a note; a score that is not
    linear in the logits, a probability, is replaced by its tangent at x.
    Source: Shrikumar et al. 2017, "Learning important features", equations 3 to 5 and section 3.5.1.
    """
    x, start, node = question.x, baseline_of(question, baseline), question.scores[0].node
    part, key = question.graph.pruned([node]), ("deeplift", question.x.shape[1:], node)
    found = multipliers(
        question, remembered(question.model, key, lambda: gates_of(part, question.model)), ("deeplift",), start
    )
    raw = found.values * (x - start)
    totals = raw.sum(tuple(range(1, raw.ndim)), dtype=np.float64)
    notes = [(_note(float(total), float(grown)),) for total, grown in zip(totals, found.grown, strict=True)]
    return Found(raw.sum(-1), raw, notes, found.scores)


def _note(total: float, grown: float) -> str:
    gap = abs(total - grown) / max(abs(grown), 1e-12)
    return (
        f"completeness: the values add up to {total:.5g}, the score rose by {grown:.5g} from that of the baseline "
        f"(gap {gap:.2%})"
    )


def gates_of(graph: Graph, model: Model) -> Gates:
    """The network with DeepLIFT's rules. Raises EngineError that names a node without a rule."""
    rules: dict[str, Rule] = dict.fromkeys(ACTIVATIONS, partial(_activation, model.parameters()))
    rules |= {"maxpool": _maxpool, "globalmaxpool": _maxpool, "multiply": _product}
    return Gated(graph, "DeepLIFT").written({**LINEAR_RULES, **rules})


def _activation(parameters: Mapping[str, Array], gated: Gated, node: Node) -> Ref:
    z, y = gated.kept(node.inputs[0], node), gated.kept(Ref(node.name), node)
    own = {path.rpartition(".")[2]: parameters[path] for path in node.parameters}

    def compute(seen: Kept, based: Kept) -> Array:
        step = seen[z] - based[z]
        return divided(seen[y] - based[y], step, _slope(node, seen[z], own) if (np.abs(step) < 1e-10).any() else None)

    return gated.times(node.name, gated.at(node.inputs[0]), node.output_shapes[0], compute)


def _slope(node: Node, z: Array, parameters: Mapping[str, Array]) -> Array:
    """The activation's derivative, by its definition in NumPy."""
    pair = PAIRS[node.op.kind]
    _, saved, _ = pair.forward(node.op, (z,), parameters, {}, training=False, key=None)
    (slope,), _ = pair.backward(node.op, (np.ones_like(z),), saved, parameters, needs=Needs((True,)))
    return np.asarray(slope)


def _maxpool(gated: Gated, node: Node) -> Ref:
    """``m_z (z - z_b)``: ``m_y (max(y, y_b) - y_b)`` at the winners of x, ``m_y (y - max(y, y_b))`` at those of b."""
    z, y = gated.kept(node.inputs[0], node), gated.kept(Ref(node.name), node)
    shape, pooled = node.input_shapes[0], node.output_shapes[0]
    each = gated.times(
        f"{node.name}.each",
        gated.at(node.inputs[0]),
        shape,
        lambda seen, based: divided(np.float32(1), seen[z] - based[z], None),
    )
    of_image = gated.routed(node, each, "image", lambda seen, based: seen[z])
    of_base = gated.routed(node, each, "base", lambda seen, based: based[z])
    up = gated.times(f"{node.name}.up", of_image, pooled, lambda seen, based: np.maximum(seen[y], based[y]) - based[y])
    down = gated.times(
        f"{node.name}.down", of_base, pooled, lambda seen, based: seen[y] - np.maximum(seen[y], based[y])
    )
    return gated.add(node.name, Add(), up, down)


def _product(gated: Gated, node: Node) -> Ref:
    """``u v - u_b v_b = (u - u_b) (v + v_b) / 2 + (v - v_b) (u + u_b) / 2``."""
    varying = [ref.node in gated.varies for ref in node.inputs]
    if not all(varying):
        return gated.same(node)
    names = [gated.kept(ref, node) for ref in node.inputs]

    def mean_of(name: str) -> Any:
        return lambda seen, based: (seen[name] + based[name]) / 2

    terms = [
        gated.times(f"{node.name}.{i}", gated.at(node.inputs[i]), node.input_shapes[1 - i], mean_of(names[1 - i]))
        for i in (0, 1)
    ]
    return gated.add(node.name, Add(), *terms)
