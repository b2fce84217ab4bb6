"""Convolution, ReLU and 2x2 max-pooling as one kernel, for few channels: the map between them is never stored.

Forward leaves the pooled values and which pixel won. Backward weight reads just the winners, a quarter of the pixels;
only a gradient that must go on to the convolution's input is spread over the map first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engines.native.rules.window import conv_ints, pool_ints
from fovea.ops import Conv, MaxPool

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.graph.graph import Node

__all__ = ["pooled_backward_weight", "pooled_forward", "pooling_pays"]

_MOST_DEPTH, _MOST_CHANNELS = 256, 16
"""What one tile of the kernel takes: input channels times taps, output channels (native/kernels/planar.h)."""
_UNFUSED = 1.25
"""What a map costs that is written and read again, relative to its convolution."""


def pooling_pays(conv: Node, pool: Node, vector: int) -> bool:
    """Whether vectors of ``vector`` pixels of pooled rows leave fewer lanes empty than vectors of channels do.

    The kernel takes 2-D convolutions without stride and dilation, and windows of 2x2 that touch and cover.
    """
    if not isinstance(conv.op, Conv) or not isinstance(pool.op, MaxPool) or len(pool.input_shapes[0]) != 3:
        return False
    groups, inputs, outputs, *sizes = conv_ints(conv)
    kernel, stride, dilation = sizes[6:9], sizes[9:12], sizes[12:15]
    windows = pool_ints(pool)
    if [groups, *stride, *dilation] != [1] * 7 or windows[7:] != [1, 2, 2, 1, 2, 2, 1, 1, 1, 0, 0, 0]:
        return False
    if inputs * math.prod(kernel) > _MOST_DEPTH or outputs > _MOST_CHANNELS:
        return False
    width = windows[6]
    by_pixels = -(-width // vector) * vector / width
    by_channels = -(-outputs // vector) * vector / outputs
    return by_pixels < _UNFUSED * by_channels


def _ints(conv: Node, clamp: Node | None, pool: Node) -> list[int]:
    return [*conv_ints(conv), int(clamp is not None), *pool_ints(pool)[5:7]]


def pooled_forward(conv: Node, clamp: Node | None, low: Lowering, node: Node) -> None:
    """y = maximum of each window of max(x * weight + bias, 0)."""
    y = low.output(node)
    index = low.buffer(y.elements, "uint8") if low.differentiated(node) else None
    low.saved[node.name] = index
    ins = [low.input(conv), low.parameter(conv, "weight"), low.parameter(conv, "bias")]
    low.emit("convpool", [y, index], ins, _ints(conv, clamp, node), (0.0, math.inf))


def pooled_backward_weight(clamp: Node | None, pool: Node, low: Lowering, node: Node) -> None:
    """dweight and dbias of the convolution from the gradient of the pooled map, which came through unchanged."""
    grads = [low.grad_parameter(node, "weight"), low.grad_parameter(node, "bias")]
    gate = None if clamp is None else low.value(pool)
    ins = [low.input(node), low.grad(node), low.saved[pool.name], gate]
    low.emit("convpool_backward_weight", grads, ins, _ints(node, clamp, pool))
