"""Convolution, ReLU and 2x2 max-pooling as one, for few channels: the map between them is never stored.

Forward leaves the pooled values and which pixel won; backward reads just the winners, a quarter of the pixels, whether
or not forward ran as one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engines.native.rules.window import conv_ints, pool_ints
from fovea.ops import Conv, MaxPool

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.graph.graph import Node

__all__ = ["byte_pooling_pays", "pooled_forward", "pooled_sizes", "pooling_pays", "winners_backward", "winners_pay"]

_MOST_DEPTH, _MOST_CHANNELS = 256, 16
"""What a tile of the forward kernel takes: input channels times taps, output channels (native/kernels/planar.h)."""
_MOST_RUNS = 128
"""What backward data takes: vectors that hold the rows of the kernel (native/kernels/conv_pool.h)."""
_HOT_WEIGHTS, _HOT_MAP = 6144, 65536
"""Floats that should stay in the first and in the second-level cache."""
_MOST_BYTE_COLUMNS, _MOST_BYTE_CHANNELS = 7, 64
"""What the kernel of bytes takes (native/kernels/dot_int8_pooled.cpp)."""
_UNFUSED = 1.25
"""What a map costs that is written and read again, relative to its convolution."""


def pooled_sizes(conv: Node, pool: Node) -> tuple[int, int, int, int] | None:
    """Input and output channels, height and width of the kernel, when convolution and windows are of the right kind.

    Two spatial axes, no stride, no dilation; windows of 2x2 that touch each other.
    """
    if not isinstance(conv.op, Conv) or not isinstance(pool.op, MaxPool) or len(pool.input_shapes[0]) != 3:
        return None
    groups, inputs, outputs, *sizes = conv_ints(conv)
    if [groups, *sizes[9:15]] != [1] * 7 or pool_ints(pool)[7:] != [1, 2, 2, 1, 2, 2, 1, 1, 1, 0, 0, 0]:
        return None
    return inputs, outputs, sizes[7], sizes[8]


def pooling_pays(conv: Node, pool: Node, vector: int) -> bool:
    """Whether vectors of ``vector`` pixels of pooled rows leave fewer lanes empty than vectors of channels do."""
    sizes = pooled_sizes(conv, pool)
    if sizes is None or sizes[0] * sizes[2] * sizes[3] > _MOST_DEPTH or sizes[1] > _MOST_CHANNELS:
        return False
    width, outputs = pool_ints(pool)[6], sizes[1]
    by_pixels = -(-width // vector) * vector / width
    by_channels = -(-outputs // vector) * vector / outputs
    return by_pixels < _UNFUSED * by_channels


def byte_pooling_pays(conv: Node, pool: Node, vector: int) -> bool:
    """The same on bytes, for images of one channel: vectors of pixels hold four columns of the kernel, those of
    channels one."""
    sizes = pooled_sizes(conv, pool)
    if sizes is None or sizes[0] != 1 or sizes[1] > _MOST_BYTE_CHANNELS or sizes[3] > _MOST_BYTE_COLUMNS:
        return False
    width, (_, outputs, rows, columns) = pool_ints(pool)[6], sizes
    by_pixels = -(-width // vector) * rows * outputs * 8
    by_channels = width * rows * columns * -(-outputs // vector) * 4
    return by_pixels < _UNFUSED * by_channels


def winners_pay(conv: Node, pool: Node, vector: int, data: bool) -> bool:
    """Whether backward (``data``: to the input as well) takes fewer instructions from winners than over the whole map.

    Counted for a window, in vectors that are multiplied, with what finding a winner costs.
    """
    sizes = pooled_sizes(conv, pool)
    if sizes is None:
        return False
    inputs, outputs, height, width = sizes
    depth, runs = inputs * height * width, height * -(-inputs * width // vector)
    weight = 1.5 * outputs * (-(-depth // vector) + 4) < 4 * depth * -(-outputs // vector)
    if depth > _MOST_DEPTH or not weight or not data:
        return weight and depth <= _MOST_DEPTH
    rows, columns = (size or 0 for size in conv.input_shapes[0][:2])
    hot = runs * vector * outputs <= _HOT_WEIGHTS and (rows + height) * (columns + width) * inputs <= _HOT_MAP
    cheap = outputs * (runs + 8) + 8 * runs < 4 * height * width * outputs * -(-inputs // vector)
    return hot and cheap and runs <= _MOST_RUNS


def _ints(conv: Node, clamp: Node | None, pool: Node) -> list[int]:
    return [*conv_ints(conv), int(clamp is not None), *pool_ints(pool)[5:7]]


def pooled_forward(conv: Node, clamp: Node | None, low: Lowering, node: Node) -> None:
    """y = maximum of each window of max(x * weight + bias, 0)."""
    y = low.output(node)
    index = low.buffer(y.elements, "uint8") if low.differentiated(node) else None
    low.saved[node.name] = index
    ins = [low.input(conv), low.parameter(conv, "weight"), low.parameter(conv, "bias")]
    low.emit("convpool", [y, index], ins, _ints(conv, clamp, node), (0.0, math.inf))


def winners_backward(clamp: Node | None, pool: Node, low: Lowering, node: Node) -> None:
    """All gradients of the convolution from that of the pooled map, which came through unchanged."""
    ints = _ints(node, clamp, pool)
    read = [low.grad(node), low.saved[pool.name], None if clamp is None else low.value(pool)]
    grads = [low.grad_parameter(node, "weight"), low.grad_parameter(node, "bias")]
    low.emit("convpool_backward_weight", grads, [low.input(node), *read], ints)
    if low.needs(node):
        dx = low.grad_input(node)
        low.emit("convpool_backward_data", [dx], [*read, low.parameter(node, "weight")], ints)
        low.add_grad(node, 0, dx)
