"""The engines that are installed here, and one way to run a sample on any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fovea.engines.base import Engine
from fovea.engines.registry import ENGINES, available_engines, get_engine
from fovea.graph.graph import Graph
from fovea.graph.store import ParameterStore
from fovea.ops import Input, Reshape
from tests.op_samples import Sample

Array = npt.NDArray[Any]
SEED, STEP = 3, 5


def load(name: str) -> Engine:
    """The engine, or a skipped test with the reason."""
    if name not in available_engines():
        pytest.skip(f"the {name} engine cannot run here: {ENGINES[name][2]} is missing")
    return get_engine(name)


def run_sample(engine: Engine, sample: Sample, training: bool, dtype: npt.DTypeLike = np.float32) -> dict[str, Array]:
    """Everything the op computes: outputs, gradients of inputs and parameters, buffers. One batch below capacity."""
    if sample.op.is_loss:
        return _run_loss(engine, sample, dtype)
    graph = sample.graph()
    store = store_for(graph, sample)
    inputs = sample.inputs(dtype) or (np.zeros((sample.n, 1), dtype),)
    wrt = [f"x{i}" for i, kind in enumerate(sample.dtypes) if kind == "float32"]
    plan = engine.compile(graph, store, batch_size=sample.n + 1, training=training, wrt=wrt)
    outputs = plan.forward(*inputs, step=STEP)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    result = {f"output {i}": array for i, array in enumerate(outputs)}
    if wrt:
        for name, gradient in plan.backward(list(sample.grad_outputs(dtype))).items():
            result[f"gradient of {name}"] = gradient
    result |= {f"gradient of {path}": gradient for path, gradient in plan.gradients.items()}
    return result | {f"buffer {path}": array.copy() for path, array in store.buffers.items()}


def _run_loss(engine: Engine, sample: Sample, dtype: npt.DTypeLike) -> dict[str, Array]:
    """A loss stands behind a network: here one that changes nothing."""
    values, targets = sample.inputs(dtype)
    x = Input(sample.input_shapes[0], name="x0")
    graph = Graph(inputs=x, outputs=Reshape(sample.input_shapes[0])(x))
    store = ParameterStore.for_graph(graph, SEED)
    plan = engine.compile(graph, store, batch_size=sample.n + 1, training=True, wrt=["x0"], loss=sample.op)
    plan.forward(values, step=STEP)
    (before,) = plan.loss(targets)
    (loss,) = plan.loss_backward(targets, scale=float(sample.grad_outputs()[0]))
    assert before == loss
    return {"loss": np.asarray(loss), "gradient of x0": plan.wrt_gradients["x0"]}


def store_for(graph: Graph, sample: Sample) -> ParameterStore:
    """A store with the sample's parameters and buffers."""
    store = ParameterStore.for_graph(graph, SEED)
    store.load({f"node.{name}": array for name, array in {**sample.parameters(), **sample.buffers()}.items()})
    return store


def check_close(name: str, computed: Array, single: Array, double: Array) -> None:
    """Compare with the reference in float64.

    An engine may be 16 times further from it than the reference in float32 is (which measures how well conditioned the
    sums of this sample are; 16 for other orders of summation and fused steps), plus 16 eps of the largest element (for
    samples on which float32 happens to be exact).
    """
    assert computed.shape == double.shape, f"{name}: shape {computed.shape}, expected {double.shape}"
    magnitude = float(np.abs(double).max(initial=0))
    tolerance = 16 * float(np.abs(single - double).max(initial=0)) + 16 * 2**-24 * magnitude
    error = float(np.abs(computed - double).max(initial=0))
    assert error <= tolerance, f"{name}: off by {error:.3g}, allowed {tolerance:.3g}, largest element {magnitude:.3g}"
