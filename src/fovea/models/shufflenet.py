"""ShuffleNetV2: half of the channels pass, the other half is worked on, then both are shuffled."""

from __future__ import annotations

from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import FAN_OUT, register
from fovea.ops import (
    BatchNorm,
    ChannelShuffle,
    Concat,
    Conv,
    Dense,
    GlobalAvgPool,
    MaxPool,
    Op,
    ReLU,
    Split,
    Value,
)  # fmt: skip

__all__ = ["shufflenetv2"]


def _pointwise(channels: int) -> tuple[Op, ...]:
    return Conv(channels, 1, use_bias=False), BatchNorm(), ReLU()


def _depthwise(channels: int, stride: int) -> tuple[Op, ...]:
    return Conv(channels, 3, stride=stride, padding=1, groups=channels, use_bias=False), BatchNorm()


def _unit(channels: int, half: int, stride: int) -> Layer:
    """Figure 3 of the paper: (c) for stride 1, (d) for stride 2, which works on both halves."""

    def block(x: Value) -> Value:
        if stride == 1:
            kept, worked = Split((half, half))(x)
        else:
            kept, worked = Sequential(*_depthwise(channels, 2), *_pointwise(half)).inline(x), x
        worked = Sequential(*_pointwise(half), *_depthwise(half, stride), *_pointwise(half)).inline(worked)
        shuffled: Value = ChannelShuffle(2)(Concat()(kept, worked))
        return shuffled

    return block


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=2_278_604,
    source='Ma, Zhang, Zheng and Sun 2018, "ShuffleNet V2: practical guidelines", table 5, width 1',
    initializer=FAN_OUT,
)
def shufflenetv2(num_classes: int) -> Layer:
    """ShuffleNetV2 at width 1: stages of 4, 8 and 4 units. Inputs of 32x32 or more."""
    stem = (Conv(24, 3, stride=2, padding=1, use_bias=False), BatchNorm(), ReLU(), MaxPool(3, stride=2, padding=1))
    stages: dict[str, Layer] = {"stem": Sequential(*stem)}
    channels = 24
    for number, (width, repeats) in enumerate(((116, 4), (232, 8), (464, 4)), 2):
        stage: dict[str, Layer] = {}
        for index in range(repeats):
            stage[f"block{index}"] = _unit(channels, width // 2, 2 if index == 0 else 1)
            channels = width
        stages[f"stage{number}"] = Sequential(stage)
    return Sequential(stages, {"head": Sequential(*_pointwise(1024), GlobalAvgPool(), Dense(num_classes))})
