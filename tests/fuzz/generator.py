"""Random networks, valid by construction: chains with branches, residuals and joins, in one to three dimensions.

Every choice comes from one seed. A move draws an op with random fields and applies it where shapes allow; what an op
itself refuses is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import fovea
from fovea.errors import FoveaError
from fovea.graph.graph import Graph
from fovea.ops.base import Op, Shape
from fovea.ops.value import Value

__all__ = ["Case", "draw"]

CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 18, 24, 32, 33)
"""Around the widths of vector registers, and what divides well into groups."""
WIDE_CHANNELS = (15, 16, 17, 24, 31, 32, 33, 48, 64)
MOST_ELEMENTS, WIDE_ELEMENTS = 1600, 12_000
"""Of one activation of one sample; some networks are wide enough for Winograd and several pieces of work."""


@dataclass(frozen=True)
class Case:
    """What one seed stands for. ``training``: batch statistics, dropout, gradients of parameters; ``asked``: nodes
    whose values and gradients are wanted, so that engines may not fuse them away."""

    seed: int
    graph: Graph
    batch: int
    training: bool
    bf16: bool
    asked: tuple[str, ...]


@dataclass(frozen=True)
class Spot:
    """A value of the network under construction, and its shape."""

    value: Value
    shape: tuple[int, ...]

    @property
    def spatial(self) -> int:
        """Number of spatial axes."""
        return len(self.shape) - 1


class Refused(Exception):
    """A move that does not fit here."""


def draw(seed: int) -> Case:
    """The network of a seed, and how to run it."""
    rng = np.random.default_rng(seed)
    training = bool(rng.random() < 0.65)
    builder = Builder(rng)
    graph = builder.graph(int(rng.integers(2, 14)))
    lowest = 3 if training else 1  # batch norm makes 1 and -1 of two values, whatever they are
    batch, bf16 = int(rng.integers(lowest, 6)), bool(rng.random() < 0.2)
    inner = [node.name for node in graph.nodes.values() if node.inputs and node.op.num_outputs == 1]
    asked = rng.choice(inner, min(int(rng.choice([0, 0, 0, 1, 2, 3])), len(inner)), replace=False)
    return Case(seed, graph, batch, training, bf16, tuple(map(str, asked)))


class Builder:
    """A network that grows by moves."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.wide = bool(rng.random() < 0.12)
        dims = 2 if self.wide else int(rng.choice([1, 2, 2, 2, 2, 3]))
        low, high = (7, 16) if self.wide else (1, {1: 24, 2: 11, 3: 5}[dims])
        shape = (*(self.some(low, high) for _ in range(dims)), self.channels(9))
        self.inputs = [self._input(shape, "x")]
        self.spots = list(self.inputs)
        if rng.random() < 0.15:
            other = shape if rng.random() < 0.5 else (int(rng.choice(CHANNELS)),)
            self.inputs.append(self._input(other, "y"))
            self.spots.insert(0, self.inputs[-1])

    def _input(self, shape: tuple[int, ...], name: str) -> Spot:
        return Spot(fovea.Input(shape, name=name), shape)

    def graph(self, length: int) -> Graph:
        """Make ``length`` moves, then one to three outputs."""
        while length > 0:
            spot = self.spots[-1] if self.rng.random() < 0.75 else self.pick(self.spots)
            move = self.pick(MOVES)
            try:
                self.spots.append(move(self, spot))
            except (Refused, FoveaError):
                continue
            length -= 1
        made = [spot for spot in self.spots if spot not in self.inputs]
        further = [self.pick(made) for _ in range(int(self.rng.choice([0, 0, 0, 1, 2])))]
        ends = list(dict.fromkeys([made[-1], *further]))
        used = [self.inputs[0]] if len(self.inputs) == 1 else self.inputs
        return Graph([spot.value for spot in used], [self.head(spot).value for spot in ends])

    def head(self, spot: Spot) -> Spot:
        """An output as it is, or behind what classifiers end with."""
        kind = self.rng.integers(4)
        if kind == 0 and spot.spatial >= 1:
            return self.apply(fovea.Dense(5), self.apply(fovea.GlobalAvgPool(), spot))
        if kind == 1:
            return self.apply(fovea.Dense(int(self.rng.integers(1, 9))), self.apply(fovea.Flatten(), spot))
        return spot

    # --- what moves use

    def pick(self, options: Sequence[Any]) -> Any:
        """One of some options."""
        return options[int(self.rng.integers(len(options)))]

    def some(self, low: int, high: int) -> int:
        """A whole number from low to high."""
        return int(self.rng.integers(low, high + 1))

    def channels(self, most: int = 33) -> int:
        """A number of channels."""
        if self.wide and most > 9:
            return int(self.pick(WIDE_CHANNELS))
        return int(self.pick([one for one in CHANNELS if one <= most]))

    def apply(self, op: Op, *spots: Spot) -> Spot:
        """The op's first output. Raises Refused when it grows too large."""
        return self.outputs(op, *spots)[0]

    def outputs(self, op: Op, *spots: Spot) -> list[Spot]:
        """All outputs of an op."""
        shapes: tuple[Shape, ...] = op.output_shapes(*(spot.shape for spot in spots))
        closed = [tuple(size or 0 for size in shape) for shape in shapes]
        most = WIDE_ELEMENTS if self.wide else MOST_ELEMENTS
        if any(not shape or min(shape) < 1 or int(np.prod(shape)) > most for shape in closed):
            raise Refused
        op.parameters(*(spot.shape for spot in spots))  # some fields are refused there
        result = op(*(spot.value for spot in spots))
        values = result if isinstance(result, tuple) else (result,)
        return [Spot(value, shape) for value, shape in zip(values, closed, strict=True)]

    def chain(self, spot: Spot, *layers: Op) -> Spot:
        """Ops one after the other."""
        for layer in layers:
            spot = self.apply(layer, spot)
        return spot

    def like(self, spot: Spot) -> Spot:
        """Another value of the same shape, or itself."""
        others = [one for one in self.spots if one.shape == spot.shape]
        return self.pick(others) if others else spot

    def divisor(self, *numbers: int) -> int:
        """A common divisor."""
        return int(self.pick([d for d in range(1, min(numbers) + 1) if all(n % d == 0 for n in numbers)]))

    def per_axis(self, spot: Spot, low: int, high: int) -> Any:
        """A number for all axes, or one for each."""
        if self.rng.random() < 0.6:
            return self.some(low, high)
        return tuple(self.some(low, high) for _ in range(spot.spatial))

    def padding(self, spot: Spot, most: int) -> Any:
        """As windows take it."""
        kind = self.rng.integers(4)
        if kind == 0:
            return "same"
        if kind == 1:
            return tuple((self.some(0, most), self.some(0, most)) for _ in range(spot.spatial))
        return self.some(0, most)


