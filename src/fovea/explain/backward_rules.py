"""Gradients with another rule at the rectifiers: deconvolutional networks and guided backpropagation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fovea.errors import EngineError
from fovea.explain.base import Found, method
from fovea.explain.gradients import Numbers, Variant
from fovea.explain.question import Question
from fovea.explain.sensitivity import strongest
from fovea.graph.graph import Graph
from fovea.ops import ReLU, ReLU6

__all__ = ["deconvnet", "guided_backprop", "rectified"]

_SMOOTH = ("leakyrelu", "prelu", "silu", "gelu", "hardswish", "elu", "selu", "softplus", "mish", "tanh", "sigmoid")
_NOTHING = "nothing passed: at some layer every gradient was negative"
_OTHERS = "activations without a rule of this method keep their own derivative: "


def rectified(rule: str) -> Variant:
    """The network with ``backward_rule=rule`` at every ReLU and ReLU6."""

    def make(graph: Graph) -> tuple[Graph, Numbers]:
        entries: list[Any] = []
        for node in graph.nodes.values():
            op = replace(node.op, backward_rule=rule) if isinstance(node.op, (ReLU, ReLU6)) else node.op
            entries.append((node.name, op, node.inputs))
        return Graph.from_nodes(entries, graph.inputs, graph.outputs), None

    return Variant(("backward_rule", rule), make)


def _by_rule(question: Question, rule: str, name: str) -> Found:
    part = question.graph.pruned([question.scores[0].node])
    kinds = {node.op.kind for node in part.nodes.values()}
    if not kinds & {"relu", "relu6"}:
        raise EngineError(
            name, f"expected a network with ReLU or ReLU6, whose backward rule it alters, got {_list(kinds)}; "
            "use gradient or integrated_gradients",
        )  # fmt: skip
    scores, raw = question.input_gradients(variant=rectified(rule))
    others = sorted(kinds & set(_SMOOTH))
    common = (_OTHERS + ", ".join(others),) if others else ()
    return Found(strongest(raw), raw, [common if one.any() else (*common, _NOTHING) for one in raw], scores)


def _list(kinds: set[str]) -> str:
    return ", ".join(sorted(kinds & set(_SMOOTH))) or "none"


@method("deconvnet", signed=False, fails_randomisation=True)
def deconvnet(question: Question) -> Found:
    """The gradient, of which every rectifier passes what is positive, whatever its own input was.

    ``raw``: N,*spatial,C; ``values``: its largest absolute value over the channels. Max-pooling passes to the maximum.
    Source: Zeiler and Fergus 2014, section 2.1; in this form Simonyan et al. 2014, section 4.
    """
    return _by_rule(question, "deconv", "deconvnet")


@method("guided backpropagation", signed=False, fails_randomisation=True)
def guided_backprop(question: Question) -> Found:
    """The gradient, of which every rectifier passes what is positive, where its own input was positive too.

    ``raw``: N,*spatial,C; ``values``: its largest absolute value over the channels. Source: Springenberg et al. 2015,
    section 3.4.
    """
    return _by_rule(question, "guided", "guided_backprop")
