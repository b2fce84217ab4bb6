"""MobileNetV2: inverted residuals with depthwise convolutions."""

from __future__ import annotations

from typing import Any

from fovea.errors import ConfigError
from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import FAN_OUT, register
from fovea.ops import Add, BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, Op, ReLU6, Value
from fovea.ops.base import is_number

__all__ = ["mobilenetv2"]

TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of the paper: expansion, channels, repeats, stride of the first."""


def _normalised(norm: str, out_channels: int, kernel_size: int, **fields: Any) -> list[Op]:
    """A convolution and its batch norm, or with the norm folded into its weight and bias."""
    folded = norm == "folded"
    convolution = Conv(out_channels, kernel_size, use_bias=folded, **fields)
    return [convolution] if folded else [convolution, BatchNorm()]


def _scaled(channels: int, width: float) -> int:
    """The multiple of 8 nearest to ``channels * width``, never less than nine tenths of it."""
    wanted = channels * width
    near = max(8, int(wanted + 4) // 8 * 8)
    return near if near >= 0.9 * wanted else near + 8


def _inverted_residual(
    in_channels: int, out_channels: int, stride: int, expansion: int, norm: str, padding: Any
) -> Layer:
    """1x1 up, 3x3 depthwise, 1x1 down without activation; the input is added where shapes allow."""

    def block(x: Value) -> Value:
        y, hidden = x, in_channels * expansion
        if expansion > 1:
            y = Sequential(*_normalised(norm, hidden, 1), ReLU6()).inline(y)
        depthwise = _normalised(norm, hidden, 3, stride=stride, padding=padding, groups=hidden)
        y = Sequential(*depthwise, ReLU6()).inline(y)
        y = Sequential(*_normalised(norm, out_channels, 1)).inline(y)
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
def mobilenetv2(
    num_classes: int, dropout: float = 0.2, norm: str = "batch", padding: Any = 1, width: float = 1.0
) -> Layer:
    """MobileNetV2: 17 inverted residual blocks of depthwise 3x3 convolutions, ReLU6. Any input size.

    ``norm``: "batch", or "folded" into weights and biases, as networks made for inference are stored. ``padding`` of
    the 3x3 convolutions: 1, or "same" for networks trained with TensorFlow. ``width`` multiplies the channels of all
    layers, in steps of 8 (section 4; the last layer's only upwards).
    """
    if norm not in ("batch", "folded"):
        raise ConfigError("mobilenetv2", f'expected norm as "batch" or "folded", got {norm!r}; "batch" trains')
    if not is_number(width) or not 0.1 <= width <= 4:
        raise ConfigError("mobilenetv2", f"expected width as a number from 0.1 to 4, got {width!r}; 1.0 is usual")
    channels = _scaled(32, width)
    stem = _normalised(norm, channels, 3, stride=2, padding=padding)
    stages: dict[str, Layer] = {"stem": Sequential(*stem, ReLU6())}
    for number, (expansion, plain, repeats, first_stride) in enumerate(TABLE, 1):
        stage: dict[str, Layer] = {}
        wide = _scaled(plain, width)
        for index in range(repeats):
            stage[f"block{index}"] = _inverted_residual(
                channels, wide, first_stride if index == 0 else 1, expansion, norm, padding
            )
            channels = wide
        stages[f"stage{number}"] = Sequential(stage)
    head = Sequential(
        *_normalised(norm, _scaled(1280, max(1.0, width)), 1), ReLU6(),
        GlobalAvgPool(), Dropout(dropout), Dense(num_classes),
    )  # fmt: skip
    return Sequential(stages, {"head": head})