Move = Callable[[Builder, Spot], Spot]


def needs_map(spot: Spot) -> None:
    """Raises Refused where there is no spatial axis."""
    if not 1 <= spot.spatial <= 3:
        raise Refused


def conv(b: Builder, spot: Spot) -> Spot:
    """Any geometry; grouped, depthwise, pointwise."""
    needs_map(spot)
    ins, kind = spot.shape[-1], b.rng.integers(6)
    outs = ins * b.some(1, 2) if kind == 0 else b.channels()
    groups = ins if kind == 0 else b.divisor(ins, outs) if kind == 1 else 1
    fields: dict[str, Any] = {"padding": b.padding(spot, 2), "use_bias": b.rng.random() < 0.6, "groups": groups}
    if kind >= 2 and b.rng.random() < 0.3:
        return b.apply(fovea.Conv(outs, 1, stride=b.some(1, 2), use_bias=fields["use_bias"]), spot)
    if b.rng.random() < 0.4:
        return b.apply(fovea.Conv(outs, 3, stride=b.some(1, 2), **fields | {"padding": b.pick([1, "same", 0])}), spot)
    sizes = {"kernel_size": (1, 4), "stride": (1, 3), "dilation": (1, 2)}
    return b.apply(fovea.Conv(outs, **{name: b.per_axis(spot, *ends) for name, ends in sizes.items()}, **fields), spot)


