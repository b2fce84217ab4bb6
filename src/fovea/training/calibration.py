"""Which activations become bytes, and on which grids: ranges measured on samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.base import Plan
from fovea.graph.graph import Graph
from fovea.graph.integer import chains, computes_on_bytes, is_alias, is_depthwise
from fovea.graph.quantization import Grid
from fovea.ops import MaxPool

__all__ = ["METHODS", "Range", "choose_grid", "grid_nodes", "measure"]

Array = npt.NDArray[Any]
METHODS = ("mse", "percentile", "minmax")
SAMPLES = 1 << 16
"""Values of each activation on which a range is judged."""


def grid_nodes(graph: Graph) -> dict[str, str]:
    """By node whose output becomes bytes: the node whose grid it shares (itself, but behind pooling and aliases)."""
    shared: dict[str, str] = {}
    found = chains(graph, ())
    lasts = {chain.last.name: chain for chain in found.values()}
    inner = {one.name for chain in found.values() for one in (chain.node, chain.add) if one and one is not chain.last}

    def want(*names: str) -> None:
        for name in names:
            shared.setdefault(name, name)

    for node in reversed(list(graph.nodes.values())):
        chain, sources = lasts.get(node.name), [ref.node for ref in node.inputs]
        if chain is not None and computes_on_bytes(chain.node):
            if chain.add is not None or is_depthwise(chain.node):
                want(node.name)
            terms = [] if chain.add is None else [ref.node for ref in chain.add.inputs if ref.node != chain.node.name]
            want(chain.node.inputs[0].node, *terms)
        elif chain is not None and node.name in shared:
            want(*(ref.node for ref in chain.node.inputs))
        elif node.op.kind == "globalavgpool":
            want(*(name for name in sources if _origin(graph, name) in {*lasts, *shared}))
        elif node.name in shared and (isinstance(node.op, MaxPool) or is_alias(node)):
            want(sources[0])
    several = {node.name for node in graph.nodes.values() if node.op.num_outputs > 1}
    names = [name for name in graph.nodes if name in shared and name not in inner and name not in several]
    for name in names:
        node = graph.node(name)
        if (isinstance(node.op, MaxPool) or is_alias(node)) and node.inputs[0].node in names:
            shared[name] = shared[node.inputs[0].node]
    return {name: shared[name] for name in names}


def _origin(graph: Graph, name: str) -> str:
    """The node before pooling and aliases."""
    node = graph.node(name)
    passes = isinstance(node.op, MaxPool) or is_alias(node)
    return _origin(graph, node.inputs[0].node) if passes else name


@dataclass
class Range:
    """Smallest and largest value, and some values in between."""

    low: float = np.inf
    high: float = -np.inf
    samples: list[Array] = field(default_factory=list)


def measure(plan: Plan, inputs: Array, batches: Iterable[slice], names: Iterable[str], count: int) -> dict[str, Range]:
    """Ranges of kept activations, on ``count`` batches of the inputs. The same inputs give the same ranges."""
    ranges = {name: Range() for name in names}
    rng = np.random.default_rng(0)
    for batch in batches:
        plan.forward(inputs[batch])
        for name, one in ranges.items():
            values = plan.kept[name].ravel()
            one.low, one.high = min(one.low, float(values.min())), max(one.high, float(values.max()))
            one.samples.append(values[rng.integers(0, len(values), SAMPLES // count)])
    return ranges


def choose_grid(ranges: Iterable[Range], method: str) -> Grid:
    """The grid of activations that share one.

    ``minmax`` covers everything; ``percentile`` leaves out one value in 10,000 at each end; ``mse`` takes the clipping
    that gives the smallest mean squared error.
    """
    taken = list(ranges)
    low, high = min(0.0, *(one.low for one in taken)), max(0.0, *(one.high for one in taken))
    values = np.concatenate([part for one in taken for part in one.samples]).astype(np.float64)
    if method == "percentile":
        lowest, highest = np.quantile(values, [1e-4, 1 - 1e-4])
        return _grid(min(0.0, float(lowest)), max(0.0, float(highest)))
    if method == "minmax":
        return _grid(low, high)
    grids = [_grid(low * share, high * share) for share in np.linspace(1.0, 0.3, 36)]
    return min(grids, key=lambda grid: _error(values, grid))


def _grid(low: float, high: float) -> Grid:
    """Bytes from low to high, with 0 among them."""
    scale = float(np.float32((high - low) / 255)) or 1.0
    return Grid(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def _error(values: Array, grid: Grid) -> float:
    bytes_ = np.clip(np.rint(values / grid.scale) + grid.zero, 0, 255)
    return float(np.square((bytes_ - grid.zero) * grid.scale - values).mean())
