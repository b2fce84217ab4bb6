"""VGG: 3x3 convolutions all the way; and a small one for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import FAN_OUT, register
from fovea.ops import AdaptiveAvgPool, BatchNorm, Conv, Dense, Dropout, Flatten, GlobalAvgPool, MaxPool, ReLU

__all__ = ["vgg11", "vgg16", "vgg19", "vgg_small"]

PAPER = 'Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", table 1'


def _vgg(num_classes: int, depths: Sequence[int], dropout: float) -> Layer:
    stages: dict[str, Layer] = {}
    for number, (channels, depth) in enumerate(zip((64, 128, 256, 512, 512), depths, strict=True), 1):
        convs = [layer for _ in range(depth) for layer in (Conv(channels, 3, padding=1), ReLU())]
        stages[f"stage{number}"] = Sequential(*convs, MaxPool(2))
    # 7x7 from any input, so that the dense layers keep their size; the identity for 224x224
    head = Sequential(
        AdaptiveAvgPool(7), Flatten(),
        Dense(4096), ReLU(), Dropout(dropout),
        Dense(4096), ReLU(), Dropout(dropout),
        Dense(num_classes),
    )  # fmt: skip
    return Sequential(stages, {"head": head})


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=132_863_336,
    source=f"{PAPER}, column A",
    initializer=FAN_OUT,
)
def vgg11(num_classes: int, dropout: float = 0.5) -> Layer:
    """VGG with 8 convolutions and 3 dense layers; 3x3 kernels, five max-poolings. Inputs of 32x32 or more."""
    return _vgg(num_classes, (1, 1, 2, 2, 2), dropout)


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=138_357_544,
    source=f"{PAPER}, column D",
    initializer=FAN_OUT,
)
def vgg16(num_classes: int, dropout: float = 0.5) -> Layer:
    """VGG with 13 convolutions and 3 dense layers; 3x3 kernels, five max-poolings. Inputs of 32x32 or more."""
    return _vgg(num_classes, (2, 2, 3, 3, 3), dropout)


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=143_667_240,
    source=f"{PAPER}, column E",
    initializer=FAN_OUT,
)
def vgg19(num_classes: int, dropout: float = 0.5) -> Layer:
    """VGG with 16 convolutions and 3 dense layers; 3x3 kernels, five max-poolings. Inputs of 32x32 or more."""
    return _vgg(num_classes, (2, 2, 4, 4, 4), dropout)


@register(
    num_classes=10, input_shape=(32, 32, 3), parameters=1_148_874, source=f"the pattern of {PAPER}", initializer=FAN_OUT
)
def vgg_small(num_classes: int) -> Layer:
    """Pairs of 3x3 convolutions with batch norm at 64, 128, 256 channels, each then max-pooled; average; dense."""
    stages: dict[str, Layer] = {}
    for number, channels in enumerate((64, 128, 256), 1):
        convs = [
            layer for _ in range(2) for layer in (Conv(channels, 3, padding=1, use_bias=False), BatchNorm(), ReLU())
        ]
        stages[f"stage{number}"] = Sequential(*convs, MaxPool(2))
    return Sequential(stages, {"head": Sequential(GlobalAvgPool(), Dense(num_classes))})
