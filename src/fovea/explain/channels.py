"""Dead and saturated channels: how the outputs of layers are distributed over a data set, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.maps import stream
from fovea.graph.graph import Graph, Node
from fovea.model import Model
from fovea.ops import Clip

__all__ = ["ChannelStatistics", "activation_layers", "channel_statistics", "range_of"]

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
NEAR = 0.01
"""Within this share of its range of a limit a smooth activation counts as saturated: its slope is almost 0 there."""
_LIMITS = {
    "relu": (0.0, None), "relu6": (0.0, 6.0), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0),
}  # fmt: skip
_SMOOTH = frozenset({"sigmoid", "tanh"})
_BOTH = frozenset({"sigmoid", "tanh", "hardsigmoid", "clip"})
_MORE = frozenset({"leakyrelu", "prelu", "silu", "gelu", "hardswish", "elu", "selu", "softplus", "mish"})


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Of one layer over ``samples`` samples with ``positions`` positions each; arrays have one number a channel.

    ``mean``, ``std``, ``minimum``, ``maximum``; ``zeros``: share of values that are exactly 0; ``low``, ``high``: share
    at the lower and upper limit of the activation (``limits``, of tanh and sigmoid within one per cent; None: it has no
    such limit, and the share is 0). ``active``: in how many samples the channel is above its lower limit anywhere.
    """

    layer: str
    kind: str
    limits: tuple[float | None, float | None]
    samples: int
    positions: int
    mean: F64
    std: F64
    minimum: F64
    maximum: F64
    zeros: F64
    low: F64
    high: F64
    active: npt.NDArray[np.int64]

    @property
    def dead(self) -> npt.NDArray[np.bool_]:
        """C: channels that never change: they say nothing, and with a rectifier learn nothing."""
        return np.asarray(self.minimum == self.maximum)

    @property
    def never(self) -> npt.NDArray[np.bool_]:
        """C: channels that are at their lower limit everywhere, in every sample (none where there is no limit)."""
        return np.asarray(self.low == 1.0) if self.limits[0] is not None else np.zeros(len(self.low), bool)

    @property
    def always(self) -> npt.NDArray[np.bool_]:
        """C: channels that are above their lower limit everywhere: to them a rectifier is no more than a line."""
        return np.asarray(self.low == 0.0) if self.limits[0] is not None else np.zeros(len(self.low), bool)

    @property
    def saturated(self) -> npt.NDArray[np.bool_]:
        """C: channels of which more than nine tenths lie at a limit where the slope is 0, though they change.

        Of a rectifier that is the upper limit alone (ReLU6): to be 0 for most inputs is what it is for.
        """
        low = self.low if self.kind in _BOTH else 0.0
        return np.asarray((low + self.high > 0.9) & ~self.dead)


def channel_statistics(
    model: Model, samples: Any, layers: Sequence[str] | None = None, *, engine: str | None = None
) -> dict[str, ChannelStatistics]:
    """Statistics of every channel of layers over samples (a split, images, paths) in one pass and bounded memory.

    ``layers`` None: all activations (ReLU and the like). Sums run sample by sample, so that how the data are cut does
    not change them. Raises the errors of ``activations``.
    """
    names = list(layers) if layers is not None else activation_layers(model.graph)
    if layers is None and not names:
        names = [node.name for node in model.graph.nodes.values() if node.op.kind in ("conv", "dense")]
    counters: dict[str, _Counter] = {}
    for piece in stream(model, samples, names, engine=engine, what="channels"):
        for name, outputs in piece.outputs.items():
            if name not in counters:
                counters[name] = _Counter(model.graph.node(name), outputs.shape[-1])
            counters[name].add(outputs)
    return {name: counter.result() for name, counter in counters.items()}


def activation_layers(graph: Graph) -> list[str]:
    """The nodes that are activations, in order; squeeze-and-excitation's gates are none of them."""
    axes = len(graph.shape(graph.inputs[0]))
    kinds = {*_LIMITS, *_MORE, "clip"}
    found = [node for node in graph.nodes.values() if node.op.kind in kinds]
    return [node.name for node in found if len(node.output_shapes[0]) != axes or not _is_gate(node)]


def _is_gate(node: Node) -> bool:
    return all(size == 1 for size in node.output_shapes[0][:-1])


def range_of(node: Node) -> tuple[float | None, float | None]:
    """The lowest and highest value that an activation can give, None where there is none."""
    if isinstance(node.op, Clip):
        return node.op.low, node.op.high
    return _LIMITS.get(node.op.kind, (None, None))


class _Counter:
    """Sums over samples, channel by channel."""

    def __init__(self, node: Node, channels: int) -> None:
        self._node, self._limits = node, range_of(node)
        self._samples, self._positions = 0, 1
        self._origin: Array | None = None  # squares of what is far from 0 would leave no digits for the deviation
        self._sum, self._squares = np.zeros(channels), np.zeros(channels)
        self._counts = np.zeros((3, channels), np.int64)  # exactly 0, at the lower limit, at the upper limit
        self._active = np.zeros(channels, np.int64)
        self._minimum, self._maximum = np.full(channels, np.inf), np.full(channels, -np.inf)

    def add(self, outputs: Array) -> None:
        """Count N,*spatial,C."""
        flat = outputs.reshape(len(outputs), -1, outputs.shape[-1])
        self._samples += len(flat)
        self._positions = flat.shape[1]
        if self._origin is None:
            self._origin = flat[0, 0].copy()
        moved = flat - self._origin
        ones = np.ones((1, flat.shape[1]), flat.dtype)
        for sums, squares in zip(np.matmul(ones, moved), np.matmul(ones, moved * moved), strict=True):
            self._sum += sums[0]  # each sample on its own: how the data are cut changes nothing
            self._squares += squares[0]
        low, high = self._at_limits(flat)
        self._counts += np.stack([(flat == 0).sum(axis=(0, 1)), low.sum(axis=(0, 1)), high.sum(axis=(0, 1))])
        self._active += (~low).any(axis=1).sum(axis=0)
        self._minimum = np.minimum(self._minimum, flat.min(axis=(0, 1)))
        self._maximum = np.maximum(self._maximum, flat.max(axis=(0, 1)))

    def _at_limits(self, flat: Array) -> tuple[Array, Array]:
        low, high = self._limits
        smooth = self._node.op.kind in _SMOOTH and low is not None and high is not None
        near = NEAR * (high - low) if smooth and low is not None and high is not None else 0.0
        below = flat <= low + near if low is not None else np.zeros(flat.shape, bool)
        above = flat >= high - near if high is not None else np.zeros(flat.shape, bool)
        return below, above

    def result(self) -> ChannelStatistics:
        """The statistics of all that was counted."""
        count = self._samples * self._positions
        apart = self._sum / count
        mean = apart + (0.0 if self._origin is None else self._origin.astype(np.float64))
        variance = np.maximum(self._squares / count - apart * apart, 0)
        zeros, low, high = self._counts / count
        return ChannelStatistics(
            self._node.name, self._node.op.kind, self._limits, self._samples, self._positions, mean, np.sqrt(variance),
            self._minimum, self._maximum, zeros, low, high, self._active,
        )  # fmt: skip
