"""The head of a classifier: the layer with a column for each class, found from the output, replaced for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.errors import GraphError, ShapeError
from fovea.graph.fully_convolutional import is_global_pool
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.initialize import SCHEMES
from fovea.graph.objective import free_name
from fovea.graph.store import ParameterStore
from fovea.ops import Conv, Dense, GlobalAvgPool, Op

__all__ = ["Head", "find_head", "with_head", "with_head_at"]

Array = npt.NDArray[Any]
_ACTIVATIONS = {
    "softmax", "log", "sigmoid", "relu", "relu6", "leakyrelu", "tanh", "silu", "gelu", "hardsigmoid", "hardswish",
    "elu", "selu", "softplus", "mish", "clip",
}  # fmt: skip
_SHAPING = {"flatten", "reshape", "dropout", "stopgradient"}


@dataclass(frozen=True)
class Head:
    """``node``: a Dense layer or a 1x1 convolution whose output channels are the classes; ``features``: what it reads.

    ``pool``: the node that averages over positions behind it, if one does; ``bias``: a constant that is added to its
    outputs, as some files write a bias; ``notes``: what stands behind it that a new head goes without, in words.
    """

    node: str
    features: Ref
    outputs: int
    pool: str | None = None
    bias: str | None = None
    notes: tuple[str, ...] = ()


def find_head(graph: Graph) -> Head:
    """The layer that gives one number for each class, found by walking back from the only output.

    Between it and the output may stand Softmax, activations, the mean over all positions, reshaping, and a constant
    that is added. Raises GraphError, naming the node, where something else does.
    """
    if len(graph.outputs) != 1 or len(graph.inputs) != 1:
        raise GraphError(
            "head", f"expected a network with one input and one output, got {graph!r}; cut out the part that classifies"
        )
    readers = graph.consumers()
    ref, pool, bias, notes = graph.outputs[0], None, None, []
    while True:
        node = graph.node(ref.node)
        if len(readers.get(ref, [])) > (ref != graph.outputs[0]):
            raise _refuse(node, "an output that is read in more than one place")
        if isinstance(node.op, Dense) or _is_pointwise(node):
            if isinstance(node.op, Conv) and any(low or high for low, high in _padding(node)):
                notes.append("the padding of the last 1x1 convolution, which adds positions without an image")
            return Head(node.name, node.inputs[0], _channels(node), pool, bias, tuple(reversed(notes)))
        ref = node.inputs[0] if node.inputs else ref
        if node.op.kind in _ACTIVATIONS:
            notes.append(_why_not(node))
        elif node.op.kind == "add":
            ref, bias = _added(graph, node)
        elif _averages(node):
            pool = node.name
        elif node.op.kind not in _SHAPING:
            raise _refuse(node, f"{node.op.kind} of {('N', *(node.input_shapes or ((),))[0])}")


def _refuse(node: Node, got: str) -> GraphError:
    return GraphError(
        node.name,
        f"expected a network that ends in Dense, or in a 1x1 convolution and the mean over positions, got {got}; "
        "a new head takes the place of one of these",
    )


def _is_pointwise(node: Node) -> bool:
    op = node.op
    if not isinstance(op, Conv) or op.groups != 1:
        return False
    return all(axis.kernel == 1 and axis.stride == 1 for axis in op.windows(node.input_shapes[0]))


def _padding(node: Node) -> list[tuple[int, int]]:
    return [(axis.pad_lo, axis.pad_hi) for axis in node.op.windows(node.input_shapes[0])]  # type: ignore[attr-defined]


def _channels(node: Node) -> int:
    return int(node.output_shapes[0][-1] or 0)


def _averages(node: Node) -> bool:
    """Whether a node takes the mean over all positions (of a single one any pooling is that)."""
    mean = (
        node.op.kind in ("globalavgpool", "adaptiveavgpool", "avgpool") or getattr(node.op, "reduction", "") == "mean"
    )
    return mean and (is_global_pool(node) or all(size == 1 for size in node.input_shapes[0][:-1]))


def _why_not(node: Node) -> str:
    if node.op.kind in ("softmax", "log"):
        return f"{type(node.op).__name__}, since the loss takes logits"
    return f"{type(node.op).__name__} behind the last layer, since a logit must be able to take any value"


def _added(graph: Graph, node: Node) -> tuple[Ref, str]:
    """What an addition adds a constant to, and the constant. Raises GraphError for anything else that is added."""
    constants = [ref for ref in node.inputs if graph.node(ref.node).op.kind == "constant"]
    others = [ref for ref in node.inputs if ref not in constants]
    if len(constants) != 1 or len(others) != 1:
        raise _refuse(node, "a sum of several layers")
    return others[0], constants[0].node


def with_head(
    graph: Graph, store: ParameterStore, head: Head, sources: Sequence[int | None], seed: int = 0
) -> tuple[Graph, ParameterStore]:
    """The network with a head of ``len(sources)`` outputs: logits, N,classes. The store is a copy.

    ``sources[k]`` is the old output whose weights output k keeps, or None for fresh ones (uniform within
    ``+-1/sqrt(fan_in)``, bias 0). What stood behind the old head is left out but the mean over positions.
    """
    old = graph.node(head.node)
    op: Op = Conv(len(sources), 1) if isinstance(old.op, Conv) else Dense(len(sources))
    entries = _entries(graph, (head.features,))
    entries.append((head.node, op, (head.features,)))
    result, numbers = _completed(graph, store, entries, head.node, head.pool)
    _fill(numbers, result, head.node, seed)
    weight, bias = _columns(store, head)
    for column, source in enumerate(sources):
        if source is not None:
            numbers.parameters[f"{head.node}.weight"][..., column] = weight[..., source]
            numbers.parameters[f"{head.node}.bias"][column] = bias[source]
    return result, numbers


def with_head_at(
    graph: Graph, store: ParameterStore, features: str, num_classes: int, seed: int = 0
) -> tuple[Graph, ParameterStore, str]:
    """The network up to a node, the mean over its positions, and a fresh Dense layer: the graph, a store (a copy), and
    the name of the new layer. Raises GraphError for an unknown node."""
    ref = Ref(features)
    shape = graph.shape(ref)
    entries = _entries(graph, (ref,))
    taken = {name for name, _, _ in entries}
    name = free_name("probe", taken)
    if len(shape) > 1:
        entries.append((free_name("probe_mean", taken), GlobalAvgPool(), (ref,)))
    entries.append((name, Dense(num_classes), (Ref(entries[-1][0]) if len(shape) > 1 else ref,)))
    result, numbers = _completed(graph, store, entries, name, None)
    _fill(numbers, result, name, seed)
    return result, numbers, name


def _entries(graph: Graph, outputs: Sequence[Ref]) -> list[tuple[str, Op, tuple[Ref, ...]]]:
    return [(node.name, node.op, node.inputs) for node in graph.pruned(outputs).nodes.values()]


def _completed(
    graph: Graph, store: ParameterStore, entries: list[tuple[str, Op, tuple[Ref, ...]]], last: str, pool: str | None
) -> tuple[Graph, ParameterStore]:
    """The graph that ends in ``last``, or in the mean over its positions; its numbers, those that it shares copied."""
    draft = Graph.from_nodes(entries, graph.inputs, (Ref(last),))
    if len(draft.output_shapes[0]) > 1:
        name = pool or free_name("head_mean", {name for name, _, _ in entries})
        draft = Graph.from_nodes([*entries, (name, GlobalAvgPool(), (Ref(last),))], graph.inputs, (Ref(name),))
    numbers = ParameterStore.for_graph(draft, store.seed)
    same = {path: array for path, array in store.tensors().items() if path.rpartition(".")[0] != last}
    numbers.load({path: same[path] for path in numbers.tensors() if path in same})
    return draft, numbers


def _fill(store: ParameterStore, graph: Graph, node: str, seed: int) -> None:
    for path, spec in graph.node(node).parameters.items():
        scheme = "lecun_uniform" if spec.init == "weight" else "zeros"
        store.parameters[path][...] = SCHEMES[scheme](random.key(seed, f"init:{path}"), spec)
    store.touch()


def _columns(store: ParameterStore, head: Head) -> tuple[Array, Array]:
    """Weight ``...,in,out`` and bias ``out`` of the old head."""
    weight = store.parameters[f"{head.node}.weight"]
    bias = store.parameters.get(f"{head.node}.bias", np.zeros(head.outputs, np.float32))
    if head.bias is not None:
        added = store.buffers[f"{head.bias}.value"]
        if added.size not in (1, head.outputs):
            raise ShapeError(head.bias, f"expected one number for each of {head.outputs} classes, got {added.shape}")
        bias = bias + added.reshape(-1)
    return weight, bias
