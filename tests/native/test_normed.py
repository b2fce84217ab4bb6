"""Convolutions that normalise what they read, in training: against the reference and the single nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea import get_threads, set_threads
from fovea.engines.native import NativeEngine
from fovea.engines.native.rules import between, normed
from fovea.engines.reference import ReferenceEngine
from fovea.graph.compose import Sequential, build
from fovea.graph.graph import Graph
from tests.native.bf16_arrays import HALF_STEP
from tests.native.networks import filled

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")


OUTPUTS = 3


@dataclass(frozen=True)
class Case:
    """An image with its channels, and what stands around the convolution."""

    size: tuple[int, int, int]
    stride: int = 1
    clamp: type[ops.Op] | None = ops.ReLU6
    behind: bool = True
    bias: bool = False
    first: bool = True

    def graph(self) -> Graph:
        """Pointwise, batch norm, clamp, depthwise, batch norm, pointwise."""
        channels = self.size[-1]
        layers: list[ops.Op] = [ops.Conv(channels, 1, use_bias=False)] if self.first else []
        layers += [ops.BatchNorm(), *([self.clamp()] if self.clamp else [])]
        layers += [ops.Conv(channels, 3, stride=self.stride, padding=1, groups=channels, use_bias=self.bias)]
        layers += [ops.BatchNorm(), ops.ReLU()] if self.behind else []
        return build(Sequential(*layers, ops.Conv(OUTPUTS, 1)), self.size)


CASES = [
    Case((9, 8, 20)),
    Case((9, 8, 20), stride=2),
    Case((8, 9, 17), stride=2, clamp=ops.ReLU),
    Case((5, 1, 3), clamp=None),
    Case((1, 6, 16), stride=2, behind=False),
    Case((7, 7, 33), bias=True, first=False, behind=False),
    Case((33, 50, 40)),  # several bands, and several pieces of one image
    Case((46, 41, 40), stride=2),
]


@pytest.fixture(autouse=True)
def _restore_threads() -> Any:
    threads = get_threads()
    yield
    set_threads(threads)


def computed(engine: Any, case: Case, **options: Any) -> tuple[list[str], dict[str, Any]]:
    """The kernels of a plan, and all that a step leaves."""
    graph = case.graph()
    store = filled(graph)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, *case.size)).astype(np.float32)
    plan = engine.compile(graph, store, batch_size=4, training=True, wrt=[graph.inputs[0]], **options)
    outputs = plan.forward(x)
    gradient = plan.backward(rng.standard_normal(outputs.shape).astype(np.float32))[graph.inputs[0]]
    kernels = [row["kernel"] for row in plan.describe()] if isinstance(engine, NativeEngine) else []
    return kernels, {"y": outputs, "dx": gradient, **plan.gradients, **store.buffers}


def near(ours: dict[str, Any], exact: dict[str, Any], tolerance: float) -> None:
    assert ours.keys() == exact.keys()
    for name, array in exact.items():
        scale = max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=tolerance * scale, err_msg=name)


def choose(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(normed, "LEAST_PIXELS", 1 << 40 if kind == "apart" else 0)
    monkeypatch.setattr(between, "LEAST_PIXELS", 0 if kind == "between" else 1 << 40)


@pytest.fixture(params=["apart", "through", "between"])
def pointwise(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What pointwise convolutions do with the norms around them, whatever their size: nothing; their gradient goes
    through the norm behind; that, and they normalise what they read and take the statistics of what they write."""
    kind = str(request.param)
    choose(monkeypatch, kind)
    return kind


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_reference_and_the_single_nodes(case: Case, pointwise: str) -> None:
    kernels, ours = computed(NativeEngine(), case)
    assert ("normed_pointwise_backward" in kernels) == (pointwise != "apart" and case.first)
    assert {"normed_depthwise", "normed_depthwise_backward"} <= set(kernels)
    between = pointwise == "between" and case.behind and case.size[-1] > OUTPUTS
    assert ("pointwise_between_norms_backward" in kernels) == between
    assert ("pointwise_between_norms" in kernels) == (between or (pointwise == "between" and case.first))
    assert ("batchnorm_apply" in kernels) == (case.behind and not between)
    assert ("batchnorm_gradient" in kernels) == (not case.first or pointwise == "apart")
    near(ours, computed(ReferenceEngine(np.float64), case)[1], 2e-5)
    names, single = computed(NativeEngine(), case, keep=list(case.graph().nodes))
    assert "normed_depthwise" not in names
    near(ours, single, 2e-5)


@pytest.mark.parametrize("case", CASES[-2:], ids=str)
def test_bits_do_not_depend_on_threads(case: Case, pointwise: str) -> None:
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        results.append(computed(NativeEngine(), case)[1])
    for other in results[1:]:
        for name, array in results[0].items():
            np.testing.assert_array_equal(other[name], array, err_msg=name)


