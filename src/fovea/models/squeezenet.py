"""SqueezeNet: AlexNet's accuracy with 50 times fewer parameters."""

from __future__ import annotations

from fovea.graph.compose import Layer, Parallel, Sequential
from fovea.graph.initialize import Initializer
from fovea.models.registry import register
from fovea.ops import Conv, Dropout, GlobalAvgPool, MaxPool, ReLU

__all__ = ["squeezenet"]


def _fire(squeeze: int, expand: int) -> Layer:
    """1x1 convolution down to ``squeeze`` channels, then 1x1 and 3x3 convolutions side by side to ``expand`` each."""
    return Sequential(
        {"squeeze": Sequential(Conv(squeeze, 1), ReLU())},
        {
            "expand": Parallel(
                {
                    "one": Sequential(Conv(expand, 1), ReLU()),
                    "three": Sequential(Conv(expand, 3, padding=1), ReLU()),
                }
            )
        },
    )


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=1_248_424,
    source='Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", table 1',
    initializer=Initializer("kaiming"),
)
def squeezenet(num_classes: int, dropout: float = 0.5, head_padding: int = 0) -> Layer:
    """SqueezeNet 1.0: eight fire modules, pooling that rounds sizes up, classes by 1x1 convolution.

    Inputs of 29x29 or more. ``head_padding``: of the last 1x1 convolution; the authors' own Caffe network has 1.
    """

    def pool() -> Layer:
        return MaxPool(3, stride=2, ceil_mode=True)

    return Sequential(
        {
            "stem": Sequential(Conv(96, 7, stride=2), ReLU(), pool()),
            "fire2": _fire(16, 64),
            "fire3": _fire(16, 64),
            "fire4": _fire(32, 128),
            "pool4": pool(),
            "fire5": _fire(32, 128),
            "fire6": _fire(48, 192),
            "fire7": _fire(48, 192),
            "fire8": _fire(64, 256),
            "pool8": pool(),
            "fire9": _fire(64, 256),
            "head": Sequential(Dropout(dropout), Conv(num_classes, 1, padding=head_padding), ReLU(), GlobalAvgPool()),
        }
    )
