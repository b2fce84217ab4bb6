"""LeNet-5 in today's form."""

from __future__ import annotations

from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import register
from fovea.ops import Conv, Dense, Flatten, MaxPool, ReLU

__all__ = ["lenet5"]


@register(
    num_classes=10,
    input_shape=(28, 28, 1),
    parameters=61_706,
    source='LeCun et al. 1998, "Gradient-based learning applied to document recognition", II.B and figure 2',
)
def lenet5(num_classes: int) -> Layer:
    """LeNet-5 with ReLU and max-pooling: the sizes of 1998, the layers of today.

    N,28,28,1 -> 6 maps of 28x28 (5x5 convolution, padding 2 for the original's 32x32 input) -> 14x14 -> 16 maps of
    10x10 -> 5x5 -> 120 -> 84 -> classes.

    The paper's network differs in five ways: its subsampling layers multiply the sum of each 2x2 window by a trained
    coefficient and add a trained bias (here: max-pooling, no parameters); its third layer connects each of the 16 maps
    to 3, 4 or 6 of the six maps below, by table I (here: to all); its units are scaled hyperbolic tangents (here:
    ReLU); its output units measure the distance to a fixed 7x12 bitmap of each class (radial basis functions; here: a
    dense layer); and it is trained on these distances (here: softmax cross-entropy).
    """
    return Sequential(
        Conv(6, 5, padding=2), ReLU(), MaxPool(2),
        Conv(16, 5), ReLU(), MaxPool(2),
        Flatten(), Dense(120), ReLU(), Dense(84), ReLU(), Dense(num_classes),
    )  # fmt: skip
