"""The numbers of one layer while its network runs: what it read, gave and got back, from the engine itself.

The network is compiled with an identity in front of every input of the layer, so that the gradient there is this
layer's own part, also where the value is read elsewhere too (a residual block). Dropout passes everything, as in
inference; the model's own arrays stay untouched.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fovea.engines.base import Engine, Plan
from fovea.engines.registry import get_engine
from fovea.errors import ConfigError, GraphError, ShapeError
from fovea.explain.target import class_index, scored_node
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.objective import free_name
from fovea.model import Model
from fovea.ops import BatchNorm, Dropout, Reshape, SoftmaxCrossEntropy, StochasticDepth
from fovea.tasks.metrics import class_names

__all__ = ["Live", "Start", "run"]

Array = npt.NDArray[Any]


class Start(NamedTuple):
    """The loss and the gradient at the logits: N,classes; N; the mean over N; N,classes."""

    logits: Array
    targets: npt.NDArray[np.int64]
    loss: float
    grad_logits: Array


@dataclass(frozen=True)
class Live:
    """A node of closed shapes with its arrays, all N,*shape; gradients are empty when only forward ran.

    ``training``: the node normalises with the statistics of this batch. ``start``: where the gradient
    starts. ``algorithms``: (pass, algorithm) of the engine's kernels.
    """

    node: Node
    engine: str
    training: bool
    inputs: tuple[Array, ...]
    output: Array
    params: dict[str, Array]
    buffers: dict[str, Array]
    grad_output: Array | None = None
    grad_inputs: tuple[Array, ...] = ()
    grad_params: dict[str, Array] = field(default_factory=dict)
    start: Start | None = None
    algorithms: frozenset[tuple[str, str]] = frozenset()

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.node.name

    @property
    def op(self) -> Any:
        """The layer's op; which fields it has depends on its kind."""
        return self.node.op

    @property
    def delta(self) -> Array:
        """The gradient at the layer's output, N,*out,C."""
        assert self.grad_output is not None
        return self.grad_output

    def by_winograd(self, which: str) -> bool:
        """Whether the engine computes a pass ("forward", "backward data", "backward weight") by Winograd's tiles."""
        return any(one == which and name.startswith("winograd") for one, name in self.algorithms)

    def source(self, number: int = 0) -> str:
        """The name of the node that an input comes from."""
        ref = self.node.inputs[number]
        return ref.node if ref.index == 0 else f"{ref.node}.{ref.index}"


def run(
    model: Model, samples: Array, layer: str, *, backward: bool, target: int | str | None, training: bool,
    engine: str | Engine | None,
) -> Live:  # fmt: skip
    """Network input N,*spatial,C through the network, and the loss back when asked for.

    ``target``: the class whose cross-entropy is differentiated, by default the one predicted for each sample.
    ``training``: batch norm uses the statistics of these samples. Raises GraphError for an unknown layer, ConfigError
    for a network without logits.
    """
    if model.quantization is not None:
        raise ConfigError("arithmetic", "expected float32 weights, got int8; give the model that they were made of")
    graph, logits = _with_logits(model) if backward else (model.graph, None)
    graph = graph.at(tuple(samples.shape[1:]))
    node = model.graph.node(layer)
    if layer not in graph.nodes:
        raise GraphError(layer, "expected a layer on the way to the logits, got one beside it; choose another")
    opened, doors = _opened(graph, graph.node(layer))
    used = get_engine(engine)
    plan = _compiled(model, opened, node, doors, used, len(samples), backward, training, logits)
    outputs = plan.forward(samples)
    norm = isinstance(node.op, BatchNorm)
    numbers = model.store  # of the time before this forward: a training plan renews the copy's running statistics
    live = Live(
        graph.node(layer), used.name, training and norm,
        tuple(plan.kept[door] for door in doors), plan.kept[layer],
        {path.rpartition(".")[2]: numbers.parameters[path] for path in node.parameters},
        {path.rpartition(".")[2]: numbers.buffers[path] for path in node.buffers},
        algorithms=frozenset(
            (row.get("pass", ""), row.get("algorithm", "")) for row in plan.describe() if row["node"] == layer
        ),
    )  # fmt: skip
    if not backward:
        return live
    assert logits is not None
    targets = _targets(outputs, target, model)
    (loss,) = plan.loss_backward(targets)
    received = plan.wrt_gradients
    return replace(
        live, grad_output=received[layer], grad_inputs=tuple(received[door] for door in doors),
        grad_params={
            path.rpartition(".")[2]: plan.gradients[path] for path in node.parameters if path in plan.gradients
        },
        start=Start(outputs, targets, loss, received[logits.node]),
    )  # fmt: skip


