"""Inverted residuals with squeeze-and-excitation: MobileNetV3 and EfficientNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fovea.errors import ConfigError
from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import FAN_OUT, register
from fovea.ops import (
    Add,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    HardSigmoid,
    HardSwish,
    Multiply,
    Op,
    ReLU,
    Sigmoid,
    SiLU,
    StochasticDepth,
    Value,
)  # fmt: skip

__all__ = ["efficientnet_b0", "mobilenetv3_large", "mobilenetv3_small"]

Row = tuple[int, int, int, bool, type[Op], int]

LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, ReLU, 1), (3, 64, 24, False, ReLU, 2), (3, 72, 24, False, ReLU, 1),
    (5, 72, 40, True, ReLU, 2), (5, 120, 40, True, ReLU, 1), (5, 120, 40, True, ReLU, 1),
    (3, 240, 80, False, HardSwish, 2), (3, 200, 80, False, HardSwish, 1), (3, 184, 80, False, HardSwish, 1),
    (3, 184, 80, False, HardSwish, 1), (3, 480, 112, True, HardSwish, 1), (3, 672, 112, True, HardSwish, 1),
    (5, 672, 160, True, HardSwish, 2), (5, 960, 160, True, HardSwish, 1), (5, 960, 160, True, HardSwish, 1),
)  # fmt: skip
"""Table 1 of the MobileNetV3 paper: kernel, expanded channels, channels out, squeeze-and-excitation, activation,
stride."""
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, ReLU, 2), (3, 72, 24, False, ReLU, 2), (3, 88, 24, False, ReLU, 1),
    (5, 96, 40, True, HardSwish, 2), (5, 240, 40, True, HardSwish, 1), (5, 240, 40, True, HardSwish, 1),
    (5, 120, 48, True, HardSwish, 1), (5, 144, 48, True, HardSwish, 1), (5, 288, 96, True, HardSwish, 2),
    (5, 576, 96, True, HardSwish, 1), (5, 576, 96, True, HardSwish, 1),
)  # fmt: skip
"""Table 2."""
B0 = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
"""Table 1 of the EfficientNet paper: expansion, kernel, stride of the first, channels, repeats."""


def _divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple, at least ``divisor`` and not below nine tenths of the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def _excited(x: Value, squeezed: int, channels: int, activation: Op, gate: Op) -> Value:
    """Hu et al. 2018: every channel times a factor that the means of all channels decide."""
    factors = gate(Conv(channels, 1)(activation(Conv(squeezed, 1)(GlobalAvgPool(keepdims=True)(x)))))
    scaled: Value = Multiply()(x, factors)
    return scaled


def _block(
    channels: int, kernel: int, expanded: int, out: int, stride: int, activation: Op, norm: BatchNorm,
    excite: tuple[int, Op, Op] | None, drop: float = 0.0, padding: str = "half",
) -> Layer:  # fmt: skip
    """1x1 up, depthwise, squeeze-and-excitation, 1x1 down without activation; the input is added where shapes allow.

    ``padding`` of the depthwise convolution: "half" of its kernel on each side, or "same".
    """

    def block(x: Value) -> Value:
        y: Value = x
        if expanded != channels:
            y = activation(norm(Conv(expanded, 1, use_bias=False)(y)))
        depthwise = Conv(expanded, kernel, stride, _around(kernel, padding), groups=expanded, use_bias=False)
        y = activation(norm(depthwise(y)))
        if excite is not None:
            y = _excited(y, excite[0], expanded, excite[1], excite[2])
        y = norm(Conv(out, 1, use_bias=False)(y))
        if stride != 1 or out != channels:
            return y
        joined: Value = Add()(StochasticDepth(drop)(y) if drop else y, x)
        return joined

    return block


def _around(kernel: int, padding: str) -> Any:
    if padding not in ("half", "same"):
        raise ConfigError("padding", f'expected "half" or "same", got {padding!r}; "same" is TensorFlow\'s rule')
    return "same" if padding == "same" else kernel // 2


def _stem(channels: int, padding: str) -> Conv:
    return Conv(channels, 3, stride=2, padding=_around(3, padding), use_bias=False)


def _mobilenetv3(num_classes: int, rows: Sequence[Row], hidden: int, dropout: float, padding: str) -> Layer:
    norm = BatchNorm(eps=1e-3, momentum=0.01)
    stages: dict[str, Layer] = {"stem": Sequential(_stem(16, padding), norm, HardSwish())}
    channels = 16
    for index, (kernel, expanded, out, excited, activation, stride) in enumerate(rows):
        excite = (_divisible(expanded / 4), ReLU(), HardSigmoid()) if excited else None
        stages[f"block{index}"] = _block(
            channels, kernel, expanded, out, stride, activation(), norm, excite, 0.0, padding
        )
        channels = out
    head = (
        Conv(6 * channels, 1, use_bias=False), norm, HardSwish(), GlobalAvgPool(),
        Dense(hidden), HardSwish(), Dropout(dropout), Dense(num_classes),
    )  # fmt: skip
    return Sequential(stages, {"head": Sequential(*head)})


V3 = 'Howard et al. 2019, "Searching for MobileNetV3"'


@register(
    num_classes=1000, input_shape=(224, 224, 3), parameters=5_483_032, source=f"{V3}, table 1", initializer=FAN_OUT
)
def mobilenetv3_large(num_classes: int, dropout: float = 0.2, padding: str = "half") -> Layer:
    """MobileNetV3-Large: inverted residuals with squeeze-and-excitation and hard swish. Any input size.

    ``padding``: "half" a kernel on every side, or "same" for networks trained with TensorFlow.
    """
    return _mobilenetv3(num_classes, LARGE, 1280, dropout, padding)


@register(
    num_classes=1000, input_shape=(224, 224, 3), parameters=2_542_856, source=f"{V3}, table 2", initializer=FAN_OUT
)
def mobilenetv3_small(num_classes: int, dropout: float = 0.2, padding: str = "half") -> Layer:
    """MobileNetV3-Small: eleven blocks. Any input size.

    ``padding``: "half" a kernel on every side, or "same" for networks trained with TensorFlow.
    """
    return _mobilenetv3(num_classes, SMALL, 1024, dropout, padding)


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=5_288_548,
    source='Tan and Le 2019, "EfficientNet: rethinking model scaling", table 1',
    initializer=FAN_OUT,
)
def efficientnet_b0(num_classes: int, dropout: float = 0.2, drop: float = 0.2, padding: str = "half") -> Layer:
    """EfficientNet-B0: inverted residuals with squeeze-and-excitation and SiLU. Any input size.

    ``drop``: stochastic depth of the last block; it grows from 0 with the depth. ``padding``: "half" a kernel on every
    side, or "same" for networks trained with TensorFlow.
    """
    stages: dict[str, Layer] = {"stem": Sequential(_stem(32, padding), BatchNorm(), SiLU())}
    channels, done, total = 32, 0, sum(row[-1] for row in B0)
    for number, (expansion, kernel, first, out, repeats) in enumerate(B0, 1):
        stage: dict[str, Layer] = {}
        for index in range(repeats):
            excite = (max(1, channels // 4), SiLU(), Sigmoid())
            stride = first if index == 0 else 1
            stage[f"block{index}"] = _block(
                channels, kernel, channels * expansion, out, stride, SiLU(), BatchNorm(), excite, drop * done / total,
                padding,
            )  # fmt: skip
            channels, done = out, done + 1
        stages[f"stage{number}"] = Sequential(stage)
    head = (Conv(1280, 1, use_bias=False), BatchNorm(), SiLU(), GlobalAvgPool(), Dropout(dropout), Dense(num_classes))
    return Sequential(stages, {"head": Sequential(*head)})