@pytest.mark.parametrize("kind", ["through", "between"])
@pytest.mark.parametrize("case", [case for case in CASES if case.first], ids=str)
def test_in_bfloat16_as_apart_and_for_any_threads(case: Case, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for one, threads in ((kind, 1), (kind, 3), ("apart", 1)):
        choose(monkeypatch, one)
        set_threads(threads)
        kernels, values = computed(NativeEngine(), case, precision="bf16")
        assert ("normed_pointwise_backward" in kernels) == (one != "apart")
        results.append(values)
    for name, array in results[0].items():
        np.testing.assert_array_equal(results[1][name], array, err_msg=name)
        apart = results[2][name]
        error = float(np.linalg.norm(array - apart)) / max(1e-3, float(np.linalg.norm(apart)))
        assert error < 2 * HALF_STEP, name


def test_backward_twice_after_one_forward_adds_up(pointwise: str) -> None:
    graph = CASES[0].graph()
    rng = np.random.default_rng(4)
    plan = NativeEngine().compile(graph, filled(graph), batch_size=2, training=True)
    y = plan.forward(rng.standard_normal((2, *CASES[0].size)).astype(np.float32))
    gradient = rng.standard_normal(y.shape).astype(np.float32)
    plan.backward(gradient)
    once = {path: array.copy() for path, array in plan.gradients.items()}
    plan.backward(gradient)
    for path, array in plan.gradients.items():
        np.testing.assert_array_equal(array, 2 * once[path], err_msg=path)


BLOCKS = [
    (
        (9, 8, 20),
        [
            ops.Conv(70, 1, use_bias=False),
            ops.BatchNorm(),
            ops.Conv(24, 1, use_bias=False),
            ops.BatchNorm(),
            ops.ReLU(),
        ],
    ),
    (
        (21, 20, 6),
        [
            ops.Conv(40, 1, use_bias=False),
            ops.BatchNorm(),
            ops.ReLU(),
            ops.Conv(33, 1, use_bias=False),
            ops.BatchNorm(),
        ],
    ),
    (
        (30, 30, 5),
        [ops.Conv(130, 3, padding=1, use_bias=False), ops.BatchNorm(), ops.ReLU6(), ops.Conv(129, 1)],
    ),
    (  # the pointwise one stands before a norm that a depthwise one takes in
        (9, 8, 6),
        [
            ops.Conv(40, 3, padding=1, use_bias=False),
            ops.BatchNorm(),
            ops.ReLU(),
            ops.Conv(17, 1, use_bias=False),
            ops.BatchNorm(),
            ops.Conv(17, 3, padding=1, groups=17),
        ],
    ),
]
"""Norms between a convolution and a pointwise one with fewer channels; what is around differs."""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
@pytest.mark.parametrize("all_trained", [True, False], ids=["all", "norms"])
def test_pointwise_convolutions_between_norms(number: int, all_trained: bool, pointwise: str) -> None:
    size, layers = BLOCKS[number]
    graph = build(Sequential(*layers, ops.GlobalAvgPool()), size)
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((3, *size)).astype(np.float32), None
    results = []
    for engine, threads in ((NativeEngine(), 1), (NativeEngine(), 3), (ReferenceEngine(np.float64), 1)):
        set_threads(threads)
        store = filled(graph)
        norms = [node.name for node in graph.nodes.values() if node.op.kind == "batchnorm"]
        options = {} if all_trained else {"trainable": norms}
        plan = engine.compile(graph, store, batch_size=3, training=True, **options)
        y = plan.forward(x)
        dy = rng.standard_normal(y.shape).astype(np.float32) if dy is None else dy
        plan.backward(dy)
        results.append({"y": np.array(y), **{k: np.array(v) for k, v in plan.gradients.items()}, **store.buffers})
        if isinstance(engine, NativeEngine):
            kernels = [row["kernel"] for row in plan.describe()]
            assert ("pointwise_between_norms_backward" in kernels) == (pointwise == "between")
    for name, array in results[0].items():
        np.testing.assert_array_equal(results[1][name], array, err_msg=name)
    near(results[0], results[2], 2e-5)


def test_frozen_and_kept_norms_stand_alone() -> None:
    graph = CASES[0].graph()
    for options in ({"keep": ["batchnorm1"]}, {"keep": ["relu61"]}, {"trainable": ["batchnorm2", "conv3"]}):
        plan = NativeEngine().compile(graph, filled(graph), batch_size=2, training=True, **options)
        assert "normed_depthwise" not in [row["kernel"] for row in plan.describe()]
