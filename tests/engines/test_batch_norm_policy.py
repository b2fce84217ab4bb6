"""What a batch norm does whose weight and bias are frozen: nothing, or it renews its statistics; on every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fovea
import fovea.ops as ops
from fovea.engines.base import Engine
from fovea.engines.reference import ReferenceEngine
from fovea.engines.registry import available_engines
from fovea.engines.spec import match_paths
from fovea.errors import EngineError
from fovea.graph.compose import Residual, Sequential, build
from fovea.graph.graph import Graph
from fovea.graph.store import ParameterStore
from tests.engines.engine_list import load
from tests.native.networks import batch, filled
from tests.training.small_training import small_data, small_model

Array = npt.NDArray[Any]
TRAINED = {
    "the head": ["head"],
    "the upper half": ["block2", "head"],
    "all but the norms": ["stem.conv1", "block1.conv1", "block1.conv2", "block1.conv3", "*.conv?.weight", "head"],
    "norms of one block": ["block1.batchnorm2", "head"],
    "biases of norms": ["*batchnorm?.bias", "head"],
}


@pytest.fixture(params=available_engines())
def engine(request: pytest.FixtureRequest) -> Engine:
    return load(request.param)


def inverted(channels: int, wide: int, stride: int = 1) -> Any:
    """Pointwise, depthwise, pointwise, each with its norm: large enough for every fusion of statistics."""
    return Sequential(
        *(ops.Conv(wide, 1, use_bias=False), ops.BatchNorm(), ops.ReLU6()),
        *(ops.Conv(wide, 3, stride=stride, padding="same", groups=wide, use_bias=False), ops.BatchNorm(), ops.ReLU6()),
        *(ops.Conv(channels, 1, use_bias=False), ops.BatchNorm(momentum=0.25)),
    )


def network(size: int = 24) -> Graph:
    """A stem, two inverted residual blocks, a residual block with ReLU behind the addition; size x size x 4 -> 5."""
    plain = Sequential(ops.Conv(8, 3, padding=1, use_bias=False), ops.BatchNorm())
    return build(
        Sequential(
            {"stem": Sequential(ops.Conv(8, 3, padding=1, use_bias=False), ops.BatchNorm(), ops.ReLU6())},
            {"block1": Residual(inverted(8, 16))},
            {"block2": inverted(8, 16, stride=2)},
            {"block3": Residual(plain)},
            ops.ReLU(), ops.GlobalAvgPool(), {"head": ops.Dense(5)},
        ),
        (size, size, 4),
    )  # fmt: skip


def trained(engine: Engine, graph: Graph, n: int, **options: Any) -> tuple[ParameterStore, list[float], list[Array]]:
    store = filled(graph)
    plan = engine.compile(
        graph, store, batch_size=n, training=True, optimizer=ops.SGD(momentum=0.9), loss=ops.SoftmaxCrossEntropy(),
        **options,
    )  # fmt: skip
    done = [plan.train_step(*batch(graph, n - step, step), lr=0.05, step=step) for step in range(2)]
    return store, [one.loss for one in done], [one.outputs for one in done]


@pytest.mark.parametrize("trainable", TRAINED.values(), ids=TRAINED)
@pytest.mark.parametrize("policy", ["frozen", "update"])
def test_every_engine_follows_the_policy(engine: Engine, policy: str, trainable: list[str]) -> None:
    graph, n = (network(8), 6) if engine.name == "reference" else (network(), 16)
    options = {"trainable": trainable, "batch_norm": policy}
    store, losses, outputs = trained(engine, graph, n, **options)
    exact, expected, exactly = trained(ReferenceEngine(np.float64), graph, n, **options)
    np.testing.assert_allclose(losses, expected, rtol=2e-4)
    for one, other in zip(outputs, exactly, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4 * np.abs(other).max())
    before, spec = filled(graph).tensors(), matched(graph, trainable)
    for path, array in store.tensors().items():
        norm = [f"{path.rpartition('.')[0]}.{name}" for name in ("weight", "bias")]
        statistics = ".running_" in path
        moves = path in spec or (statistics and (policy == "update" or any(one in spec for one in norm)))
        if statistics or not moves or path.startswith("head"):  # a bias below another batch norm has no gradient
            assert (not np.array_equal(array, before[path])) == moves, path
        np.testing.assert_allclose(array, exact.tensors()[path], rtol=1e-3, atol=1e-3)


def matched(graph: Graph, patterns: list[str]) -> set[str]:
    return set(match_paths(list(graph.parameters()), patterns))


def test_the_renewed_statistics_by_hand(engine: Engine) -> None:
    """x = 1, 2, 3, 6: mean 3, biased variance 3.5, unbiased 14/3; half of them is new."""
    graph = build(Sequential(ops.BatchNorm(eps=0.0, momentum=0.5), ops.Dense(1)), (1,))
    store = filled(graph)
    store.load({
        "batchnorm1.weight": [2.0], "batchnorm1.bias": [1.0], "batchnorm1.running_mean": [7.0],
        "batchnorm1.running_var": [4.0], "dense1.weight": [[1.0]], "dense1.bias": [0.0],
    })  # fmt: skip
    x = np.asarray([[1], [2], [3], [6]], np.float32)
    plans = {
        policy: engine.compile(graph, store, batch_size=4, training=True, trainable=["dense1"], batch_norm=policy)
        for policy in ("frozen", "update")
    }
    np.testing.assert_allclose(plans["frozen"].forward(x), (x - 7) / 2 * 2 + 1, rtol=1e-6)
    assert store.buffers["batchnorm1.running_mean"] == 7
    np.testing.assert_allclose(plans["update"].forward(x), (x - 3) / 3.5**0.5 * 2 + 1, rtol=1e-5)
    assert store.buffers["batchnorm1.running_mean"] == 5
    np.testing.assert_allclose(store.buffers["batchnorm1.running_var"], (4 + 14 / 3) / 2, rtol=1e-6)
    assert (store.parameters["batchnorm1.weight"], store.parameters["batchnorm1.bias"]) == (2, 1)


def test_the_gradient_goes_through_the_statistics() -> None:
    """Central differences in float64 of a convolution below norms that are frozen and update."""
    graph = network(6)
    store = filled(graph)
    x, _ = batch(graph, 4)
    rng = np.random.default_rng(3)
    grad = rng.standard_normal((4, 5))
    plan = ReferenceEngine(np.float64).compile(
        graph, store, batch_size=4, training=True, trainable=["stem.conv1"], batch_norm="update"
    )
    plan.forward(x)
    plan.backward(grad)
    analytic = plan.gradients["stem.conv1.weight"]
    path, step = "stem.conv1.weight", 1e-6
    weight = store.parameters[path].astype(np.float64)
    for place in [tuple(rng.integers(0, size) for size in weight.shape) for _ in range(6)]:
        values = []
        for sign in (1, -1):
            moved = weight.copy()
            moved[place] += sign * step
            plan.overrides = {path: moved}
            values.append(float((grad * plan.forward(x)).sum()))
        numeric = (values[0] - values[1]) / (2 * step)
        assert analytic[place] == pytest.approx(numeric, rel=1e-4, abs=1e-6 * np.abs(analytic).max())


@pytest.mark.skipif("native" not in available_engines(), reason="the compiled core is not built")
def test_bfloat16_follows_the_policy() -> None:
    graph = network()
    options: dict[str, Any] = {"trainable": ["head"], "batch_norm": "update"}
    store, losses, _ = trained(load("native"), graph, 16, precision="bf16", **options)
    exact, expected, _ = trained(load("native"), graph, 16, **options)
    np.testing.assert_allclose(losses, expected, rtol=0.05)
    for path, array in store.buffers.items():
        np.testing.assert_allclose(array, exact.buffers[path], rtol=0.05, atol=0.02)


@pytest.mark.parametrize("engine_name", available_engines())
def test_training_takes_the_policy(engine_name: str, tmp_path: Any) -> None:
    for policy, moved in (("frozen", False), ("update", True)):
        model = small_model()
        before = model.store.copy().tensors()
        fovea.train(
            model, small_data(), epochs=1, batch_size=16, engine=engine_name, trainable=["dense1"], batch_norm=policy,
            out=tmp_path / policy, report=False,
        )  # fmt: skip
        after = model.store.tensors()
        for path in ("batchnorm1.running_mean", "batchnorm1.running_var"):
            assert (not np.array_equal(after[path], before[path])) == moved
        for path in ("conv1.weight", "batchnorm1.weight", "batchnorm1.bias"):
            np.testing.assert_array_equal(after[path], before[path])


def test_another_policy_is_refused(engine: Engine) -> None:
    graph = network(6)
    with pytest.raises(EngineError, match=r"\[compile\] expected batch_norm as frozen or update, got 'moving'"):
        engine.compile(graph, filled(graph), batch_size=1, training=True, batch_norm="moving")