def _with_logits(model: Model) -> tuple[Graph, Ref]:
    """The part of the network that gives logits: without the softmax in which some end, which belongs to the loss."""
    graph, ref = model.graph, model.graph.outputs[0]
    if model.task.kind != "classification" or len(graph.shape(ref)) != 1:
        raise ConfigError(
            "arithmetic",
            f"expected a classifier with logits (N, classes) for backward, got a network of {model.task.kind} with "
            f"outputs {('N', *graph.shape(ref))}; forward works for any",
        )
    ref = scored_node(model)
    return graph.pruned((ref,)), ref


def _opened(graph: Graph, target: Node) -> tuple[Graph, tuple[str, ...]]:
    """The graph with an identity before each input of the node and without dropout; names of the identities."""
    doors: list[str] = []
    entries: list[Any] = []
    for node in graph.nodes.values():
        op = replace(node.op, rate=0.0) if isinstance(node.op, (Dropout, StochasticDepth)) else node.op
        refs = node.inputs
        if node.name == target.name:
            for number, ref in enumerate(refs):
                name = free_name(f"{target.name}.input{number}", graph.nodes)
                entries.append((name, Reshape(tuple(size or 0 for size in graph.shape(ref))), (ref,)))
                doors.append(name)
            refs = tuple(Ref(name) for name in doors)
        entries.append((node.name, op, refs))
    return Graph.from_nodes(entries, graph.inputs, graph.outputs), tuple(doors)


def _compiled(
    model: Model, graph: Graph, node: Node, doors: tuple[str, ...], engine: Engine, count: int, backward: bool,
    training: bool, logits: Ref | None,
) -> Plan:  # fmt: skip
    keep = [*doors, node.name]
    options: dict[str, Any] = {"batch_size": count, "keep": keep, "precision": "fp32"}
    if backward or training:
        # batch norm normalises with the batch when one of its own parameters is trained (PlanSpec.trains)
        own = [] if isinstance(node.op, BatchNorm) else list(node.parameters)
        options |= {"training": True, "trainable": None if training else own}
    if backward:
        assert logits is not None
        options |= {"wrt": list(dict.fromkeys([*keep, logits.node])), "loss": SoftmaxCrossEntropy()}
    return engine.compile(graph, model.store.copy(), **options)


def _targets(logits: Array, target: int | str | None, model: Model) -> npt.NDArray[np.int64]:
    if logits.ndim != 2:
        raise ShapeError("arithmetic", f"expected logits (N, classes), got {logits.shape}; choose a classifier")
    count = logits.shape[1]
    if target is None:
        predicted: npt.NDArray[np.int64] = np.argmax(logits, axis=1).astype(np.int64)
        return predicted
    if isinstance(target, str):
        target = class_index(class_names(model.classes, count), target, "arithmetic")
    if isinstance(target, bool) or not isinstance(target, (int, np.integer)) or not 0 <= target < count:
        raise ConfigError("arithmetic", f"expected a class from 0 to {count - 1}, got {target!r}; see model.classes")
    return np.full(len(logits), target, np.int64)
