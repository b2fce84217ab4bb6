"""Residual networks for 32x32 images: three stages of 16, 32 and 64 channels."""

from __future__ import annotations

from fovea.errors import ConfigError
from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import FAN_OUT, register
from fovea.models.resnet import basic_block, projection
from fovea.ops import BatchNorm, Conv, Dense, GlobalAvgPool, Pad, ReLU, Slice

__all__ = ["resnet20", "resnet32", "resnet56"]

PAPER = 'He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", section 4.2'


def _padded(in_channels: int, out_channels: int) -> Layer:
    """The shortcut without parameters (option A): every second pixel; new channels are zero, half of them in front."""
    extra = out_channels - in_channels
    return Sequential(
        Slice((None, None), (None, None), axes=(1, 2), steps=(2, 2)),
        Pad(((0, 0), (0, 0), (extra // 2, extra - extra // 2))),
    )


def _resnet(num_classes: int, blocks: int, shortcut: str) -> Layer:
    if shortcut not in ("pad", "projection"):
        raise ConfigError(
            "resnet", f'expected shortcut as "pad" or "projection", got {shortcut!r}; "pad" is the published one'
        )
    stages: dict[str, Layer] = {"stem": Sequential(Conv(16, 3, padding=1, use_bias=False), BatchNorm(), ReLU())}
    channels = 16
    for number, width in enumerate((16, 32, 64), 1):
        stage: dict[str, Layer] = {}
        for index in range(blocks):
            skip: Layer | None = None
            if width != channels:
                skip = _padded(channels, width) if shortcut == "pad" else projection(width, 2)
            stage[f"block{index}"] = basic_block(width, 2 if width != channels else 1, skip)
            channels = width
        stages[f"stage{number}"] = Sequential(stage)
    return Sequential(stages, {"head": Sequential(GlobalAvgPool(), Dense(num_classes))})


@register(num_classes=10, input_shape=(32, 32, 3), parameters=269_722, source=PAPER, initializer=FAN_OUT)
def resnet20(num_classes: int, shortcut: str = "pad") -> Layer:
    """ResNet-20 for CIFAR: 3 blocks in each of three stages. Any input size.

    ``shortcut``: "pad" (as published) or "projection" (1x1 convolutions; then 272,474 parameters).
    """
    return _resnet(num_classes, 3, shortcut)


@register(num_classes=10, input_shape=(32, 32, 3), parameters=464_154, source=PAPER, initializer=FAN_OUT)
def resnet32(num_classes: int, shortcut: str = "pad") -> Layer:
    """ResNet-32 for CIFAR: 5 blocks in each of three stages. Any input size.

    ``shortcut``: "pad" (as published) or "projection" (1x1 convolutions).
    """
    return _resnet(num_classes, 5, shortcut)


@register(num_classes=10, input_shape=(32, 32, 3), parameters=853_018, source=PAPER, initializer=FAN_OUT)
def resnet56(num_classes: int, shortcut: str = "pad") -> Layer:
    """ResNet-56 for CIFAR: 9 blocks in each of three stages. Any input size.

    ``shortcut``: "pad" (as published) or "projection" (1x1 convolutions).
    """
    return _resnet(num_classes, 9, shortcut)
