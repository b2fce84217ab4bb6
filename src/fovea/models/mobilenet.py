"""MobileNetV2: inverted residuals with depthwise convolutions."""

from __future__ import annotations

from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import FAN_OUT, register
from fovea.ops import Add, BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, ReLU6, Value

__all__ = ["mobilenetv2"]

TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of the paper: expansion, channels, repeats, stride of the first."""


def _inverted_residual(in_channels: int, out_channels: int, stride: int, expansion: int) -> Layer:
    """1x1 up, 3x3 depthwise, 1x1 down without activation; the input is added where shapes allow."""

    def block(x: Value) -> Value:
        y, hidden = x, in_channels * expansion
        if expansion > 1:
            y = ReLU6()(BatchNorm()(Conv(hidden, 1, use_bias=False)(y)))
        depthwise = Conv(hidden, 3, stride=stride, padding=1, groups=hidden, use_bias=False)
        y = ReLU6()(BatchNorm()(depthwise(y)))
        y = BatchNorm()(Conv(out_channels, 1, use_bias=False)(y))
        joined: Value = Add()(y, x) if stride == 1 and in_channels == out_channels else y
        return joined

    return block


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=3_504_872,
    source='Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks", table 2',
    initializer=FAN_OUT,
)
def mobilenetv2(num_classes: int, dropout: float = 0.2) -> Layer:
    """MobileNetV2 at width 1: 17 inverted residual blocks of depthwise 3x3 convolutions, ReLU6. Any input size."""
    stages: dict[str, Layer] = {
        "stem": Sequential(Conv(32, 3, stride=2, padding=1, use_bias=False), BatchNorm(), ReLU6())
    }
    channels = 32
    for number, (expansion, width, repeats, first_stride) in enumerate(TABLE, 1):
        stage: dict[str, Layer] = {}
        for index in range(repeats):
            stage[f"block{index}"] = _inverted_residual(channels, width, first_stride if index == 0 else 1, expansion)
            channels = width
        stages[f"stage{number}"] = Sequential(stage)
    head = Sequential(
        Conv(1280, 1, use_bias=False), BatchNorm(), ReLU6(),
        GlobalAvgPool(), Dropout(dropout), Dense(num_classes),
    )  # fmt: skip
    return Sequential(stages, {"head": head})
