"""``python -m tests.fuzz SEED``: one random network again, and the smallest part of it that still fails.

``python -m tests.fuzz FIRST LAST`` runs a range and lists what fails.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator

from fovea.graph.graph import Graph, Ref
from tests.fuzz.compare import check
from tests.fuzz.generator import Case, draw
from tests.torch_ops import torch


def failure(case: Case) -> str | None:
    """What goes wrong, or None."""
    try:
        check(case)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def smaller(graph: Graph) -> Iterator[Graph]:
    """The same network with fewer outputs, or without one node: its readers read what it read."""
    if len(graph.outputs) > 1:
        for ref in graph.outputs:
            yield graph.pruned([ref])
    for node in list(graph.nodes.values()):
        for source in node.inputs:
            if all(shape == graph.shape(source) for shape in node.output_shapes):
                yield _without(graph, node.name, source)
                break
        if node.name not in graph.inputs and graph.outputs != (Ref(node.name),):
            yield graph.pruned([Ref(node.name)])


def _without(graph: Graph, name: str, source: Ref) -> Graph:
    def moved(refs: tuple[Ref, ...]) -> tuple[Ref, ...]:
        return tuple(source if ref.node == name else ref for ref in refs)

    entries = [(node.name, node.op, moved(node.inputs)) for node in graph.nodes.values() if node.name != name]
    return Graph.from_nodes(entries, graph.inputs, moved(graph.outputs)).pruned(moved(graph.outputs))


def shrunk(case: Case) -> Case:
    """The smallest case found that fails."""
    for graph in smaller(case.graph):
        if len(graph.nodes) + len(graph.outputs) < len(case.graph.nodes) + len(case.graph.outputs):
            candidate = dataclasses.replace(case, graph=graph)
            if failure(candidate) is not None:
                return shrunk(candidate)
    return case


def describe(case: Case) -> str:
    """One line for each node."""
    lines = [f"batch {case.batch}, {'training' if case.training else 'inference'}"]
    for node in case.graph.nodes.values():
        inputs = ", ".join(ref.node + (f":{ref.index}" if ref.index else "") for ref in node.inputs)
        lines.append(f"  {node.name}: {node.op} ({inputs}) -> {node.output_shapes}")
    return "\n".join([*lines, f"  outputs: {[tuple(ref) for ref in case.graph.outputs]}"])


def main(words: list[str]) -> int:
    """Exit code 1 when something fails."""
    first, last = int(words[0]), int(words[-1])
    torch.set_num_threads(1)
    if first < last:
        counts: Counter[str] = Counter()
        for seed in range(first, last):
            why = failure(draw(seed))
            counts["failed" if why else "passed"] += 1
            if why:
                print(f"{seed}: {why}", flush=True)
        print(dict(counts))
        return int(counts["failed"] > 0)
    case = draw(first)
    print(describe(case))
    why = failure(case)
    print(why or "passes")
    if why is not None:
        small = shrunk(case)
        print(f"\nshrunk to\n{describe(small)}\n{failure(small)}")
    return int(why is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
