"""Whole networks on the native engine against the reference engine in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.native import NativeEngine
from fovea.engines.reference import ReferenceEngine
from fovea.graph.compose import Sequential, build
from fovea.graph.graph import Graph
from tests.native.networks import NETWORKS, Array, batch, filled

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")

DOUBLE = ReferenceEngine(np.float64)


@pytest.fixture(params=NETWORKS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return NETWORKS[request.param]()


def near(one: Any, other: Any, tolerance: float) -> None:
    """Equal to a tolerance relative to the largest element: rounding of float32 through some ten layers."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1.0, float(np.abs(other).max(initial=0))))


def every_value(graph: Graph) -> list[str]:
    """All nodes of a graph: a plan that keeps them fuses nothing."""
    return list(graph.nodes)


@pytest.mark.parametrize(("training", "lean"), [(False, False), (False, True), (True, False)])
def test_outputs_and_all_gradients(graph: Graph, training: bool, lean: bool) -> None:
    x, _ = batch(graph, 5)
    rng = np.random.default_rng(3)
    grad = rng.standard_normal((5, *(size or 0 for size in graph.output_shapes[0]))).astype(np.float32)
    results = []
    for engine in (NativeEngine(), DOUBLE):
        plan = engine.compile(graph, filled(graph), batch_size=6, training=training, wrt=[graph.inputs[0]], lean=lean)
        outputs = plan.forward(x, step=4)
        results.append((outputs, plan.backward(grad)[graph.inputs[0]], plan.gradients))
    (ours, our_input, our_gradients), (exact, input_, gradients) = results
    near(ours, exact, 2e-6)
    near(our_input, input_, 1e-5)
    assert our_gradients.keys() == gradients.keys()
    for path, array in gradients.items():
        near(our_gradients[path], array, 2e-5)


