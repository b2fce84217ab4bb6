"""ConvNeXt: a convolutional network with the habits of transformers."""

from __future__ import annotations

from fovea.graph.compose import Layer, Sequential
from fovea.graph.initialize import Initializer
from fovea.models.registry import register
from fovea.ops import GELU, Add, Conv, Dense, GlobalAvgPool, LayerNorm, LayerScale, StochasticDepth, Value

__all__ = ["convnext_tiny"]

DEPTHS, WIDTHS = (3, 3, 9, 3), (96, 192, 384, 768)


def _block(channels: int, drop: float) -> Layer:
    """7x7 depthwise, layer norm, then two dense layers at every position with GELU between; scaled and added."""

    def block(x: Value) -> Value:
        y: Value = LayerNorm(eps=1e-6)(Conv(channels, 7, padding=3, groups=channels)(x))
        y = LayerScale(1e-6)(Dense(channels)(GELU()(Dense(4 * channels)(y))))
        joined: Value = Add()(StochasticDepth(drop)(y) if drop else y, x)
        return joined

    return block


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=28_589_128,
    source='Liu et al. 2022, "A ConvNet for the 2020s", section 2 and table 9',
    initializer=Initializer("lecun_uniform"),
)
def convnext_tiny(num_classes: int, drop: float = 0.1) -> Layer:
    """ConvNeXt-T: four stages of 3, 3, 9 and 3 blocks with 7x7 depthwise convolutions. Inputs of 32x32 or more.

    ``drop``: stochastic depth of the last block; it grows from 0 with the depth.
    """
    stages: dict[str, Layer] = {"stem": Sequential(Conv(96, 4, stride=4), LayerNorm(eps=1e-6))}
    done, last = 0, sum(DEPTHS) - 1
    for number, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), 1):
        if number > 1:
            stages[f"down{number}"] = Sequential(LayerNorm(eps=1e-6), Conv(width, 2, stride=2))
        stage: dict[str, Layer] = {}
        for index in range(depth):
            stage[f"block{index}"] = _block(width, drop * done / last)
            done += 1
        stages[f"stage{number}"] = Sequential(stage)
    head = Sequential(GlobalAvgPool(), LayerNorm(eps=1e-6), Dense(num_classes))
    return Sequential(stages, {"head": head})
