"""What freezing means for the nodes of a graph: where gradients flow, and which random layers stand still."""

from __future__ import annotations

from collections.abc import Collection

from fovea.graph.graph import Graph, Node, Ref

__all__ = ["differentiated", "reaching", "standing_still"]


def differentiated(graph: Graph, trainable: Collection[str], wrt: Collection[str]) -> frozenset[str]:
    """Nodes whose outputs carry gradient: those with trained parameters or asked for, and all that depend on one."""
    carrying: set[str] = set()
    for node in graph.nodes.values():
        own = node.name in wrt or _is_trained(node, trainable)
        if own or (node.op.kind != "stopgradient" and any(ref.node in carrying for ref in node.inputs)):
            carrying.add(node.name)
    return frozenset(carrying)


def reaching(graph: Graph, losses: Collection[Ref]) -> frozenset[str]:
    """Nodes from which gradient of the losses comes back: those that they depend on, but what a StopGradient hides."""
    found = {ref.node for ref in losses}
    for node in reversed(graph.nodes.values()):
        if node.name in found and node.op.kind != "stopgradient":
            found.update(ref.node for ref in node.inputs)
    return frozenset(found)


def standing_still(graph: Graph, trainable: Collection[str], carrying: Collection[str]) -> frozenset[str]:
    """Random nodes of a frozen part, which let everything pass as at inference: its features are the same each time.

    Below the lowest trained layer that is stochastic depth, which belongs to the frozen block around it, and dropout
    that a frozen layer reads; dropout that trained layers alone read works on. None where nothing is trained at all.
    """
    if not trainable:
        return frozenset()
    read_by_frozen: set[str] = set()  # nodes whose value reaches a frozen layer through none with parameters
    still: set[str] = set()
    for node in reversed(graph.nodes.values()):
        frozen = bool(node.parameters) and not _is_trained(node, trainable)
        if node.op.has_randomness and node.name not in carrying:
            works = node.op.kind == "dropout" and node.name not in read_by_frozen
            still |= set() if works else {node.name}
        if frozen or (not node.parameters and node.name in read_by_frozen):
            read_by_frozen.update(ref.node for ref in node.inputs)
    return frozenset(still)


def _is_trained(node: Node, trainable: Collection[str]) -> bool:
    return any(path in trainable for path in node.parameters)
