"""Small networks of every shape that training meets, with stores and batches to run them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import fovea.ops as ops
from fovea.graph.compose import Parallel, Residual, Sequential, build
from fovea.graph.graph import Graph
from fovea.graph.store import ParameterStore

__all__ = ["NETWORKS", "batch", "filled"]

Array = npt.NDArray[Any]


def normed(channels: int, kernel: int = 3, **fields: Any) -> list[Any]:
    """Convolution, batch norm, ReLU."""
    return [ops.Conv(channels, kernel, use_bias=False, **fields), ops.BatchNorm(), ops.ReLU()]


def lenet() -> Graph:
    """Convolutions with bias and ReLU, max-pooling, dense layers."""
    return build(
        Sequential(
            *(ops.Conv(6, 5, padding=2), ops.ReLU(), ops.MaxPool(2)),
            *(ops.Conv(16, 5), ops.ReLU(), ops.MaxPool(2), ops.Flatten()),
            *(ops.Dense(20), ops.ReLU(), ops.Dense(5)),
        ),
        (16, 14, 1),
    )


def resnet() -> Graph:
    """Residual blocks, identity and projection; the sum is followed by ReLU."""
    first = Sequential(*normed(8, padding=1), ops.Conv(8, 3, padding=1), ops.BatchNorm())
    second = Sequential(*normed(16, padding=1, stride=2), ops.Conv(16, 3, padding=1), ops.BatchNorm())
    projection = Sequential(ops.Conv(16, 1, stride=2, use_bias=False), ops.BatchNorm())
    blocks = [Residual(first), ops.ReLU(), Residual(second, projection), ops.ReLU()]
    return build(Sequential(*normed(8, padding=1), *blocks, ops.GlobalAvgPool(), ops.Dense(5)), (8, 8, 3))


def vgg() -> Graph:
    """Batch norm and ReLU before overlapping max-pooling."""
    return build(
        Sequential(*normed(9), ops.MaxPool(3, 2, padding=1), *normed(17), ops.GlobalAvgPool(), ops.Dense(5)), (11, 9, 3)
    )


def mobilenet() -> Graph:
    """Depthwise layers, ReLU6, an addition without activation, dropout."""
    body = Sequential(
        *(ops.Conv(12, 1, use_bias=False), ops.BatchNorm(), ops.ReLU6()),
        *(ops.Conv(12, 3, padding="same", groups=12, use_bias=False), ops.BatchNorm(), ops.ReLU6()),
        *(ops.Conv(6, 1, use_bias=False), ops.BatchNorm()),
    )
    head = (ops.GlobalAvgPool(), ops.Dropout(0.2), ops.Dense(5))
    return build(Sequential(ops.Conv(6, 3, stride=2, padding="same"), ops.ReLU6(), Residual(body), *head), (9, 8, 3))


def branches() -> Graph:
    """Concatenated branches, a squeeze-and-excitation product, a value that three nodes read."""
    gate = Sequential(ops.GlobalAvgPool(keepdims=True), ops.Conv(7, 1), ops.Sigmoid())
    excited = Parallel(lambda value: value, gate, join=ops.Multiply())
    towers = Parallel(ops.Conv(4, 1), Sequential(ops.Conv(3, 3, padding=1), ops.Tanh()))
    return build(
        Sequential(towers, excited, ops.LayerNorm(), ops.GELU(), ops.AvgPool(2), ops.Flatten(), ops.Dense(5)), (6, 6, 3)
    )


def signal() -> Graph:
    """1-D convolutions."""
    layers = [ops.Conv(8, 5, stride=2), ops.BatchNorm(), ops.ReLU(), ops.MaxPool(2), ops.GlobalAvgPool(), ops.Dense(5)]
    return build(Sequential(*layers), (32, 2))


def volume() -> Graph:
    """3-D convolutions."""
    layers = [*normed(5, padding=1), ops.MaxPool(2), *normed(6), ops.GlobalAvgPool(), ops.Dense(5)]
    return build(Sequential(*layers), (6, 6, 6, 1))


def pixels() -> Graph:
    """Bytes in, one prediction for every pixel, up-sampling on the way."""
    scaled = ops.Normalize((0.5,), (0.25,), scale=1 / 255)
    body = [ops.Conv(6, 3, stride=2, padding=1), ops.LeakyReLU(), ops.Resize(scale=2, mode="bilinear"), ops.Conv(5, 1)]
    graph = build(Sequential(scaled, *body), (6, 8, 3))
    return graph.at((6, 8, 3), dtypes={graph.inputs[0]: "uint8"})


NETWORKS: dict[str, Callable[[], Graph]] = {
    one.__name__: one for one in (lenet, resnet, vgg, mobilenet, branches, signal, volume, pixels)
}


def filled(graph: Graph, seed: int = 0) -> ParameterStore:
    """A store with random parameters and statistics."""
    rng, store = np.random.default_rng(seed), ParameterStore.for_graph(graph, seed=11)
    values = {path: rng.standard_normal(spec.shape) / np.sqrt(spec.fan_in) for path, spec in graph.parameters().items()}
    for path, spec in graph.buffers().items():
        values[path] = rng.uniform(0.5, 1.5, spec.shape)
    store.load(values)
    return store


def batch(graph: Graph, n: int, seed: int = 1) -> tuple[Array, Array]:
    """Inputs N,... and integer targets."""
    rng, shape = np.random.default_rng(seed), (n, *(size or 0 for size in graph.input_shapes[0]))
    bytes_ = getattr(graph.node(graph.inputs[0]).op, "dtype", "float32") == "uint8"
    inputs = rng.integers(0, 256, shape, np.uint8) if bytes_ else rng.standard_normal(shape).astype(np.float32)
    return inputs, rng.integers(0, 5, (n, *(size or 0 for size in graph.output_shapes[0][:-1])))
