"""How a quantised graph is computed: which layers run on bytes, which of them run as one, and with what numbers.

Both engines follow the steps that are found here, so their results are equal. In every step sums are int32, and

    y = float32(sum + bias) * factor  [+ (residual - zero) * residual_factor]    each operation rounded to float32
    q = round_half_even(clamp(y, low, high)) + zero                              a byte; or clamped y, a float32

A layer that is no step runs in float32: its inputs are taken from bytes, its output is put on its grid when a step asks
for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.quantization import Grid, Quantization, int8_weights
from fovea.graph.winograd import takes_winograd
from fovea.ops import Conv, Dense, MaxPool, Normalize, ReLU

__all__ = ["IntegerStep", "WeightedNumbers", "chains", "clamp_range", "find_steps", "is_depthwise", "weighted_numbers"]

Array = npt.NDArray[Any]
MOST_TAPS = 64
MOST_TERMS = 33_000
"""Products in one sum: 255 * 127 * 33,000 and a bias of 2^30 fit 32 bits."""
MOST_POOLED = 256
ALIASES = ("dropout", "stochasticdepth", "flatten")


@dataclass(frozen=True)
class Chain:
    """A layer with what follows it at once: an addition, a ReLU or ReLU6."""

    node: Node
    add: Node | None
    clamp: Node | None

    @property
    def last(self) -> Node:
        """The node whose value the chain makes."""
        return self.clamp or self.add or self.node


@dataclass(frozen=True)
class IntegerStep:
    """``kind``: conv (dense layers too), winograd, depthwise, add, maxpool, mean, pixels (Normalize of bytes), alias.

    ``inputs``: on grids; of a conv its input and, with an addition, the other term. ``grid``: of the result; None: the
    result is float32.
    """

    kind: str
    node: Node
    last: Node
    inputs: tuple[Ref, ...]
    clamp: Node | None
    grid: Grid | None


def chains(graph: Graph, asked: Collection[str]) -> dict[str, Chain]:
    """By node: convolutions, dense layers and additions with what they take in. ``asked``: nodes that stay visible."""
    readers = graph.consumers()
    taken: set[str] = set()
    found: dict[str, Chain] = {}

    def reader(node: Node) -> Node | None:
        names = readers.get(Ref(node.name), [])
        if len(names) != 1 or node.name in asked or any(ref.node == node.name for ref in graph.outputs):
            return None
        return None if names[0] in taken else graph.node(names[0])

    def clamp_behind(node: Node) -> Node | None:
        behind = reader(node)
        plain = behind is not None and isinstance(behind.op, ReLU) and behind.op.backward_rule == "standard"
        return behind if behind is not None and (plain or behind.op.kind == "relu6") else None

    for node in graph.nodes.values():
        if not computes_on_bytes(node):
            continue
        add = None if is_depthwise(node) else reader(node)
        if add is not None and (add.op.kind != "add" or len(add.inputs) != 2 or len(set(add.input_shapes)) != 1):
            add = None
        found[node.name] = Chain(node, add, clamp_behind(add or node))
        taken.update(one.name for one in (add, found[node.name].clamp) if one is not None)
    for node in graph.nodes.values():
        equal = node.op.kind == "add" and len(node.inputs) == 2 and len(set(node.input_shapes)) == 1
        if equal and node.name not in taken:
            found[node.name] = Chain(node, None, clamp_behind(node))
    return found


def is_depthwise(node: Node) -> bool:
    """One input channel for every group."""
    return isinstance(node.op, Conv) and node.op.groups > 1 and node.op.groups == node.input_shapes[0][-1]


def computes_on_bytes(node: Node) -> bool:
    """Whether a node is a convolution or dense layer that the kernels of bytes compute."""
    op = node.op
    if not isinstance(op, (Conv, Dense)):
        return False
    *kernel, inputs, outputs = node.parameters[f"{node.name}.weight"].shape
    if math.prod(kernel) * inputs > MOST_TERMS or math.prod(kernel) > MOST_TAPS or len(kernel) > 3:
        return False
    groups = op.groups if isinstance(op, Conv) else 1
    return groups == 1 or inputs % 4 == 0 or (inputs == 1 and groups == outputs)


def find_steps(graph: Graph, quantization: Quantization, asked: Collection[str]) -> dict[str, IntegerStep | None]:
    """By node: the step that makes its value, or None when a step of another node contains it."""
    grids = quantization.grids
    steps: dict[str, IntegerStep | None] = {}
    for whole in chains(graph, asked).values():
        alone = Chain(whole.node, None, None)
        found = next((step for chain in (whole, alone) if (step := _chain_step(chain, quantization))), None)
        if found is not None:
            inner = (one.name for one in (found.node, whole.add) if one is not None and one is not found.last)
            steps.update(dict.fromkeys(inner if found.last is whole.last else ()))
            steps[found.last.name] = found
    for node in graph.nodes.values():
        plain = _plain_kind(graph, node, grids)
        if plain is not None and node.name not in steps:
            steps[node.name] = IntegerStep(plain, node, node, node.inputs, None, grids.get(node.name))
    return steps


def _chain_step(chain: Chain, quantization: Quantization) -> IntegerStep | None:
    """The step of a chain, when all that it needs is on a grid."""
    node, add, grid = chain.node, chain.add, quantization.grids.get(chain.last.name)
    if node.op.kind == "add":
        inputs, kind, fits = node.inputs, "add", grid is not None
    else:
        terms = () if add is None else tuple(ref for ref in add.inputs if ref.node != node.name)
        inputs, kind = (node.inputs[0], *terms), "depthwise" if is_depthwise(node) else "conv"
        fits = f"{node.name}.weight" in quantization.scales and (grid is not None or (kind == "conv" and add is None))
        fits = fits and len(terms) == (add is not None)
    if not fits or any(ref.index or ref.node not in quantization.grids for ref in inputs):
        return None
    if kind == "conv" and grid is not None and quantization.winograd:
        kind = "winograd" if takes_winograd(node, quantization.grids[inputs[0].node]) else kind
    return IntegerStep(kind, node, chain.last, inputs, chain.clamp, grid)


def _plain_kind(graph: Graph, node: Node, grids: Mapping[str, Grid]) -> str | None:
    """The kind of step of a node that is no chain, or None."""
    own = grids.get(node.name)
    if isinstance(node.op, Normalize):
        source = graph.node(node.inputs[0].node).op
        return "pixels" if own and node.op.order == "rgb" and getattr(source, "dtype", "") == "uint8" else None
    if not node.inputs or node.inputs[0].node not in grids or node.inputs[0].index:
        return None
    if node.op.kind == "globalavgpool":
        return "mean"
    same = grids[node.inputs[0].node] == own
    if isinstance(node.op, MaxPool) and same:
        return (
            "maxpool"
            if math.prod(axis.kernel for axis in node.op.windows(node.input_shapes[0])) <= MOST_POOLED
            else None
        )
    return "alias" if same and is_alias(node) else None


def is_alias(node: Node) -> bool:
    """Whether a node's bytes are those of its input: padded channels would come between flattened pixels."""
    if node.op.kind == "flatten":
        *spatial, channels = node.input_shapes[0]
        return (channels or 0) % 4 == 0 or all(size == 1 for size in spatial)
    return node.op.kind in ALIASES


