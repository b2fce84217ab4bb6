"""Small networks that train in minutes on a CPU: one design for images, signals and volumes."""

from __future__ import annotations

from fovea.graph.compose import Layer, Sequential
from fovea.models.registry import register
from fovea.ops import BatchNorm, Conv, Dense, Dropout, Flatten, GlobalAvgPool, MaxPool, ReLU
from fovea.ops.base import Shape

__all__ = ["conv1d", "conv3d", "small_cnn"]

OPEN = 64
"""The size that decides the depth where a spatial size is left open."""
SMALL = 32
"""Volumes up to this size are mostly cubes about one voxel: where a feature lies counts, so the head reads it all."""


def _network(
    num_classes: int,
    input_shape: Shape,
    *,
    first: int,
    last: int,
    kernel: int,
    pool: int,
    stop: int,
    stem: tuple[int, int],
    dropout: float,
    convolutions: int = 1,
    flat: bool = False,
) -> Layer:
    """Two or more stages of convolution, batch norm, ReLU and max-pooling by ``pool``, until no axis exceeds ``stop``.

    A stage has as many convolutions as ``convolutions`` says, each with batch norm and ReLU. Channels double from
    ``first`` to at most ``last``; the first convolution has kernel and stride ``stem``. Axes that are down to one
    element stay so. Then dropout and dense, on the global average or, ``flat``, on the whole map.
    """
    sizes = [-(-(OPEN if size is None else size) // stem[1]) for size in input_shape[:-1]]
    stages: dict[str, Layer] = {}
    channels = first
    while len(stages) < 2 or max(sizes) > stop:
        size, stride = (kernel, 1) if stages else stem
        window = tuple(min(pool, extent) for extent in sizes)
        layers: list[Layer] = []
        for _ in range(convolutions):
            conv = Conv(channels, size, stride=stride, padding="same", use_bias=False)
            layers += [conv, BatchNorm(), ReLU()]
            size, stride = kernel, 1
        stages[f"stage{len(stages) + 1}"] = Sequential(*layers, MaxPool(window))
        sizes = [extent // part for extent, part in zip(sizes, window, strict=True)]
        channels = min(2 * channels, last)
    head = Sequential(Flatten() if flat else GlobalAvgPool(), Dropout(dropout), Dense(num_classes))
    return Sequential(stages, {"head": head})


@register(
    num_classes=10,
    input_shape=(28, 28, 1),
    parameters=288_170,
    source="convolution, batch norm, ReLU, pooling: as the course notes (CS5782) stack them",
)
def small_cnn(num_classes: int, input_shape: Shape, dropout: float = 0.2) -> Layer:
    """A small CNN whose depth follows the image size: pairs of 3x3 convolutions with batch norm and ReLU, max-pooling.

    28x28 -> 32 maps -> 14x14 -> 64 -> 7x7 -> 128 -> 3x3 -> global average -> dropout -> dense. Larger images get more
    stages (at most 256 channels); from 96 pixels on the first convolution has stride 2.
    """
    large = max((OPEN if size is None else size) for size in input_shape[:-1]) >= 96
    stem = (3, 2 if large else 1)
    return _network(
        num_classes,
        input_shape,
        first=32,
        last=256,
        kernel=3,
        pool=2,
        stop=4,
        stem=stem,
        dropout=dropout,
        convolutions=2,
    )


@register(
    num_classes=10,
    input_shape=(8000, 1),
    parameters=137_194,
    source='after Dai et al. 2017, "Very deep convolutional neural networks for raw waveforms", table 1 (M5)',
)
def conv1d(num_classes: int, input_shape: Shape, dropout: float = 0.2) -> Layer:
    """1-D convolutions on raw signals N,L,C: a long first kernel on long signals, then kernels of 5, pooling by 4.

    8000 samples -> stride 4 -> 2000 -> 32 maps -> 500 -> 64 -> 125 -> 128 -> 31 -> 128 -> 7 -> global average -> dense.
    """
    long = (input_shape[0] or OPEN) >= 1024
    stem = (65, 4) if long else (9, 1)
    return _network(num_classes, input_shape, first=32, last=128, kernel=5, pool=4, stop=8, stem=stem, dropout=dropout)


@register(
    num_classes=3,
    input_shape=(24, 24, 24, 1),
    parameters=74_963,
    source='after Tran et al. 2015, "Learning spatiotemporal features with 3D convolutional networks" (C3D)',
)
def conv3d(num_classes: int, input_shape: Shape, dropout: float = 0.2) -> Layer:
    """3-D convolutions on volumes N,D,H,W,C or clips N,T,H,W,C: 3x3x3 kernels from 16 channels up, pooling by 2.

    24^3 -> 16 maps -> 12^3 -> 32 -> 6^3 -> 64 -> 3^3 -> dropout -> dense. Larger inputs get more stages and a
    global average before the dense layer.
    """
    return _network(
        num_classes,
        input_shape,
        first=16,
        last=128,
        kernel=3,
        pool=2,
        stop=4,
        stem=(3, 1),
        dropout=dropout,
        flat=all(size is not None and size <= SMALL for size in input_shape[:-1]),
    )