def conv_transpose(b: Builder, spot: Spot) -> Spot:
    """Any geometry, with output padding."""
    needs_map(spot)
    outs = b.channels(17)
    return b.apply(
        fovea.ConvTranspose(
            outs, b.per_axis(spot, 1, 4), stride=b.per_axis(spot, 1, 3), dilation=b.per_axis(spot, 1, 2),
            padding=b.padding(spot, 1), groups=b.divisor(spot.shape[-1], outs), use_bias=b.rng.random() < 0.6,
            output_padding=b.pick([0, 0, 1]),
        ),
        spot,
    )  # fmt: skip


def pool(b: Builder, spot: Spot) -> Spot:
    """Windows of any geometry."""
    needs_map(spot)
    fields: dict[str, Any] = {
        "kernel_size": b.per_axis(spot, 1, 3), "stride": b.pick([None, b.per_axis(spot, 1, 3)]),
        "padding": b.padding(spot, 1), "ceil_mode": b.rng.random() < 0.4,
    }  # fmt: skip
    if b.rng.random() < 0.15:
        fields["dilation"] = 2
    if b.rng.random() < 0.5:
        return b.apply(fovea.MaxPool(**fields), spot)
    return b.apply(fovea.AvgPool(**fields, count_include_pad=b.rng.random() < 0.5), spot)


def whole_pool(b: Builder, spot: Spot) -> Spot:
    """All positions, or a fixed number of bins."""
    needs_map(spot)
    if b.rng.random() < 0.3:
        return b.apply(fovea.AdaptiveAvgPool(b.per_axis(spot, 1, 3)), spot)
    kind = b.pick([fovea.GlobalAvgPool, fovea.GlobalAvgPool, fovea.GlobalMaxPool])
    return b.apply(kind(keepdims=b.rng.random() < 0.5), spot)


def norm(b: Builder, spot: Spot) -> Spot:
    """Every kind."""
    channels = spot.shape[-1]
    makers: list[Callable[[], Op]] = [
        fovea.BatchNorm, lambda: fovea.BatchNorm(eps=1e-3, momentum=0.3), lambda: fovea.GroupNorm(b.divisor(channels)),
        fovea.LayerNorm, lambda: fovea.LRN(b.pick([3, 5]), alpha=0.1),  # onnxruntime takes odd windows only
    ]  # fmt: skip
    return b.apply(b.pick(makers)(), spot)


ACTIVATIONS: list[Callable[[], Op]] = [
    fovea.ReLU, fovea.ReLU, fovea.ReLU, fovea.ReLU6, fovea.LeakyReLU, lambda: fovea.LeakyReLU(0.2), fovea.PReLU,
    fovea.Sigmoid, fovea.Tanh, fovea.SiLU, fovea.GELU, lambda: fovea.GELU("tanh"), fovea.HardSigmoid, fovea.HardSwish,
    fovea.ELU, fovea.SELU, fovea.Softplus, fovea.Mish, lambda: fovea.Clip(-0.7, 0.9), fovea.Abs,
]  # fmt: skip


def activation(b: Builder, spot: Spot) -> Spot:
    """One of them; some functions behind one that brings numbers where they are tame."""
    kind = b.rng.integers(12)
    if kind == 0:
        return b.apply(fovea.Softmax(b.some(1, len(spot.shape))), spot)
    if kind == 1:
        return b.chain(spot, fovea.Tanh(), fovea.Exp(), b.pick([fovea.Sqrt(), fovea.Log()]))
    return b.apply(b.pick(ACTIVATIONS)(), spot)


