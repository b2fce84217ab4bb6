"""The depth of a network: its blocks from input to output, for what freezes, or learns slower, towards the input."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.graph.graph import Graph

__all__ = ["Blocks", "block_ends", "blocks", "depth_scales", "prefixes"]

Blocks = tuple[tuple[str, ...], ...]
"""For each block, from the input on, the names of its nodes that have parameters."""
_COMPANIONS = {"batchnorm", "layernorm", "groupnorm", "layerscale", "prelu"}
"""Layers that belong to the one before them."""


def blocks(graph: Graph) -> Blocks:
    """The network cut wherever a single value holds everything that flows on: between layers, never inside a residual
    block or between branches.

    A norm belongs to the layer before it, and neighbours whose names share a scope (``stage2.block0.conv1`` and
    ``stage2.block0.conv2``) are one block. A network without parameters has none.
    """
    return tuple(tuple(names) for names, _ in _cut(graph))


def block_ends(graph: Graph) -> tuple[str, ...]:
    """For each block the node that holds all that flows on from it, the last before the next block begins."""
    return tuple(end for _, end in _cut(graph))


def _cut(graph: Graph) -> list[tuple[list[str], str]]:
    """Names of the nodes with parameters of each block, and the node behind which the next one begins."""
    found: list[tuple[list[str], str]] = []
    current: list[str] = []
    for name, narrow in _walk(graph):
        if graph.node(name).parameters:
            current.append(name)
        if not narrow:
            continue
        if not current and found:
            found[-1] = (found[-1][0], name)
        elif current and found and _together(graph, found[-1][0], current):
            found[-1] = (found[-1][0] + current, name)
        elif current:
            found.append((current, name))
        current = []
    return found if not current else [*found, (current, list(graph.nodes)[-1])]


def _walk(graph: Graph) -> list[tuple[str, bool]]:
    """Names of nodes in order, and whether every path from the input passes through that one."""
    nodes = list(graph.nodes.values())
    place = {node.name: position for position, node in enumerate(nodes)}
    last = dict.fromkeys(place, 0)  # the last reader of each node
    fed = set(graph.inputs)
    for node in nodes:
        for ref in node.inputs:
            last[ref.node] = max(last[ref.node], place[node.name])
        if any(ref.node in fed for ref in node.inputs):
            fed.add(node.name)
    order = []
    reach = 0  # how far the outputs of what came before are still read
    for position, node in enumerate(nodes):
        order.append((node.name, node.name in fed and reach <= position))
        if node.name in fed:  # a constant that is read later does not join branches
            reach = max(reach, last[node.name])
    return order


def _together(graph: Graph, before: Sequence[str], after: Sequence[str]) -> bool:
    if all(graph.node(name).op.kind in _COMPANIONS for name in after):
        return True
    scope = after[0].rpartition(".")[0]
    return bool(scope) and all(name.rpartition(".")[0] == scope for name in (*before, *after))


def prefixes(all_blocks: Blocks, chosen: Sequence[str]) -> tuple[str, ...]:
    """The nodes ``chosen`` as few path prefixes: a scope stands for its nodes where all of them are chosen."""
    every = [name for block in all_blocks for name in block]
    wanted, shortest = set(chosen), []
    for name in chosen:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            prefix = ".".join(parts[:length])
            below = {one for one in every if one == prefix or one.startswith(prefix + ".")}
            if below <= wanted:
                if prefix not in shortest:
                    shortest.append(prefix)
                break
    return tuple(shortest)


def depth_scales(all_blocks: Blocks, lowest: float) -> tuple[tuple[str, float], ...]:
    """Pairs (path prefix, factor) for ``Optimizer.lr_scales``: ``lowest`` at the first block, 1 at the last, in equal
    ratios between them (Howard and Ruder 2018, "Universal language model fine-tuning", section 3.2).
    """
    steps = max(1, len(all_blocks) - 1)
    pairs: list[tuple[str, float]] = []
    for number, block in enumerate(all_blocks):
        factor = lowest ** (1.0 - number / steps)
        if factor != 1.0:
            pairs += [(prefix, round(factor, 6)) for prefix in prefixes(all_blocks, block)]
    return tuple(pairs)
