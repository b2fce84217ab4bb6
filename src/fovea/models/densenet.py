"""DenseNet: every layer of a block reads the outputs of all layers before it."""

from __future__ import annotations

from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import FAN_OUT, register
from fovea.ops import AvgPool, BatchNorm, Concat, Conv, Dense, GlobalAvgPool, MaxPool, ReLU, Value

__all__ = ["densenet121"]

GROWTH, BOTTLENECK = 32, 4


def _dense_layer(x: Value) -> Value:
    """Batch norm and ReLU come first; 1x1 to ``4 growth`` channels, 3x3 to ``growth``, appended to what came in."""
    y: Value = Conv(BOTTLENECK * GROWTH, 1, use_bias=False)(ReLU()(BatchNorm()(x)))
    y = Conv(GROWTH, 3, padding=1, use_bias=False)(ReLU()(BatchNorm()(y)))
    joined: Value = Concat()(x, y)
    return joined


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=7_978_856,
    source='Huang, Liu, van der Maaten and Weinberger 2017, "Densely connected convolutional networks", table 1',
    initializer=FAN_OUT,
)
def densenet121(num_classes: int) -> Layer:
    """DenseNet-121: blocks of 6, 12, 24 and 16 layers, growth 32, channels halved between. Inputs of 32x32 or more."""
    stem = (Conv(64, 7, stride=2, padding=3, use_bias=False), BatchNorm(), ReLU(), MaxPool(3, stride=2, padding=1))
    stages: dict[str, Layer] = {"stem": Sequential(*stem)}
    channels = 64
    for number, depth in enumerate((6, 12, 24, 16), 1):
        stages[f"stage{number}"] = Sequential({f"layer{index}": _dense_layer for index in range(depth)})
        channels += depth * GROWTH
        if number < 4:
            channels //= 2
            transition = (BatchNorm(), ReLU(), Conv(channels, 1, use_bias=False), AvgPool(2))
            stages[f"transition{number}"] = Sequential(*transition)
    return Sequential(stages, {"head": Sequential(BatchNorm(), ReLU(), GlobalAvgPool(), Dense(num_classes))})
