"""What every plan promises, whatever computes it: batches, modes, freezing, gradients anywhere, updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fovea.ops as ops
from fovea.engines.base import Engine, Plan
from fovea.engines.reference import ReferenceEngine
from fovea.engines.registry import available_engines
from fovea.errors import EngineError, FoveaError, GraphError, ShapeError
from fovea.graph.compose import Parallel, Residual, Sequential, build
from fovea.graph.graph import Graph, Ref
from fovea.graph.store import ParameterStore
from tests.engines.engine_list import load

Array = npt.NDArray[Any]


@pytest.fixture(params=available_engines())
def engine(request: pytest.FixtureRequest) -> Engine:
    return load(request.param)


def network() -> Graph:
    """Branches, a residual, statistics, dropout; 8x8x3 -> 5 logits."""
    body = Sequential(ops.Conv(6, 3, padding="same", use_bias=False), ops.BatchNorm(), ops.ReLU())
    return build(
        Sequential(
            {"stem": Sequential(ops.Conv(6, 3, padding="same"), ops.BatchNorm(), ops.ReLU(), ops.MaxPool(2))},
            {"block": Residual(body)},
            {"branches": Parallel(ops.Conv(4, 1), Sequential(ops.Conv(3, 3, padding=1), ops.Sigmoid()))},
            ops.GlobalAvgPool(),
            ops.Dropout(0.3),
            {"head": ops.Dense(5)},
        ),
        (8, 8, 3),
    )


def filled(graph: Graph, seed: int = 0) -> ParameterStore:
    """A store with random parameters and statistics."""
    rng, store = np.random.default_rng(seed), ParameterStore.for_graph(graph, seed=11)
    values = {path: rng.standard_normal(spec.shape) / np.sqrt(spec.fan_in) for path, spec in graph.parameters().items()}
    for path, spec in graph.buffers().items():
        values[path] = rng.uniform(0.5, 1.5, spec.shape)
    store.load(values)
    return store


def batch(n: int, seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 8, 8, 3)).astype(np.float32), rng.integers(0, 5, n)


def near(one: Any, other: Any, tolerance: float = 2e-6) -> None:
    """Equal but for another order of summation: some eps = 2^-24 of numbers of size 1 through ten layers."""
    np.testing.assert_allclose(one, other, rtol=20 * tolerance, atol=tolerance)


def trained(engine: Engine, steps: int, **options: Any) -> tuple[ParameterStore, list[float], list[float]]:
    """Parameters, losses and gradient norms of a few steps on random batches, the last batch a partial one."""
    graph = network()
    store = filled(graph)
    chosen = {"optimizer": ops.SGD(momentum=0.9), "loss": ops.SoftmaxCrossEntropy(), **options}
    plan = engine.compile(graph, store, batch_size=6, training=True, **chosen)
    done = [plan.train_step(*batch(6 if step < 2 else 4, step), lr=0.1, step=step) for step in range(steps)]
    return store, [one.loss for one in done], [one.grad_norm for one in done]


OPTIMIZERS = {
    "sgd": ops.SGD(momentum=0.0),
    "momentum": ops.SGD(momentum=0.9, weight_decay=1e-2),
    "nesterov": ops.SGD(momentum=0.9, nesterov=True, lr_scales=(("stem", 0.1), ("head.weight", 2.0))),
    "clipped": ops.SGD(momentum=0.9, clip_norm=0.05),
    "averaged": ops.SGD(momentum=0.9, ema_decay=0.9),
    # a large eps: the gradient of a bias before batch norm is rounding alone (6e-8), and must not become a direction
    "adamw": ops.AdamW(weight_decay=0.1, eps=1e-3, clip_norm=1.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_the_same_way_on_every_engine(engine: Engine, name: str) -> None:
    ours, our_losses, our_norms = trained(engine, 4, optimizer=OPTIMIZERS[name])
    exact, losses, norms = trained(ReferenceEngine(np.float64), 4, optimizer=OPTIMIZERS[name])
    near(our_losses, losses, 1e-5)
    near(our_norms, norms, 1e-5)
    for path, array in exact.tensors().items():
        near(ours.tensors()[path], array, 1e-5)
    assert ours.optimizer_state.keys() == exact.optimizer_state.keys()
    assert ours.ema.keys() == exact.ema.keys()
    for path, array in exact.ema.items():
        near(ours.ema[path], array, 1e-5)
    for path, state in exact.optimizer_state.items():
        for slot, array in state.items():
            near(ours.optimizer_state[path][slot], array, 2e-5)
    assert ours.updates == exact.updates == 4
    assert ours.version > 4


def test_a_step_is_forward_backward_update(engine: Engine) -> None:
    whole, (loss,), (norm,) = trained(engine, 1)
    graph = network()
    store = filled(graph)
    optimizer = ops.SGD(momentum=0.9)
    plan = engine.compile(
        graph, store, batch_size=6, training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=optimizer
    )
    x, targets = batch(6, 0)
    plan.forward(x, step=0)
    assert plan.loss(targets) == plan.loss_backward(targets)
    near(plan.loss_backward(targets, scale=0.0), [loss])
    near(plan.update(0.1), norm)
    for path, array in whole.parameters.items():
        near(store.parameters[path], array)


def test_a_step_without_a_number_is_the_next_one(engine: Engine) -> None:
    """Dropout must not draw the same mask for ever when nobody counts."""
    x, target = batch(4)

    def losses(count: bool) -> list[float]:
        graph = network()
        store = filled(graph)
        loss, optimizer = ops.SoftmaxCrossEntropy(), ops.SGD()
        plan = engine.compile(graph, store, batch_size=4, training=True, loss=loss, optimizer=optimizer)
        return [plan.train_step(x, target, lr=0.0, step=i if count else None).loss for i in range(3)]

    assert losses(True) == losses(False)
    assert len(set(losses(False))) == 3


def test_accumulated_gradients_are_those_of_the_larger_batch(engine: Engine) -> None:
    """Without statistics over the batch, 6 samples in one call or in 4 + 2 make the same gradient."""
    graph = build(Sequential(ops.Conv(4, 3), ops.ReLU(), ops.Flatten(), ops.Dense(5)), (8, 8, 3))
    x, targets = batch(6)
    results = []
    for pieces in ([slice(0, 6)], [slice(0, 4), slice(4, 6)]):
        loss, optimizer = ops.SoftmaxCrossEntropy(), ops.SGD()
        plan = engine.compile(graph, filled(graph), batch_size=6, training=True, loss=loss, optimizer=optimizer)
        for piece in pieces:
            plan.forward(x[piece])
            plan.loss_backward(targets[piece], scale=len(targets[piece]) / 6)
        results.append({path: array.copy() for path, array in plan.gradients.items()})
        norm = plan.update(0.1)
        near(norm, np.sqrt(sum(float(np.square(array).sum()) for array in results[-1].values())))
    assert results[0].keys() == results[1].keys() == graph.parameters().keys()
    for path, array in results[0].items():
        near(results[1][path], array)


def test_gradients_start_at_zero_after_an_update(engine: Engine) -> None:
    graph = network()
    store = filled(graph)
    plan = engine.compile(
        graph, store, batch_size=6, training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=ops.SGD(momentum=0.0)
    )
    x, targets = batch(6)
    plan.forward(x)
    plan.loss_backward(targets)
    assert plan.update(0.0) > 0
    plan.forward(x)
    assert plan.update(0.0) == 0


def test_partial_batches_agree_with_full_ones_in_inference(engine: Engine) -> None:
    graph = network()
    plan = engine.compile(graph, filled(graph), batch_size=7)
    x, _ = batch(7)
    whole = plan.forward(x)
    assert whole.shape == (7, 5)
    for n in (1, 2, 5):
        near(plan.forward(x[:n]), whole[:n])
    near(plan.forward(x), whole, 0)


def test_what_is_returned_belongs_to_the_caller(engine: Engine) -> None:
    graph = network()
    plan = engine.compile(graph, filled(graph), batch_size=4, keep=["stem.relu1"])
    first, kept = plan.forward(batch(4, 1)[0]), plan.kept["stem.relu1"]
    copies = first.copy(), kept.copy()
    plan.forward(batch(4, 2)[0])
    np.testing.assert_array_equal(first, copies[0])
    out = np.empty((4, 5), np.float32)
    assert plan.forward(batch(4, 1)[0], out=out) is out
    np.testing.assert_array_equal(out, first)


def test_kept_nodes_change_nothing_and_are_what_they_name(engine: Engine) -> None:
    graph = network()
    x, _ = batch(3)
    plain = engine.compile(graph, filled(graph), batch_size=3).forward(x)
    names = ["input1", "stem.conv1", "stem.batchnorm1", "stem.relu1", "block.add1", "globalavgpool1", "head"]
    plan = engine.compile(graph, filled(graph), batch_size=3, keep=names)
    near(plan.forward(x), plain)
    assert list(plan.kept) == names
    near(plan.kept["input1"], x, 0)
    near(plan.kept["head"], plain)
    for name in names[1:]:
        alone = engine.compile(graph.pruned([Ref(name)]), _part(graph, name), batch_size=3)
        near(plan.kept[name], alone.forward(x))


def _part(graph: Graph, name: str) -> ParameterStore:
    part, whole = graph.pruned([Ref(name)]), filled(graph)
    store = ParameterStore.for_graph(part)
    store.load({path: array for path, array in whole.tensors().items() if path in store.tensors()})
    return store


def test_dropout_and_statistics_only_in_training(engine: Engine) -> None:
    graph = network()
    store = filled(graph)
    x, _ = batch(4)
    before = {path: array.copy() for path, array in store.buffers.items()}
    inference = engine.compile(graph, store, batch_size=4)
    np.testing.assert_array_equal(inference.forward(x, step=1), inference.forward(x, step=2))
    assert all((store.buffers[path] == array).all() for path, array in before.items())
    training = engine.compile(graph, store, batch_size=4, training=True)
    one, two = training.forward(x, step=1), training.forward(x, step=2)
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(training.forward(x, step=1), one)
    assert not any(np.allclose(store.buffers[path], array) for path, array in before.items())
    changed = inference.forward(x)
    again = engine.compile(graph, store, batch_size=4).forward(x)
    near(changed, again, 0)  # plans see the new statistics


def test_gradients_of_any_node_in_inference(engine: Engine) -> None:
    """wrt in inference mode: running statistics, no dropout; parameters get nothing."""
    graph = network()
    store = filled(graph)
    x, _ = batch(3)
    names = ["input1", "stem.relu1", "block.add1", "head"]
    grad = np.random.default_rng(5).standard_normal((3, 5)).astype(np.float32)
    plan, exact = (one.compile(graph, store, batch_size=3, wrt=names) for one in (engine, ReferenceEngine(np.float64)))
    plan.forward(x)
    exact.forward(x)
    ours, expected = plan.backward(grad), exact.backward(grad)
    assert set(ours) == set(expected) == set(names)
    for name in names:
        near(ours[name], expected[name])
        near(plan.wrt_gradients[name], expected[name])
    np.testing.assert_array_equal(ours["head"], grad)
    assert plan.gradients == {}
    near(plan.backward(2 * grad)["input1"], 2 * expected["input1"])  # again, after the same forward


def test_kept_values_that_share_memory_have_shapes_of_their_own(engine: Engine) -> None:
    graph = build(Sequential(ops.Conv(4, 3), ops.Flatten(), ops.Dense(3)), (5, 6, 2))
    plan = engine.compile(graph, filled(graph), batch_size=2, keep=["conv1", "flatten1"])
    plan.forward(np.ones((2, 5, 6, 2), np.float32))
    assert plan.kept["conv1"].shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(plan.kept["flatten1"], plan.kept["conv1"].reshape(2, -1))


def test_frozen_layers_keep_their_numbers(engine: Engine) -> None:
    """A layer with all parameters frozen is left alone, its statistics too, and runs as in inference."""
    store, losses, _ = trained(engine, 3, trainable=["block", "head"], optimizer=ops.SGD(weight_decay=0.1))
    exact, expected, _ = trained(
        ReferenceEngine(np.float64), 3, trainable=["block", "head"], optimizer=ops.SGD(weight_decay=0.1)
    )
    near(losses, expected, 1e-5)
    before = filled(network()).tensors()
    for path, array in store.tensors().items():
        moved = path.startswith(("block", "head"))
        assert (not np.array_equal(array, before[path])) == moved, path
        near(array, exact.tensors()[path], 1e-5)
    assert set(store.optimizer_state) == {path for path in store.parameters if path.startswith(("block", "head"))}


def test_several_inputs_outputs_and_losses(engine: Engine) -> None:
    """Two inputs, a split whose one half nobody reads, two heads with their own losses and weights."""
    image, extra = ops.Input((6, 6, 4), name="image"), ops.Input((3,), name="extra")
    _, used = ops.Split((1, 3))(image)
    features = ops.Add()(ops.Conv(3, 3)(used), extra)
    pooled = ops.GlobalAvgPool()(features)
    label, value = ops.Dense(4)(pooled, name="label"), ops.Dense(1)(ops.Tanh()(pooled), name="value")
    graph = Graph(inputs=[image, extra], outputs=[label, value])
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal((3, *shape)).astype(np.float32) for shape in ((6, 6, 4), (3,))]
    targets = [np.asarray([0, 3, 1]), rng.standard_normal((3, 1)).astype(np.float32)]
    loss = {"label": (ops.SoftmaxCrossEntropy(), 1.0), "value": (ops.MeanSquaredError(), 0.5)}
    results = []
    for one in (engine, ReferenceEngine(np.float64)):
        store = filled(graph)
        plan = one.compile(graph, store, batch_size=4, training=True, wrt=["image"], loss=loss, optimizer=ops.SGD())
        outputs = plan.forward(*inputs)
        assert [output.shape for output in outputs] == [(3, 4), (3, 1)]
        back = plan.backward([None, np.ones((3, 1), np.float32)])["image"].copy()
        assert (back[..., 0] == 0).all()  # the half that nobody reads
        plan.update(0.1)
        step = plan.train_step(inputs, targets, lr=0.1, step=0)
        near(step.loss, step.losses[0] + 0.5 * step.losses[1])
        other = plan.train_step(inputs, targets, lr=0.1, step=1, loss_weights=[0.0, 2.0])
        near(other.loss, 2 * other.losses[1])
        results.append((outputs, back, step.losses, other.losses, store.parameters))
    for ours, exact in zip(*(result[:4] for result in results), strict=True):
        for a, b in zip(ours, exact, strict=True):
            near(a, b, 1e-5)
    for path, array in results[1][4].items():
        near(results[0][4][path], array, 1e-5)


def test_a_loss_may_be_a_graph(engine: Engine) -> None:
    """Two losses on one output, added; the same as a weighted sum of them."""
    logits, labels, values = ops.Input((5,)), ops.Input((), dtype="int64"), ops.Input((5,))
    total = ops.Add()(ops.SoftmaxCrossEntropy()(logits, labels), ops.MeanSquaredError()(logits, values))
    graph = network()
    plan = engine.compile(
        graph, filled(graph), batch_size=4, training=True, wrt=["head"], loss=Graph([logits, labels, values], total)
    )
    x, labelled = batch(4)
    wanted = np.random.default_rng(3).standard_normal((4, 5)).astype(np.float32)
    y = plan.forward(x)
    (loss,) = plan.loss_backward([labelled, wanted])
    exponentials = np.exp(y)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    picked = probabilities[np.arange(4), labelled]
    near(loss, -np.log(picked).mean() + np.square(y - wanted).mean())
    near(plan.wrt_gradients["head"], (probabilities - np.eye(5)[labelled]) / 4 + 2 * (y - wanted) / 20)


def test_a_value_read_twice_gets_both_gradients(engine: Engine) -> None:
    x = ops.Input((3,), name="x")
    graph = Graph(inputs=x, outputs=ops.Multiply()(x, ops.Add()(x, x)))
    plan = engine.compile(graph, ParameterStore.for_graph(graph), batch_size=1, wrt=["x"])
    given = np.asarray([[1.0, 2, -3]], np.float32)
    near(plan.forward(given), 2 * given**2)
    near(plan.backward(np.ones((1, 3), np.float32))["x"], 4 * given)


def test_clones_share_weights_and_nothing_else(engine: Engine) -> None:
    graph = network()
    store = filled(graph)
    plan = engine.compile(graph, store, batch_size=3, wrt=["input1"])
    twin = plan.clone()
    x, _ = batch(3)
    plan.forward(x)
    near(twin.forward(2 * x), engine.compile(graph, store, batch_size=3).forward(2 * x))
    gradient = plan.backward(np.ones((3, 5), np.float32))["input1"]  # of its own forward, not the twin's
    fresh = engine.compile(graph, store, batch_size=3, wrt=["input1"])
    fresh.forward(x)
    near(gradient, fresh.backward(np.ones((3, 5), np.float32))["input1"])
    store.parameters["head.bias"] += 1
    store.touch()
    near(twin.forward(x), plan.forward(x))


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda plan: plan.forward(np.zeros((8, 8, 3), np.float32)), ShapeError, r"\[input1\] expected an array"),
        (lambda plan: plan.forward(np.zeros((5, 8, 8, 3), np.float32)), ShapeError, "expected 1 to 4 samples"),
        (lambda plan: plan.forward(), ShapeError, r"expected 1 input array\(s\)"),
        (lambda plan: plan.loss_backward(np.zeros(2)), FoveaError, "expected"),
        (lambda plan: plan.backward(np.zeros((3, 4), np.float32)), FoveaError, "expected"),
    ],
)
def test_wrong_arrays_are_named(engine: Engine, act: Any, error: type[FoveaError], text: str) -> None:
    graph = network()
    plan = engine.compile(graph, filled(graph), batch_size=4, training=True, loss=ops.SoftmaxCrossEntropy())
    plan.forward(batch(3)[0])
    with pytest.raises(error, match=text):
        act(plan)


def test_what_was_not_compiled_cannot_be_asked(engine: Engine) -> None:
    graph = network()
    plan: Plan = engine.compile(graph, filled(graph), batch_size=2)
    plan.forward(batch(2)[0])
    for act in (
        lambda: plan.backward(np.zeros((2, 5), np.float32)),
        lambda: plan.loss(np.zeros(2, np.int64)),
        lambda: plan.update(0.1),
    ):
        with pytest.raises(EngineError):
            act()
    with pytest.raises(GraphError, match="near names"):
        engine.compile(graph, filled(graph), batch_size=2, keep=["stem.conv"])
    with pytest.raises(EngineError, match="precision"):
        engine.compile(graph, filled(graph), batch_size=2, precision="int3")


def test_backward_needs_a_plan_and_a_forward_that_kept_something(engine: Engine) -> None:
    graph, (x, targets) = network(), batch(2)
    loss, optimizer = ops.SoftmaxCrossEntropy(), ops.SGD()
    plan = engine.compile(graph, filled(graph), batch_size=2, loss=loss)
    plan.forward(x)
    with pytest.raises(EngineError, match="expected a training plan, or wrt="):
        plan.loss_backward(targets)
    plan = engine.compile(graph, filled(graph), batch_size=2, training=True, loss=loss, optimizer=optimizer)
    plan.train_step(x, targets, lr=0.1)
    with pytest.raises(EngineError, match="expected forward before loss and backward"):
        plan.loss(targets)