# --- numbers


def clamp_range(clamp: Node | None, grid: Grid | None) -> tuple[float, float]:
    """low and high of a step: of the bytes around their zero point, or of the float32 output."""
    low = 0.0 if clamp is not None else -math.inf
    high = 6.0 if clamp is not None and clamp.op.kind == "relu6" else math.inf
    if grid is None:
        return low, high
    return max(float(-grid.zero), low), min(float(255 - grid.zero), float(np.float32(high / grid.scale)))


@dataclass(frozen=True)
class WeightedNumbers:
    """``weight`` int8, ``bias`` int32 (with the part of the input's zero point), ``factor`` float32 by channel."""

    weight: Array
    bias: Array
    factor: Array
    residual_factor: float


def weighted_numbers(step: IntegerStep, quantization: Quantization, parameters: Mapping[str, Array]) -> WeightedNumbers:
    """The numbers of a conv or depthwise step."""
    path = f"{step.node.name}.weight"
    scale, source = quantization.scales[path].astype(np.float64), quantization.grids[step.inputs[0].node]
    weight = int8_weights(parameters[path], quantization.scales[path])
    product = source.scale * scale
    bias = np.zeros(len(scale)) if f"{step.node.name}.bias" not in parameters else parameters[f"{step.node.name}.bias"]
    whole = np.clip(np.rint(bias / product), -(2**29), 2**29).astype(np.int64)
    whole -= source.zero * weight.reshape(-1, len(scale)).sum(0, dtype=np.int64)
    out = 1.0 if step.grid is None else step.grid.scale
    residual = quantization.grids[step.inputs[1].node].scale / out if len(step.inputs) > 1 else 0.0
    return WeightedNumbers(
        weight, whole.astype(np.int32), (product / out).astype(np.float32), float(np.float32(residual))
    )


def mean_factor(step: IntegerStep, quantization: Quantization) -> float:
    """What a sum over all positions is multiplied by."""
    *spatial, _ = step.node.input_shapes[0]
    out = 1.0 if step.grid is None else step.grid.scale
    scale = quantization.grids[step.inputs[0].node].scale
    return float(np.float32(scale / (math.prod(size or 0 for size in spatial) * out)))


def pixel_numbers(op: Normalize, channels: int, grid: Grid) -> tuple[Array, Array]:
    """Factor and offset by channel that bring pixels onto a grid."""
    mean, std = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (op.mean, op.std))
    return (op.scale / std / grid.scale).astype(np.float32), (-mean / std / grid.scale).astype(np.float32)