OPTIMIZERS = [
    ops.SGD(momentum=0.9, weight_decay=1e-3, nesterov=True, clip_norm=5.0, ema_decay=0.9),
    ops.AdamW(weight_decay=0.05, eps=1e-3),  # a large eps: tiny gradients are rounding errors, not directions
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adamw"])
def test_five_steps(graph: Graph, optimizer: ops.Optimizer) -> None:
    """AdamW moves a weight by lr / eps = 50 times the rounding error of a gradient near zero."""
    growth = 1 if isinstance(optimizer, ops.SGD) else 4
    results = []
    for engine in (NativeEngine(), DOUBLE):
        store = filled(graph)
        loss = ops.SoftmaxCrossEntropy(label_smoothing=0.1)
        plan = engine.compile(graph, store, batch_size=6, training=True, loss=loss, optimizer=optimizer)
        steps = [plan.train_step(*batch(graph, 6 - step % 3, step), lr=0.05, step=step) for step in range(5)]
        results.append((store, steps))
    (ours, our_steps), (exact, steps) = results
    for one, other in zip(our_steps, steps, strict=True):
        near([one.loss, one.grad_norm], [other.loss, other.grad_norm], growth * 2e-5)
        near(one.outputs, other.outputs, growth * 5e-5)
    for path, array in {**exact.tensors(), **exact.ema}.items():
        near({**ours.tensors(), **ours.ema}[path], array, growth * 5e-5)


@pytest.mark.parametrize("training", [False, True])
def test_fused_nodes_compute_what_the_single_ones_do(graph: Graph, training: bool) -> None:
    x, targets = batch(graph, 4)
    results = []
    for keep in ((), every_value(graph)):
        store = filled(graph)
        options: dict[str, Any] = {"loss": ops.SoftmaxCrossEntropy(), "wrt": [graph.inputs[0]], "keep": keep}
        plan = NativeEngine().compile(graph, store, batch_size=4, training=training, **options)
        outputs = plan.forward(x, step=1)
        losses = plan.loss_backward(targets, scale=0.5)
        results.append((len(plan.describe()), outputs, losses, plan.wrt_gradients, plan.gradients, store.buffers))
    (count, *fused), (single_count, *single) = results
    assert count < single_count or graph.nodes.keys() & {"gelu1", "leakyrelu1"}  # two networks have nothing to fuse
    near(fused[0], single[0], 2e-6)
    near(fused[1], single[1], 2e-6)
    for ours, theirs in zip(fused[2:], single[2:], strict=True):
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            near(ours[name], array, 1e-5)


def fusions(graph: Graph, training: bool, **options: Any) -> set[str]:
    """The kernels of the forward pass."""
    plan = NativeEngine().compile(graph, filled(graph), batch_size=2, training=training, **options)
    return {row["kernel"] for row in plan.describe() if row["section"] in ("forward", "prepare")}


def test_what_is_fused() -> None:
    assert "relu" not in fusions(NETWORKS["lenet"](), True)
    assert fusions(NETWORKS["resnet"](), True).isdisjoint({"relu", "add"})
    folded = fusions(NETWORKS["mobilenet"](), False)
    assert "batchnorm_fold" in folded
    assert folded.isdisjoint({"batchnorm_inference", "relu6"})
    kept = fusions(NETWORKS["lenet"](), True, keep=["conv1"])
    assert "relu" in kept


def test_a_kept_input_of_a_fusion_is_what_it_names() -> None:
    graph = NETWORKS["resnet"]()
    names = ["conv1", "batchnorm1", "residual1.add1"]
    x, _ = batch(graph, 3)
    plan, exact = (one.compile(graph, filled(graph), batch_size=3, keep=names) for one in (NativeEngine(), DOUBLE))
    near(plan.forward(x), exact.forward(x), 2e-6)
    for name in names:
        near(plan.kept[name], exact.kept[name], 2e-6)


@pytest.mark.parametrize("hidden", ["conv1", "batchnorm1", "relu1", "maxpool1"])
def test_gradients_inside_of_what_could_be_fused(hidden: str) -> None:
    graph = NETWORKS["vgg"]()
    x, _ = batch(graph, 3)
    grad = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    for training in (False, True):
        gradients = []
        for engine in (NativeEngine(), DOUBLE):
            plan = engine.compile(graph, filled(graph), batch_size=3, training=training, wrt=[hidden])
            plan.forward(x)
            gradients.append(plan.backward(grad)[hidden])
        near(gradients[0], gradients[1], 1e-5)


def test_folded_weights_follow_the_store() -> None:
    graph = NETWORKS["resnet"]()
    store, x = filled(graph), batch(graph, 2)[0]
    plan = NativeEngine().compile(graph, store, batch_size=2)
    before = plan.forward(x)
    for array in (store.parameters["conv1.weight"], store.buffers["batchnorm1.running_mean"]):
        array += 0.25
    np.testing.assert_array_equal(plan.forward(x), before)  # nobody said that they changed
    store.touch()
    after = plan.forward(x)
    near(after, DOUBLE.compile(graph, store, batch_size=2).forward(x), 2e-6)
    assert not np.allclose(after, before)


def test_frozen_backbone_trains_its_head_only() -> None:
    graph = NETWORKS["mobilenet"]()
    results: list[tuple[dict[str, Array], Array]] = []
    for engine in (NativeEngine(), DOUBLE):
        store = filled(graph)
        options: dict[str, Any] = {"loss": ops.SoftmaxCrossEntropy(), "optimizer": ops.SGD(momentum=0.9)}
        plan = engine.compile(graph, store, batch_size=4, training=True, trainable=["dense1"], **options)
        losses = [plan.train_step(*batch(graph, 4, step), lr=0.1, step=step).loss for step in range(3)]
        results.append((store.tensors(), np.asarray(losses)))
    near(results[0][1], results[1][1], 1e-5)
    untouched = filled(graph).tensors()
    for path, array in results[0][0].items():
        if path.startswith("dense1"):
            near(array, results[1][0][path], 1e-5)
        else:
            np.testing.assert_array_equal(array, untouched[path])


def test_nothing_is_computed_below_the_lowest_trainable_node() -> None:
    graph = NETWORKS["vgg"]()
    loss, optimizer = ops.SoftmaxCrossEntropy(), ops.SGD()
    plan = NativeEngine().compile(
        graph, filled(graph), batch_size=2, training=True, trainable=["dense1"], loss=loss, optimizer=optimizer
    )
    backward = {row["node"] for row in plan.describe() if row["section"] == "loss_backward"}
    assert backward == {"loss", "dense1"}


def test_loss_graphs_and_losses_per_sample() -> None:
    """A loss graph may end in one number per sample, or combine losses."""
    network = build(Sequential(ops.Dense(4), ops.Tanh()), (3,))
    y, target = ops.Input((4,), name="y"), ops.Input((4,), name="t")
    distance = ops.Reduce((1,), "sum")(ops.Multiply()(ops.Sub()(y, target), ops.Sub()(y, target)))
    both = ops.Add()(ops.MeanSquaredError()(y, target), ops.SmoothL1()(y, target))
    loss = Graph(inputs=[y, target], outputs=[distance, both])
    rng = np.random.default_rng(5)
    x, t = (rng.standard_normal((6, size)).astype(np.float32) for size in (3, 4))
    results = []
    for engine in (NativeEngine(), DOUBLE):
        plan = engine.compile(network, filled(network), batch_size=8, training=True, loss=loss, optimizer=ops.SGD())
        plan.forward(x)
        results.append((plan.loss_backward(t, weights=[0.3, 2.0]), plan.gradients))
    near(results[0][0], results[1][0], 1e-6)
    for path, array in results[1][1].items():
        near(results[0][1][path], array, 2e-6)


def test_gradients_of_sections_that_reach_different_parameters() -> None:
    """The loss knows one of two heads, given grad_outputs know both: nothing of an old gradient may come back."""
    x = ops.Input((4,), name="x")
    features = ops.Tanh()(ops.Dense(5)(x, name="shared"))
    graph = Graph(inputs=x, outputs=[ops.Dense(3)(features, name="label"), ops.Dense(2)(features, name="other")])
    loss = {"label": (ops.SoftmaxCrossEntropy(), 1.0)}
    rng = np.random.default_rng(7)
    inputs, targets = rng.standard_normal((6, 4)).astype(np.float32), rng.integers(0, 3, 6)
    grads = [None, rng.standard_normal((6, 2)).astype(np.float32)]
    results = []
    for engine in (NativeEngine(), DOUBLE):
        store = filled(graph)
        plan = engine.compile(graph, store, batch_size=6, training=True, loss=loss, optimizer=ops.SGD(momentum=0.0))
        norms = []
        for calls in ("b", "ll", "lb", "b", "bl", "l", "", "b", "lbb", "b"):
            plan.forward(inputs)
            for call in calls:
                plan.loss_backward(targets) if call == "l" else plan.backward(grads)
            norms.append(plan.update(0.1))
        results.append((norms, store.parameters))
    near(results[0][0], results[1][0], 1e-5)
    for path, array in results[1][1].items():
        near(results[0][1][path], array, 1e-5)
