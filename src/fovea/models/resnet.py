"""Residual networks for photographs, and the blocks that all residual networks here share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from fovea.errors import ConfigError
from fovea.graph.compose import Layer, Sequential
from fovea.graph.compose import call as apply_layer
from fovea.models.registry import FAN_OUT, register
from fovea.ops import Add, BatchNorm, Conv, Dense, GlobalAvgPool, MaxPool, ReLU, Value

__all__ = ["basic_block", "bottleneck", "projection", "resnet18", "resnet34", "resnet50"]

PAPER = 'He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", table 1'

Block = Callable[[int, int, Layer | None], Layer]


def projection(out_channels: int, stride: int) -> Layer:
    """The shortcut with parameters (option B): 1x1 convolution and batch norm."""
    return Sequential(Conv(out_channels, 1, stride=stride, use_bias=False), BatchNorm())


def basic_block(channels: int, stride: int, shortcut: Layer | None) -> Layer:
    """``relu(body(x) + shortcut(x))`` with two 3x3 convolutions; a ``shortcut`` of None is the identity.

    Nodes: conv1, batchnorm1, relu1, conv2, batchnorm2, shortcut.*, add1, relu2.
    """

    def block(x: Value) -> Value:
        y: Value = ReLU()(BatchNorm()(Conv(channels, 3, stride=stride, padding=1, use_bias=False)(x)))
        y = BatchNorm()(Conv(channels, 3, padding=1, use_bias=False)(y))
        return _join(y, x, shortcut)

    return block


def bottleneck(channels: int, stride: int, shortcut: Layer | None, stride_at: str = "3x3") -> Layer:
    """1x1, 3x3 and 1x1 convolution to ``4 channels``; the stride stands at the 3x3 (later called "v1.5") or the first.

    Nodes are numbered as in ``basic_block``.
    """
    first, second = (stride, 1) if stride_at == "1x1" else (1, stride)

    def block(x: Value) -> Value:
        y: Value = ReLU()(BatchNorm()(Conv(channels, 1, stride=first, use_bias=False)(x)))
        y = ReLU()(BatchNorm()(Conv(channels, 3, stride=second, padding=1, use_bias=False)(y)))
        y = BatchNorm()(Conv(4 * channels, 1, use_bias=False)(y))
        return _join(y, x, shortcut)

    return block


def _join(y: Value, x: Value, shortcut: Layer | None) -> Value:
    skip = x if shortcut is None else apply_layer(shortcut, (x,), "shortcut")
    joined: Value = ReLU()(Add()(y, skip))
    return joined


def _resnet(num_classes: int, block: Block, depths: Sequence[int], expansion: int) -> Layer:
    stages: dict[str, Layer] = {
        "stem": Sequential(
            Conv(64, 7, stride=2, padding=3, use_bias=False), BatchNorm(), ReLU(), MaxPool(3, stride=2, padding=1)
        )
    }
    channels = 64
    for number, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True), 1):
        stage: dict[str, Layer] = {}
        for index in range(depth):
            stride = 2 if index == 0 and number > 1 else 1
            changes = stride > 1 or channels != expansion * width
            stage[f"block{index}"] = block(width, stride, projection(expansion * width, stride) if changes else None)
            channels = expansion * width
        stages[f"stage{number}"] = Sequential(stage)
    return Sequential(stages, {"head": Sequential(GlobalAvgPool(), Dense(num_classes))})


@register(num_classes=1000, input_shape=(224, 224, 3), parameters=11_689_512, source=PAPER, initializer=FAN_OUT)
def resnet18(num_classes: int) -> Layer:
    """ResNet-18: two basic blocks a stage, projection shortcuts. Any input size."""
    return _resnet(num_classes, basic_block, (2, 2, 2, 2), 1)


@register(num_classes=1000, input_shape=(224, 224, 3), parameters=21_797_672, source=PAPER, initializer=FAN_OUT)
def resnet34(num_classes: int) -> Layer:
    """ResNet-34: 3, 4, 6 and 3 basic blocks, projection shortcuts. Any input size."""
    return _resnet(num_classes, basic_block, (3, 4, 6, 3), 1)


@register(num_classes=1000, input_shape=(224, 224, 3), parameters=25_557_032, source=PAPER, initializer=FAN_OUT)
def resnet50(num_classes: int, stride_at: str = "3x3") -> Layer:
    """ResNet-50: 3, 4, 6 and 3 bottleneck blocks, projection shortcuts. Any input size.

    ``stride_at``: the convolution that halves the map, "3x3" (as in torchvision) or "1x1" (the paper, Keras).
    """
    if stride_at not in ("3x3", "1x1"):
        raise ConfigError("resnet50", f'expected stride_at as "3x3" or "1x1", got {stride_at!r}; "3x3" is usual')
    return _resnet(num_classes, partial(bottleneck, stride_at=stride_at), (3, 4, 6, 3), 4)
