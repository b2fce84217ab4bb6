"""Random graphs: whatever may be fused, shared or done in place must compute what the single ops do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.native import NativeEngine
from fovea.engines.reference import ReferenceEngine
from fovea.graph.graph import Graph
from fovea.ops.value import Value
from tests.native.networks import Array, filled

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")

SHAPE, CHANNELS = (4, 3, 3), 3


def random_graph(rng: np.random.Generator, length: int) -> Graph:
    """A chain with branches: each new node reads the last value, often an older one of its shape as well."""
    x = ops.Input(SHAPE, name="x")
    values: list[tuple[Value, tuple[int, ...]]] = [(x, SHAPE)]
    for _ in range(length):
        value, shape = values[-1] if rng.random() < 0.75 else values[rng.integers(len(values))]
        partners = [other for other, its in values if its == shape]
        partner = partners[rng.integers(len(partners))]
        values.append(_node(rng, value, partner, shape))
    tails = [ops.GlobalAvgPool()(value) for value, _ in values[-3:]]
    joined = ops.Concat()(*tails)
    outputs = [ops.Dense(5, use_bias=bool(rng.integers(2)))(joined, name="logits")]
    if rng.random() < 0.3:
        outputs.append(ops.Tanh()(tails[0]))
    return Graph(inputs=x, outputs=outputs)


def _node(
    rng: np.random.Generator, value: Value, partner: Value, shape: tuple[int, ...]
) -> tuple[Value, tuple[int, ...]]:
    kind = rng.choice(["conv", "norm", "norm", "relu", "relu", "relu6", "add", "add", "pool", "other"])
    if kind == "conv":
        kernel = int(rng.choice([1, 3]))
        return ops.Conv(CHANNELS, kernel, padding="same", use_bias=bool(rng.integers(2)))(value), shape
    if kind == "norm":
        return ops.BatchNorm()(value), shape
    if kind == "relu":
        return ops.ReLU(str(rng.choice(["standard", "standard", "standard", "guided"])))(value), shape
    if kind == "relu6":
        return ops.ReLU6()(value), shape
    if kind == "add":
        return ops.Add()(value, partner) if rng.integers(2) else ops.Add()(partner, value), shape
    if kind == "pool" and shape[0] > 1:
        height, width = (shape[0] + 1) // 2, (shape[1] + 1) // 2
        return ops.MaxPool(2, padding="same")(value), (height, width, CHANNELS)
    others = [
        lambda: ops.Multiply()(value, ops.Sigmoid()(partner)),
        lambda: ops.Sub()(value, partner),
        lambda: ops.StopGradient()(value),
        lambda: ops.Dropout(0.3)(value),
        lambda: ops.GroupNorm(3)(value),
        lambda: ops.Slice(None, None, -1, -1)(value),
        lambda: ops.Reshape(shape)(value),
        lambda: ops.Concat()(ops.Split((1, 2))(value)[1], ops.Split((1, 2))(partner)[0]),
    ]
    return others[rng.integers(len(others))](), shape


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, int(rng.integers(4, 16)))
    names = list(graph.nodes)
    keep, wrt = (list(rng.choice(names, size=int(rng.integers(0, 4)), replace=False)) for _ in range(2))
    training = bool(rng.integers(2))
    some = list(graph.parameters())[:: int(rng.integers(1, 3))] if training and rng.integers(2) else None
    x = rng.standard_normal((4, *SHAPE)).astype(np.float32)
    grads = [
        rng.standard_normal((4, *(size or 0 for size in shape))).astype(np.float32) for shape in graph.output_shapes
    ]
    options: dict[str, Any] = {"keep": keep, "wrt": [*wrt, "x"], "training": training, "trainable": some}
    options["lean"] = seed % 2 == 0
    ours, exact = (_everything(engine, graph, x, grads, options) for engine in (NativeEngine(), DOUBLE))
    assert ours.keys() == exact.keys()
    # Sums that cancel (a bias before batch norm) are as exact as their terms: the largest gradient gives the scale.
    scale = max(1.0, *(float(np.abs(array).max()) for array in exact.values()))
    for name, array in exact.items():
        assert ours[name].shape == array.shape
        np.testing.assert_allclose(ours[name], array, rtol=1e-4, atol=1e-5 * scale, err_msg=name)


DOUBLE = ReferenceEngine(np.float64)


def _everything(engine: Any, graph: Graph, x: Array, grads: list[Array], options: dict[str, Any]) -> dict[str, Array]:
    store = filled(graph)
    plan = engine.compile(graph, store, batch_size=5, **options)
    outputs = plan.forward(x, step=2)
    result = {f"output {i}": array for i, array in enumerate(outputs if isinstance(outputs, tuple) else [outputs])}
    result |= {f"kept {name}": array for name, array in plan.kept.items()}
    result |= {f"wrt {name}": array for name, array in plan.backward(grads).items()}
    result |= {f"gradient {path}": array for path, array in plan.gradients.items()}
    return result | {f"buffer {path}": array for path, array in store.buffers.items()}
