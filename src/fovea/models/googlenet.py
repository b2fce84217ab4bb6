"""GoogLeNet: inception modules, four branches side by side."""

from __future__ import annotations

from fovea.graph.compose import Layer, Parallel, Sequential
from fovea.models.registry import FAN_OUT, register
from fovea.ops import BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, MaxPool, Op, ReLU

__all__ = ["googlenet"]

MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""Table 1 of the paper: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; projection of the pooling."""


def _unit(channels: int, kernel_size: int, **fields: int) -> tuple[Op, ...]:
    return Conv(channels, kernel_size, use_bias=False, **fields), BatchNorm(eps=1e-3), ReLU()


def _inception(one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> Layer:
    """Branches of 1x1, 3x3, 3x3 (in the paper 5x5) and pooling, concatenated."""
    return Parallel(
        {
            "one": Sequential(*_unit(one, 1)),
            "three": Sequential(*_unit(reduce3, 1), *_unit(three, 3, padding=1)),
            "five": Sequential(*_unit(reduce5, 1), *_unit(five, 3, padding=1)),
            "pool": Sequential(MaxPool(3, stride=1, padding=1, ceil_mode=True), *_unit(pool, 1)),
        }
    )


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=6_624_904,
    source='Szegedy et al. 2015, "Going deeper with convolutions", table 1, with batch norm',
    initializer=FAN_OUT,
)
def googlenet(num_classes: int, dropout: float = 0.2) -> Layer:
    """GoogLeNet (Inception v1) with batch norm, without auxiliary heads. Inputs of 15x15 or more.

    As in torchvision, whose published weights it takes, the branch that has 5x5 kernels in the paper has 3x3.
    """

    def pool(size: int) -> Layer:
        return MaxPool(size, stride=2, ceil_mode=True)

    stages: dict[str, Layer] = {
        "stem": Sequential(
            *_unit(64, 7, stride=2, padding=3), pool(3), *_unit(64, 1), *_unit(192, 3, padding=1), pool(3)
        )
    }
    for name, widths in MODULES.items():
        if name in ("4a", "5a"):
            stages[f"pool{name[0]}"] = pool(3 if name == "4a" else 2)
        stages[f"inception{name}"] = _inception(*widths)
    return Sequential(stages, {"head": Sequential(GlobalAvgPool(), Dropout(dropout), Dense(num_classes))})
