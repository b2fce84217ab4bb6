"""Attach losses to a graph: the targets become extra graph inputs, every loss a scalar node."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from fovea.errors import GraphError
from fovea.graph.graph import Graph, Ref
from fovea.ops.base import Op, is_number
from fovea.ops.loss import SoftmaxCrossEntropy
from fovea.ops.reshape import _Input

__all__ = ["Objective", "attach", "free_name"]

Loss = Op | Graph | Mapping[str, tuple[Op, float]] | None


@dataclass(frozen=True)
class Objective:
    """A graph with its losses. ``graph.outputs`` are still the network's own; ``total = sum_i weights[i] *
    losses[i]``."""

    graph: Graph
    losses: tuple[Ref, ...] = ()
    weights: tuple[float, ...] = ()
    targets: tuple[str, ...] = ()
    """Names of the added input nodes, in the order in which a training step takes targets."""


def attach(graph: Graph, loss: Loss) -> Objective:
    """The objective of a loss op (for one output), a dict ``{output node: (loss op, weight)}``, or a loss graph.

    A loss graph's first inputs take the network's outputs in order, its further inputs are targets, its outputs
    scalars.
    Raises GraphError when outputs and losses do not match.
    """
    if loss is None:
        return Objective(graph)
    if isinstance(loss, Graph):
        return _attach_graph(graph, loss)
    if isinstance(loss, Mapping):
        pairs = [(_output(graph, name), *_loss_and_weight(name, given)) for name, given in loss.items()]
    elif len(graph.outputs) != 1:
        names = ", ".join(ref.node for ref in graph.outputs)
        raise GraphError(
            "loss",
            f"expected a dict {{output: (loss, weight)}} for the outputs {names}, got one loss; name the "
            "output it is for",
        )
    else:
        pairs = [(graph.outputs[0], loss, 1.0)]
    entries: list[tuple[str, Op, tuple[Ref, ...]]] = [
        (node.name, node.op, node.inputs) for node in graph.nodes.values()
    ]
    losses, targets = [], []
    taken = {node.name for node in graph.nodes.values()}
    for ref, op, _ in pairs:
        if not isinstance(op, Op) or not op.is_loss:
            raise GraphError(
                "loss", f"expected a loss op such as fovea.SoftmaxCrossEntropy(), got {op!r}; choose a loss"
            )
        suffix = "" if len(pairs) == 1 else f".{ref.node}" + (f".{ref.index}" if ref.index else "")
        target_name, loss_name = free_name(f"target{suffix}", taken), free_name(f"loss{suffix}", taken)
        integers = isinstance(op, SoftmaxCrossEntropy) and not op.soft_targets
        target = _Input(op.target_shape(graph.shape(ref)), "int64" if integers else "float32")  # type: ignore[attr-defined]
        entries += [(target_name, target, ()), (loss_name, op, (ref, Ref(target_name)))]
        targets.append(target_name)
        losses.append(Ref(loss_name))
    whole = Graph.from_nodes(entries, (*graph.inputs, *targets), graph.outputs)
    return Objective(whole, tuple(losses), tuple(weight for _, _, weight in pairs), tuple(targets))


def free_name(name: str, taken: Container[str]) -> str:
    """The name of an added node; with underscores where the network has a node of that name itself."""
    while name in taken:
        name += "_"
    return name


def _loss_and_weight(name: Any, given: Any) -> tuple[Op, float]:
    pair = given if isinstance(given, (tuple, list)) else (given, None)
    if len(pair) != 2 or not is_number(pair[1]):
        raise GraphError("loss", f"expected (loss, weight) for output {name!r}, got {given!r}; give for example 1.0")
    return pair[0], float(pair[1])


def _output(graph: Graph, name: Any) -> Ref:
    for ref in graph.outputs:
        if name in (ref.node, ref):
            return ref
    raise GraphError(
        "loss",
        f"expected the name of an output, got {name!r}; outputs are {', '.join(ref.node for ref in graph.outputs)}",
    )


def _attach_graph(graph: Graph, loss: Graph) -> Objective:
    count = len(graph.outputs)
    if len(loss.inputs) < count or any(shape != () for shape in loss.output_shapes):
        raise GraphError(
            "loss",
            f"expected a loss graph with {count} or more inputs and scalar outputs, got {loss!r}; end it with "
            "a loss op",
        )
    if loss.parameters():
        learned = ", ".join(list(loss.parameters())[:3])
        raise GraphError("loss", f"expected a loss graph without parameters, got {learned}; learn them in the network")
    renamed: dict[str, Ref] = {}
    entries: list[tuple[str, Op, tuple[Ref, ...]]] = [
        (node.name, node.op, node.inputs) for node in graph.nodes.values()
    ]
    for name, ref in zip(loss.inputs[:count], graph.outputs, strict=True):
        if loss.shape(name) != graph.shape(ref):
            raise GraphError(
                "loss",
                f"expected the loss graph's input {name} with shape {graph.shape(ref)}, got "
                f"{loss.shape(name)}; rebuild it for this network",
            )
        renamed[name] = ref
    for node in loss.nodes.values():
        if node.name in renamed:
            continue
        own = f"loss.{node.name}"
        refs = tuple(
            renamed[ref.node] if ref.node in renamed else Ref(f"loss.{ref.node}", ref.index) for ref in node.inputs
        )
        entries.append((own, node.op, refs))
    targets = tuple(f"loss.{name}" for name in loss.inputs[count:])
    losses = tuple(renamed.get(ref.node, Ref(f"loss.{ref.node}", ref.index)) for ref in loss.outputs)
    return Objective(
        Graph.from_nodes(entries, (*graph.inputs, *targets), graph.outputs), losses, (1.0,) * len(losses), targets
    )
