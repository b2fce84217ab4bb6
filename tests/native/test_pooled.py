"""Convolution, ReLU and max-pooling in one kernel against the reference engine; integers make every sum exact."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.native import NativeEngine
from fovea.engines.native.executable import core
from fovea.engines.reference import ReferenceEngine
from fovea.graph.compose import Sequential, build
from fovea.graph.graph import Graph
from fovea.graph.store import ParameterStore

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")

Array = np.ndarray[Any, Any]
WIDE = 2 * core().vector_floats()
CASES: list[tuple[tuple[int, int, int], int, tuple[int, int], Any, bool]] = [
    # input, channels, kernel, padding, ReLU
    ((28, 28, 1), 6, (5, 5), 2, True),
    ((9, WIDE, 1), 1, (3, 3), 1, True),
    ((8, WIDE + 2, 2), 2, (3, 3), 1, False),
    ((7, 2 * WIDE + 1, 1), 3, (3, 3), 1, True),
    ((11, WIDE - 1, 3), 4, (4, 2), ((1, 0), (2, 1)), True),
    ((10, 2 * WIDE + 2, 1), 5, (1, 7), 0, False),
    ((6, WIDE + 4, 4), 6, (2, 3), 1, True),
    ((13, 3 * WIDE + 3, 2), 7, (5, 3), 2, True),
    ((12, WIDE, 3), 8, (3, 5), (1, 2), False),
    ((150, 2 * WIDE, 2), 3, (3, 3), 1, True),
]


def network(case: tuple[tuple[int, int, int], int, tuple[int, int], Any, bool]) -> Graph:
    shape, channels, kernel, padding, relu = case
    layers = [ops.Conv(channels, kernel, padding=padding), *([ops.ReLU()] if relu else []), ops.MaxPool(2)]
    return build(Sequential(*layers), shape)


def integers(graph: Graph, n: int) -> tuple[ParameterStore, Array, Array]:
    """Small integers: many windows hold their maximum twice, and no sum is rounded."""
    rng, store = np.random.default_rng(n), ParameterStore.for_graph(graph, seed=0)
    store.load({path: rng.integers(-2, 3, spec.shape) for path, spec in graph.parameters().items()})
    shape, out = ([size or 0 for size in sizes[0]] for sizes in (graph.input_shapes, graph.output_shapes))
    return store, rng.integers(-2, 3, (n, *shape)).astype(np.float32), rng.integers(-3, 4, (n, *out)).astype(np.float32)


def results(engine: Any, graph: Graph, n: int, **options: Any) -> tuple[dict[str, Array], set[str]]:
    """Outputs and gradients, and the kernels that made them."""
    store, x, grad = integers(graph, n)
    plan = engine.compile(graph, store, batch_size=n + 1, training=True, **options)
    values = {"y": plan.forward(x)}
    values.update({f"grad {name}": array.copy() for name, array in plan.backward(grad).items()})
    values.update({path: array.copy() for path, array in plan.gradients.items()})
    return values, {row["kernel"] for row in plan.describe()} if isinstance(engine, NativeEngine) else set()


def check_exact(graph: Graph, n: int, expected: set[str], **options: Any) -> None:
    ours, kernels = results(NativeEngine(), graph, n, **options)
    exact, _ = results(ReferenceEngine(np.float64), graph, n, **options)
    assert expected <= kernels
    assert ours.keys() == exact.keys()
    for name, array in exact.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_exact(case: Any) -> None:
    check_exact(network(case), 3, {"convpool"})


def test_backward_reads_winners_alone() -> None:
    kernels = {"convpool_backward_weight", "convpool_backward_data"}
    check_exact(network(CASES[0]), 2, {"convpool", *kernels}, wrt=["input1"])
    deeper = build(Sequential(ops.Conv(16, 5), ops.ReLU(), ops.MaxPool(2)), (14, 14, 6))
    check_exact(deeper, 3, kernels, wrt=["input1"])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_gradient_that_goes_on_to_the_input(case: Any) -> None:
    check_exact(network(case), 2, {"convpool"}, wrt=["input1"])


def test_a_frozen_weight_and_a_trained_bias() -> None:
    check_exact(network(CASES[0]), 2, {"convpool", "column_sum"}, trainable=frozenset({"conv1.bias"}))


def test_without_bias_and_for_inference() -> None:
    graph = build(Sequential(ops.Conv(3, 3, use_bias=False), ops.ReLU(), ops.MaxPool(2)), (9, 20, 1))
    check_exact(graph, 2, {"convpool"})
    store, x, _ = integers(graph, 2)
    plans = [engine.compile(graph, store, batch_size=2) for engine in (NativeEngine(), ReferenceEngine(np.float64))]
    np.testing.assert_array_equal(plans[0].forward(x), plans[1].forward(x))


@pytest.mark.parametrize(
    "pool", [ops.MaxPool(3, 2), ops.MaxPool(2, 1), ops.MaxPool(2, padding=1), ops.MaxPool((2, 1))], ids=str
)
def test_other_windows_are_left_alone(pool: ops.MaxPool) -> None:
    graph = build(Sequential(ops.Conv(3, 3), ops.ReLU(), pool), (12, 24, 1))
    ours, kernels = results(NativeEngine(), graph, 2)
    exact, _ = results(ReferenceEngine(np.float64), graph, 2)
    assert "convpool" not in kernels
    for name, array in exact.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_a_kept_map_and_its_gradient_are_not_skipped() -> None:
    graph = network(CASES[0])
    check_exact(graph, 2, {"maxpool_uint8", "convpool_backward_data"}, wrt=["input1"], keep=["relu1"])
    for name in ("conv1", "relu1"):
        check_exact(graph, 2, {"maxpool_uint8_backward", "conv_backward_data"}, wrt=["input1", name])


def test_nan_is_the_maximum_and_gets_the_gradient() -> None:
    graph = build(Sequential(ops.Conv(2, 1), ops.MaxPool(2)), (4, 40, 1))
    store, x, _ = integers(graph, 1)
    x[0, 1, 3] = np.nan
    plan = NativeEngine().compile(graph, store, batch_size=1, training=True)
    y = plan.forward(x)
    assert np.isnan(y[0, 0, 1]).all()
    assert np.isnan(y).sum() == 2
    plan.backward(np.ones_like(y))
    assert np.isnan(plan.gradients["conv1.weight"]).all()
    np.testing.assert_array_equal(plan.gradients["conv1.bias"], [40, 40])


def test_bits_do_not_depend_on_threads() -> None:
    graph, before = network(CASES[-1]), core().get_threads()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, *CASES[-1][0])).astype(np.float32)
    found = []
    for threads in (1, 2, 3):
        core().set_threads(threads)
        store = ParameterStore.for_graph(graph, seed=1)
        plan = NativeEngine().compile(graph, store, batch_size=9, training=True)
        y = plan.forward(x)
        plan.backward(y)
        found.append((y, plan.gradients["conv1.weight"].copy(), plan.gradients["conv1.bias"].copy()))
    core().set_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("isa", ["v2", "v3"])
def test_lower_instruction_sets(isa: str) -> None:
    if not core().isa().startswith("v") or core().isa() <= isa:
        pytest.skip(f"this CPU runs {core().isa()}, not a set above {isa}")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "FOVEA_ISA": isa, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    program = (
        "from tests.native import test_pooled as t\n"
        "for case in t.CASES: t.check_exact(t.network(case), 3, set(), wrt=['input1'])"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