def join(b: Builder, spot: Spot) -> Spot:
    """Two values of one shape, or a map and a vector of its channels, or two maps side by side."""
    kind = b.rng.integers(7)
    if kind == 0 and spot.spatial >= 1:
        gate = b.apply(fovea.Sigmoid(), b.apply(fovea.GlobalAvgPool(keepdims=b.rng.random() < 0.5), spot))
        return b.apply(fovea.Multiply(), *b.pick([(spot, gate), (gate, spot)]))
    if kind == 1:
        others = [one for one in b.spots if one.shape[:-1] == spot.shape[:-1] and len(one.shape) == len(spot.shape)]
        return b.apply(fovea.Concat(), *(b.pick(others or [spot]) for _ in range(b.some(1, 2))), spot)
    if kind == 2:
        return b.apply(fovea.Concat(axis=b.some(1, len(spot.shape))), spot, b.like(spot))
    other = b.like(spot)
    if kind == 3:
        return b.apply(fovea.Div(), spot, b.chain(other, fovea.Sigmoid(), fovea.Exp()))
    if kind == 4:
        return b.apply(fovea.Add(), spot, other, b.like(spot))
    return b.apply(b.pick([fovea.Add(), fovea.Add(), fovea.Sub(), fovea.Multiply()]), *b.pick([(spot, other)] * 2))


def residual(b: Builder, spot: Spot) -> Spot:
    """Blocks as networks have them: plain, bottleneck, inverted."""
    needs_map(spot)
    channels, kind = spot.shape[-1], b.rng.integers(3)
    act = b.pick([fovea.ReLU, fovea.ReLU, fovea.ReLU6, fovea.SiLU, fovea.HardSwish])
    if kind == 0:
        body = b.chain(
            spot, fovea.Conv(channels, 3, padding=1, use_bias=False), fovea.BatchNorm(), act(),
            fovea.Conv(channels, 3, padding=1, use_bias=False), fovea.BatchNorm(),
        )  # fmt: skip
        return b.chain(b.apply(fovea.Add(), *b.pick([(body, spot), (spot, body)])), act())
    wide, stride = channels * b.some(1, 3), b.pick([1, 1, 2])
    groups = wide if kind == 1 else 1
    body = b.chain(
        spot, fovea.Conv(wide, 1, use_bias=False), fovea.BatchNorm(), act(),
        fovea.Conv(wide, 3, stride=stride, padding=b.pick([1, "same"]), groups=groups, use_bias=False),
        fovea.BatchNorm(), act(), fovea.Conv(channels, 1, use_bias=False), fovea.BatchNorm(),
    )  # fmt: skip
    if b.rng.random() < 0.3:
        body = b.apply(fovea.StochasticDepth(0.3), body)
    return b.apply(fovea.Add(), body, spot) if body.shape == spot.shape else body


def block(b: Builder, spot: Spot) -> Spot:
    """Convolution, norm, activation, pooling, as they follow each other."""
    needs_map(spot)
    layers: list[Op] = [fovea.Conv(b.channels(), b.pick([1, 3, 5]), padding="same", use_bias=b.rng.random() < 0.5)]
    if b.rng.random() < 0.6:
        layers.append(fovea.BatchNorm())
    layers.append(b.pick([fovea.ReLU, fovea.ReLU, fovea.ReLU6, fovea.HardSwish])())
    if b.rng.random() < 0.4 and min(spot.shape[:-1]) >= 2:
        layers.append(b.pick([fovea.MaxPool(2), fovea.MaxPool(3, 2, 1), fovea.AvgPool(2)]))
    return b.chain(spot, *layers)


def excite(b: Builder, spot: Spot) -> Spot:
    """Squeeze and excitation, with dense layers or with convolutions."""
    needs_map(spot)
    channels, ends = spot.shape[-1], b.pick([(fovea.ReLU(), fovea.Sigmoid()), (fovea.SiLU(), fovea.HardSigmoid())])
    if b.rng.random() < 0.5:
        layers = fovea.GlobalAvgPool(), fovea.Dense(3), ends[0], fovea.Dense(channels), ends[1]
    else:
        layers = fovea.GlobalAvgPool(keepdims=True), fovea.Conv(3, 1), ends[0], fovea.Conv(channels, 1), ends[1]
    return b.apply(fovea.Multiply(), spot, b.chain(spot, *layers))


