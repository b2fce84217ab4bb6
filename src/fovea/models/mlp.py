"""The multi-layer perceptron: what convolution is measured against."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.errors import ConfigError
from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import register
from fovea.ops import Dense, Flatten, ReLU

__all__ = ["mlp"]


@register(
    num_classes=10,
    input_shape=(28, 28, 1),
    parameters=535_818,
    source='Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors"',
)
def mlp(num_classes: int, hidden: Sequence[int] = (512, 256)) -> Layer:
    """Multi-layer perceptron: every pixel is an input of its own, all layers fully connected.

    N,*any -> Flatten -> Dense and ReLU for each size in ``hidden`` -> Dense. Its first layer has (number of input
    values) x hidden[0] weights: 49,152,000 for a 128x128x3 image and 1,000 units.
    """
    sizes = tuple(hidden) if isinstance(hidden, (tuple, list)) else (hidden,)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ConfigError(
            "mlp",
            f"expected hidden as positive integers such as (512, 256), got {hidden!r}; give one size per hidden layer",
        )
    layers: list[Layer] = [Flatten()]
    for size in sizes:
        layers += [Dense(size), ReLU()]
    return Sequential(*layers, Dense(num_classes))
