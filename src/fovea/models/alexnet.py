"""AlexNet in its single-tower form."""

from __future__ import annotations

from fovea.graph.compose import Layer, Sequential
from fovea.graph.initialize import Initializer
from fovea.models.registry import register
from fovea.ops import AdaptiveAvgPool, Conv, Dense, Dropout, Flatten, MaxPool, ReLU

__all__ = ["alexnet"]


@register(
    num_classes=1000,
    input_shape=(224, 224, 3),
    parameters=61_100_840,
    source='Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", section 5, one tower',
    initializer=Initializer("lecun_uniform"),
)
def alexnet(num_classes: int, dropout: float = 0.5) -> Layer:
    """AlexNet in one tower: five convolutions (64, 192, 384, 256, 256), three dense layers. Inputs of 63x63 or more.

    Against Krizhevsky, Sutskever and Hinton 2012 it has one tower instead of two, other channel counts and no local
    response normalisation (``fovea.LRN`` is there for those who want it).
    """
    return Sequential(
        {
            "features": Sequential(
                Conv(64, 11, stride=4, padding=2), ReLU(), MaxPool(3, stride=2),
                Conv(192, 5, padding=2), ReLU(), MaxPool(3, stride=2),
                Conv(384, 3, padding=1), ReLU(),
                Conv(256, 3, padding=1), ReLU(),
                Conv(256, 3, padding=1), ReLU(), MaxPool(3, stride=2),
            ),
            "head": Sequential(
                AdaptiveAvgPool(6), Flatten(),
                Dropout(dropout), Dense(4096), ReLU(),
                Dropout(dropout), Dense(4096), ReLU(),
                Dense(num_classes),
            ),
        }
    )  # fmt: skip