def shuffle(b: Builder, spot: Spot) -> Spot:
    """Channels exchanged, or split, changed on one side and joined again."""
    channels = spot.shape[-1]
    if b.rng.random() < 0.4 or channels < 2:
        return b.apply(fovea.ChannelShuffle(b.divisor(channels)), spot)
    cut = b.some(1, channels - 1)
    left, right = b.outputs(fovea.Split((cut, channels - cut)), spot)
    right = b.apply(b.pick(ACTIVATIONS)(), right)
    return b.apply(fovea.Concat(), *b.pick([(left, right), (right, left)]))


def move(b: Builder, spot: Spot) -> Spot:
    """Elements go elsewhere, or are left out."""
    ndim, kind = len(spot.shape), b.rng.integers(7)
    if kind == 0:
        axis = b.some(1, ndim)
        size = spot.shape[axis - 1]
        ends = b.pick([(0, max(size - 1, 1), 1), (None, None, -1), (b.some(0, size - 1), None, 1), (None, None, 2)])
        return b.apply(fovea.Slice(ends[0], ends[1], axis, ends[2]), spot)
    if kind == 1:
        mode = b.pick(["zero", "zero", "reflect", "replicate", "circular"])
        value = 0.5 if mode == "zero" and b.rng.random() < 0.3 else 0.0
        pairs = tuple((b.some(0, 2), b.some(0, 2)) for _ in range(ndim - 1))
        return b.apply(fovea.Pad(pairs if ndim > 1 else ((1, 2),), mode=mode, value=value), spot)
    if kind == 2:
        perm = [0, *(1 + int(axis) for axis in b.rng.permutation(ndim))]
        return b.apply(fovea.Transpose(tuple(perm)), spot)
    if kind == 3:
        total = int(np.prod(spot.shape))
        front = b.divisor(total)
        return b.apply(fovea.Reshape(b.pick([(front, -1), (total,), (front, 1, -1), (-1, front)])), spot)
    if kind == 4:
        axes = tuple(int(one) + 1 for one in b.rng.permutation(ndim)[: b.some(1, ndim)])
        return b.apply(fovea.Reduce(axes, b.pick(["mean", "sum", "max"]), b.rng.random() < 0.5), spot)
    if kind == 5:
        return b.apply(fovea.Flatten(), spot)
    needs_map(spot)
    mode = b.pick(["nearest", "bilinear"])
    coordinates = b.pick(["half_pixel", "align_corners", "asymmetric"])
    size = {"scale": b.some(1, 2)} if b.rng.random() < 0.5 else {"size": b.per_axis(spot, 1, 7)}
    return b.apply(fovea.Resize(**size, mode=mode, coordinates=coordinates), spot)


def dense(b: Builder, spot: Spot) -> Spot:
    """On whatever there is, or a product of two activations."""
    if spot.spatial == 1 and b.rng.random() < 0.3:
        return b.apply(fovea.MatMul(), spot, b.apply(fovea.Transpose((0, 2, 1)), b.like(spot)))
    return b.apply(fovea.Dense(b.channels(), use_bias=b.rng.random() < 0.6), spot)


def small(b: Builder, spot: Spot) -> Spot:
    """What training has beside: masks, scales, stopped gradients, constants, pixels."""
    kind = b.rng.integers(6)
    if kind == 0:
        vector = b.rng.standard_normal(spot.shape[-1:]).round(2).tolist()
        constant = fovea.Constant(vector)
        return b.apply(fovea.Add(), spot, Spot(constant(), spot.shape[-1:]))
    if kind == 1:
        order = b.pick(["rgb", "bgr"])
        return b.apply(fovea.Normalize((0.4,), (0.8,), order=order), spot)
    makers: list[Op] = [fovea.Dropout(0.3), fovea.StochasticDepth(0.3), fovea.LayerScale(0.5), fovea.StopGradient()]
    return b.apply(makers[kind - 2], spot)


MOVES: list[Move] = [
    conv, conv, conv, conv, block, block, residual, residual, norm, norm, activation, activation, activation,
    pool, pool, join, join, join, conv_transpose, whole_pool, excite, shuffle, move, move, dense, small,
]  # fmt: skip
