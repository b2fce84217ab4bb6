"""Relevance as the gradient of another network: every op that is not linear becomes a product with a gate.

DeepLIFT and layer-wise relevance propagation walk the network backward with multipliers in place of derivatives: where
an activation has the slope f'(z), they take a quotient of values that a forward pass has left. Those quotients are
handed to the network as further inputs, the gates; its gradient with respect to the image, computed by any engine's
ordinary backward pass, is then the multiplier of each pixel. What the gated network computes forward is of no interest,
but for one place: max-pooling passes to the maximum of the true activations, which are handed in as well.
Source: Ancona et al. 2018, "Towards better understanding of gradient-based attribution methods", propositions 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import EngineError
from fovea.graph.graph import Graph, Node, Ref
from fovea.ops import Add, Input, Multiply, StopGradient, Sub
from fovea.ops.base import Op, Shape

__all__ = ["ACTIVATIONS", "LINEAR_RULES", "Gated", "Gates", "Rule", "divided"]

Array = npt.NDArray[Any]
Kept = Mapping[str, Array]
"""Node -> its output, of the samples in hand."""
Compute = Callable[[Kept, Kept], Array]
"""Outputs for the images, and for the baselines where a method has them -> a gate, N,...."""
Rule = Callable[["Gated", Node], Ref]
"""Writes one node anew; returns where its value is."""

_LINEAR = (
    "conv", "convtranspose", "dense", "batchnorm", "normalize", "layerscale", "add", "sub", "concat", "flatten",
    "reshape", "transpose", "slice", "split", "channelshuffle", "pad", "avgpool", "adaptiveavgpool", "globalavgpool",
    "resize", "dropout", "stochasticdepth",
)  # fmt: skip
# Of inference, and but for their biases: the gradient already is the multiplier.
ACTIVATIONS = (
    "relu", "relu6", "leakyrelu", "prelu", "sigmoid", "tanh", "silu", "gelu", "hardsigmoid", "hardswish", "elu", "selu",
    "softplus", "mish", "clip", "exp", "log", "sqrt", "abs",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Gates:
    """The gated graph, what its further inputs are computed from, and which nodes of the network that takes."""

    graph: Graph
    compute: Mapping[str, Compute]
    keep: tuple[str, ...]


class Gated:
    """A network written anew, node by node; rules say what becomes of each kind of op.

    ``varies``: nodes that depend on the image; of a product with something constant the gradient is right already.
    """

    def __init__(self, graph: Graph, method: str) -> None:
        self.graph, self.method = graph, method
        self.entries: list[tuple[str, Op, tuple[Ref, ...]]] = []
        self.compute: dict[str, Compute] = {}
        self.keep: dict[str, None] = {}
        self.moved: dict[Ref, Ref] = {}
        self.varies = {graph.inputs[0]}
        for node in graph.nodes.values():
            if any(ref.node in self.varies for ref in node.inputs):
                self.varies.add(node.name)

    def written(self, rules: Mapping[str, Rule]) -> Gates:
        """Every node by its rule. Raises EngineError that names the first one without."""
        for node in self.graph.nodes.values():
            if node.name not in self.varies or node.name == self.graph.inputs[0]:
                self.same(node)
            elif node.op.kind in rules:
                self.moved[Ref(node.name)] = rules[node.op.kind](self, node)
            else:
                raise self.refusal(node)
        outputs = tuple(self.at(ref) for ref in self.graph.outputs)
        graph = Graph.from_nodes(self.entries, (self.graph.inputs[0], *self.compute), outputs)
        return Gates(graph, self.compute, tuple(self.keep))

    def refusal(self, node: Node, why: str = "") -> EngineError:
        """What is said of a node that no rule fits."""
        return EngineError(
            node.name, f"{self.method} has no rule for {node.op.kind}{why}; use integrated_gradients or grad_cam"
        )

    def at(self, ref: Ref) -> Ref:
        """Where a value of the network is in the gated one."""
        return self.moved.get(ref, ref)

    def kept(self, ref: Ref, node: Node) -> str:
        """Ask for a value; the name under which gates find it."""
        if ref.index:
            raise self.refusal(node, f" on output {ref.index} of {ref.node}")
        self.keep[ref.node] = None
        return ref.node

    def add(self, name: str, op: Op, *inputs: Ref) -> Ref:
        """A further node."""
        self.entries.append((name, op, inputs))
        return Ref(name)

    def same(self, node: Node) -> Ref:
        """The node as it is."""
        return self.add(node.name, node.op, *(self.at(ref) for ref in node.inputs))

    def given(self, name: str, shape: Shape, compute: Compute) -> Ref:
        """A further input, and what it is computed from."""
        self.compute[name] = compute
        return self.add(name, Input(shape).source.op)

    def times(self, name: str, value: Ref, shape: Shape, compute: Compute) -> Ref:
        """``value`` times a gate: its gradient is multiplied by the gate."""
        return self.add(name, Multiply(), value, self.given(f"{name}.gate", shape, compute))

    def routed(self, node: Node, value: Ref, which: str, activations: Compute) -> Ref:
        """Max-pooling whose gradient goes where the activations have their maxima, and reaches ``value``.

        Its input is ``value - stop(value) + kept``: exactly the activations, with the gradient of ``value``.
        """
        name, shape = f"{node.name}.{which}", node.input_shapes[0]
        nothing = self.add(f"{name}.zero", Sub(), value, self.add(f"{name}.stop", StopGradient(), value))
        seen = self.given(f"{name}.seen", shape, activations)
        return self.add(name, node.op, self.add(f"{name}.input", Add(), nothing, seen))


def divided(above: Any, below: Array, otherwise: Any, smallest: float = 1e-10) -> Array:
    """``above / below``, and ``otherwise`` where ``below`` is smaller than ``smallest``; float32."""
    good = np.abs(below) >= smallest
    quotient: Array = np.divide(above, below, out=np.zeros(np.shape(below), np.float32), where=good)
    return quotient if otherwise is None else np.asarray(np.where(good, quotient, otherwise), np.float32)


def _reduced(gated: Gated, node: Node) -> Ref:
    if getattr(node.op, "reduction", "") == "max":
        raise gated.refusal(node, " with a maximum")
    return gated.same(node)


def _quotient(gated: Gated, node: Node) -> Ref:
    if node.inputs[1].node in gated.varies:
        raise gated.refusal(node, " by a value that depends on the image")
    return gated.same(node)


LINEAR_RULES: dict[str, Rule] = {**dict.fromkeys(_LINEAR, Gated.same), "reduce": _reduced, "div": _quotient}
"""Of everything that is linear at inference."""
