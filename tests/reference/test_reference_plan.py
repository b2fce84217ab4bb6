"""What the reference's plan keeps and drops, and whole networks against differences in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.reference import ReferenceEngine
from fovea.engines.reference.plan import ReferencePlan
from fovea.engines.spec import prepare
from fovea.errors import EngineError, GraphError, ShapeError
from fovea.graph.compose import Residual, Sequential, build
from fovea.graph.graph import Graph, Ref
from fovea.graph.store import ParameterStore


def chain() -> Graph:
    """conv, batch norm, ReLU, a residual with squeeze-and-excitation, dropout, a dense head."""
    return build(
        Sequential(
            {"stem": Sequential(ops.Conv(4, 3, stride=2, padding="same"), ops.BatchNorm(), ops.ReLU())},
            {"block": Residual(Sequential(ops.Conv(4, 3, padding=1, groups=2), excite))},
            ops.AvgPool(2),
            ops.Flatten(),
            ops.Dropout(0.25),
            {"head": ops.Dense(3)},
        ),
        (8, 8, 2),
    )


def excite(x: Any) -> Any:
    """Squeeze-and-excitation: one factor per channel, from the mean of all positions."""
    return ops.Multiply()(x, ops.Sigmoid()(ops.Dense(4)(ops.GlobalAvgPool()(x))))


def compiled(graph: Graph, dtype: Any = np.float32, **options: Any) -> ReferencePlan:
    rng, store = np.random.default_rng(0), ParameterStore.for_graph(graph, seed=2)
    store.load({path: rng.uniform(0.2, 1, spec.shape) for path, spec in graph.buffers().items()})
    store.load({path: rng.standard_normal(spec.shape) for path, spec in graph.parameters().items()})
    return ReferenceEngine(dtype).plan(prepare(graph, batch_size=4, **options), store)


def images(n: int = 4) -> Any:
    return np.random.default_rng(1).standard_normal((n, 8, 8, 2))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_a_whole_network_against_differences(training: bool) -> None:
    """Every parameter array along a random direction, and the input, with dropout's mask held by its step."""
    graph, x, targets = chain(), images(), np.asarray([0, 2, 1, 2])
    plan = compiled(graph, np.float64, training=training, wrt=["input1"], loss=ops.SoftmaxCrossEntropy())
    rng = np.random.default_rng(3)
    plan.overrides = {path: rng.standard_normal(spec.shape) for path, spec in graph.parameters().items()}

    def value() -> float:
        plan.forward(x, step=7)
        return plan.loss(targets)[0]

    value()
    plan.loss_backward(targets)
    computed = {**plan.gradients, "input1": plan.wrt_gradients["input1"]}
    assert set(computed) == {"input1", *(graph.parameters() if training else ())}
    for path, gradient in computed.items():
        array = x if path == "input1" else plan.overrides[path]
        direction, before = rng.standard_normal(array.shape), array.copy()
        array += 1e-6 * direction
        above = value()
        array[...] = before - 1e-6 * direction
        below = value()
        array[...] = before
        assert (above - below) / 2e-6 == pytest.approx(float((gradient * direction).sum()), rel=1e-6, abs=1e-8), path


def test_below_the_lowest_trainable_node_nothing_is_kept() -> None:
    plan = compiled(chain(), training=True, trainable=["head"], loss=ops.SoftmaxCrossEntropy())
    plan.forward(images())
    assert set(plan.saved) == {"head"}
    plan.loss_backward(np.zeros(4, np.int64))
    assert set(plan.gradients) == {"head.weight", "head.bias"}
    plan = compiled(chain(), training=True, trainable=["block.conv1.weight"], loss=ops.SoftmaxCrossEntropy())
    plan.forward(images())
    plan.loss_backward(np.zeros(4, np.int64))
    assert not any(name.startswith("stem") for name in plan.saved)
    assert set(plan.gradients) == {"block.conv1.weight"}


def test_inference_keeps_only_its_outputs() -> None:
    plan = compiled(chain())
    plan.forward(images())
    assert plan.saved == {}
    assert set(plan.values) == {Ref("head")}
    plan = compiled(chain(), wrt=["avgpool1"])
    plan.forward(images())
    assert set(plan.saved) == {"flatten1", "dropout1", "head"}
    assert plan.backward(np.ones((4, 3)))["avgpool1"].shape == (4, 2, 2, 4)


def test_a_training_step_leaves_nothing_behind() -> None:
    plan = compiled(chain(), training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=ops.SGD())
    plan.train_step(images(), np.zeros(4, np.int64), lr=0.1, step=0)
    assert plan.saved == {}
    assert plan.values == {}
    assert plan.gradients == {}
    with pytest.raises(EngineError, match="expected forward before loss and backward"):
        plan.loss(np.zeros(4, np.int64))


def test_an_update_by_hand() -> None:
    """Gradients 3 and 4 have norm 5; clipped to 1 they are 0.6 and 0.8. lr 0.5, for the weight 0.5 * 0.1.

    The weight decays: 2 - 0.05 (0.6 + 0.25 * 2) = 1.945. The bias does not: 1 - 0.5 * 0.8 = 0.6. EMA moves by 9/11.
    """
    optimizer = ops.SGD(
        momentum=0.0, weight_decay=0.25, clip_norm=1.0, ema_decay=0.9, lr_scales=(("", 1.0), ("dense1.weight", 0.1))
    )
    graph = build(Sequential(ops.Dense(1)), (1,))
    plan = compiled(graph, training=True, loss=ops.MeanSquaredError(), optimizer=optimizer)
    plan.store.load({"dense1.weight": [[2.0]], "dense1.bias": [1.0]})
    plan.gradients = {"dense1.weight": np.asarray([[3.0]]), "dense1.bias": np.asarray([4.0])}
    plan.store.ensure_slots((), graph.parameters(), ema=True)
    version = plan.store.version
    assert plan.update(0.5) == 5.0
    assert float(plan.store.parameters["dense1.weight"][0, 0]) == pytest.approx(1.945)
    assert float(plan.store.parameters["dense1.bias"][0]) == pytest.approx(0.6)
    assert float(plan.store.ema["dense1.bias"][0]) == pytest.approx(1 - 0.4 * 9 / 11)
    assert (plan.store.updates, plan.gradients) == (1, {})
    assert plan.store.version > version


def test_new_statistics_are_a_new_version_of_the_store() -> None:
    plan = compiled(chain(), training=True)
    version = plan.store.version
    plan.forward(images())
    assert plan.store.version > version


def test_arrays_of_the_caller_and_of_the_plan_are_different_ones() -> None:
    """Tanh goes back from its own output: what the caller does to the returned one must not matter."""
    plan = compiled(build(Sequential(ops.Tanh()), (3,)), wrt=["input1", "tanh1"])
    x, grad = np.full((1, 3), 0.5, np.float32), np.ones((1, 3), np.float32)
    output = plan.forward(x)
    expected = 1 - np.square(output)
    output += 100
    result = plan.backward(grad)
    np.testing.assert_allclose(result["input1"], expected, rtol=1e-6)
    result["tanh1"] += 100
    np.testing.assert_array_equal(grad, 1)


def test_several_backwards_add_up_and_may_follow_one_forward() -> None:
    plan = compiled(chain(), np.float64, training=True)
    plan.forward(images(), step=1)
    grad = np.random.default_rng(2).standard_normal((4, 3))
    plan.backward(grad)
    once = {path: array.copy() for path, array in plan.gradients.items()}
    plan.backward(grad)
    for path, array in once.items():
        np.testing.assert_array_equal(plan.gradients[path], 2 * array)


def test_stop_gradient_and_what_no_gradient_reaches() -> None:
    """Below StopGradient the parameters stay where they are."""
    net = Sequential(ops.Conv(2, 3), ops.StopGradient(), ops.GlobalAvgPool(), ops.Dense(3))
    plan = compiled(build(net, (8, 8, 2)), training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=ops.SGD())
    before = plan.store.copy()
    plan.train_step(images(), np.zeros(4, np.int64), lr=0.1, step=0)
    for path, array in plan.store.parameters.items():
        assert np.array_equal(array, before.parameters[path]) == path.startswith("conv1"), path


def test_a_loss_graph_with_arithmetic_of_its_own() -> None:
    """cross-entropy + 0.5 * mean over the batch of |logits|^2, of which each sample gives one number."""
    logits, targets = ops.Input((3,)), ops.Input((), dtype="int64")
    size = ops.Reduce(1, "sum")(ops.Multiply()(logits, logits))
    total = ops.Add()(ops.SoftmaxCrossEntropy()(logits, targets), ops.Multiply()(ops.Constant(0.5)(), size))
    graph = chain()
    plan = compiled(graph, np.float64, training=True, wrt=["head"], loss=Graph([logits, targets], total))
    y = plan.forward(images(), step=2)
    (loss,) = plan.loss_backward(np.asarray([0, 1, 2, 0]))
    alone = compiled(graph, np.float64, training=True, wrt=["head"], loss=ops.SoftmaxCrossEntropy())
    alone.forward(images(), step=2)
    (entropy,) = alone.loss_backward(np.asarray([0, 1, 2, 0]))
    assert loss == pytest.approx(entropy + 0.5 * np.square(y).sum(axis=1).mean())
    np.testing.assert_allclose(plan.wrt_gradients["head"], alone.wrt_gradients["head"] + y / 4, rtol=1e-12)


def test_a_loss_learns_nothing() -> None:
    logits, targets = ops.Input((3,)), ops.Input((3,))
    loss = Graph([logits, targets], ops.MeanSquaredError()(ops.Dense(3)(logits), targets))
    with pytest.raises(GraphError, match=r"without parameters, got dense1.weight, dense1.bias; learn them"):
        compiled(chain(), training=True, loss=loss)


def test_bytes_become_numbers_at_the_door() -> None:
    graph = build(Sequential(ops.Normalize(0.5, 0.25, scale=1 / 255), ops.GlobalAvgPool()), (2, 2, 1))
    plan = compiled(graph, input_dtype="uint8")
    result = plan.forward(np.full((3, 2, 2, 1), 255, np.uint8))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.full((3, 1), 2.0), rtol=1e-6)
    with pytest.raises(ShapeError, match=r"\[input1\] expected uint8 values, got float32; convert the array"):
        plan.forward(np.zeros((3, 2, 2, 1), np.float32))


def test_the_dtype_is_one_of_two() -> None:
    assert compiled(chain(), np.float64).forward(images()).dtype == np.float64
    assert compiled(chain()).forward(images()).dtype == np.float32
    with pytest.raises(EngineError, match="expected dtype float32 or float64, got int32"):
        ReferenceEngine(np.int32)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda plan: plan.forward(images(), out=np.zeros((4, 2), np.float32)), "expected one output of shape"),
        (lambda plan: plan.loss(np.zeros(3, np.int64)), "expected targets for the 4 samples"),
        (lambda plan: plan.loss(np.zeros(4, np.int64), [1.0, 2.0]), "expected 1 loss weights, got 2"),
        (lambda plan: plan.backward([None, None]), "expected 1 grad_outputs, got 2"),
        (lambda plan: plan.backward(np.zeros((4, 2))), "expected grad_output"),
        (lambda plan: plan.update(0.1), "compiled with an optimizer"),
    ],
)
def test_what_does_not_fit_is_named(act: Any, text: str) -> None:
    plan = compiled(chain(), training=True, loss=ops.SoftmaxCrossEntropy())
    plan.forward(images())
    with pytest.raises((EngineError, ShapeError), match=text):
        act(plan)
