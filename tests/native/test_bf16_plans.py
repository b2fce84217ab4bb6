"""Plans of precision bf16 against the reference engine: every op, whole networks, training, threads, memory, casts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.base import Engine, Plan
from fovea.engines.native import NativeEngine
from fovea.engines.native.executable import core
from fovea.engines.native.plan import NativePlan
from fovea.engines.reference import ReferenceEngine
from fovea.graph.compose import Residual, Sequential, build
from fovea.graph.graph import Graph
from fovea.graph.initialize import initialize
from fovea.graph.store import ParameterStore
from fovea.ops import Dense, Input
from tests.native.bf16_arrays import HALF_STEP, Array, to_bf16, to_float
from tests.native.networks import NETWORKS, batch
from tests.op_samples import SAMPLES, Sample

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")

DOUBLE = ReferenceEngine(np.float64)


@pytest.fixture
def threads() -> Iterator[None]:
    before = core().get_threads()
    yield
    core().set_threads(before)


def rounded(array: Array) -> Array:
    """The nearest numbers that bfloat16 has; integers stay."""
    return to_float(to_bf16(array)) if array.dtype.kind == "f" else array


# --- every op, between layers that store bfloat16


def enclosed(sample: Sample) -> tuple[Graph, ParameterStore]:
    """The op behind and before dense layers that change nothing: its operands are activations of the plan."""
    pairs = zip(sample.input_shapes, sample.dtypes, strict=True)
    inputs = [Input(shape, dtype, name=f"x{i}") for i, (shape, dtype) in enumerate(pairs)]
    inside = [
        Dense(shape[-1], use_bias=False)(value, name=f"before{i}") if sample.dtypes[i] == "float32" else value
        for i, (shape, value) in enumerate(zip(sample.input_shapes, inputs, strict=True))
    ]
    result = sample.op(*inside, name="node")
    values = result if isinstance(result, tuple) else (result,)
    outputs = [
        Dense(shape[-1], use_bias=False)(value, name=f"behind{i}") if shape else value
        for i, (shape, value) in enumerate(zip(sample.op.output_shapes(*sample.input_shapes), values, strict=True))
    ]
    graph = Graph(inputs=inputs or Input((1,), name="unused"), outputs=outputs)
    store = ParameterStore.for_graph(graph, 3)
    own = {f"node.{name}": array for name, array in {**sample.parameters(), **sample.buffers()}.items()}
    same = {
        path: np.eye(spec.shape[0], dtype=np.float32)
        for path, spec in graph.parameters().items()
        if not path.startswith("node.")
    }
    store.load({**own, **same})
    return graph, store


def run_enclosed(engine: Engine, sample: Sample, training: bool, precision: str) -> dict[str, Array]:
    graph, store = enclosed(sample)
    inputs = [rounded(array) for array in sample.inputs()] or [np.zeros((sample.n, 1), np.float32)]
    wrt = [f"x{i}" for i, kind in enumerate(sample.dtypes) if kind == "float32"]
    trainable = [path for path in store.parameters if path.startswith("node.")]
    plan = engine.compile(
        graph, store, batch_size=sample.n + 1, training=training, wrt=wrt, trainable=trainable, precision=precision
    )
    outputs = plan.forward(*inputs, step=5)
    result = {f"output {i}": one for i, one in enumerate(outputs if isinstance(outputs, tuple) else (outputs,))}
    if wrt:
        gradients = plan.backward([rounded(array) for array in sample.grad_outputs()])
        result |= {f"gradient of {name}": array for name, array in gradients.items()}
    result |= {f"gradient of {path}": array for path, array in plan.gradients.items()}
    return result | {f"buffer {path}": array.copy() for path, array in store.buffers.items()}


CASES = [
    pytest.param(one, mode, id=f"{one.id}-{'training' if mode else 'inference'}")
    for one in SAMPLES
    if not one.op.is_loss
    for mode in one.modes
]


@pytest.mark.parametrize(("sample", "training"), CASES)
def test_every_op_between_bf16_layers(sample: Sample, training: bool) -> None:
    """Inputs, weights, result and gradients are each rounded once, or a few times in an op of several steps."""
    ours = run_enclosed(NativeEngine(), sample, training, "bf16")
    exact = run_enclosed(DOUBLE, sample, training, "fp32")
    assert ours.keys() == exact.keys()
    for key, array in exact.items():
        magnitude = float(np.abs(array).max(initial=0))
        error = float(np.abs(ours[key] - array).max(initial=0))
        assert error <= 4 * HALF_STEP * magnitude, f"{key}: off by {error:.3g}, largest element {magnitude:.3g}"


# --- whole networks


def relative(one: Array, other: Array) -> float:
    """The length of the difference over the length."""
    return float(np.linalg.norm(np.float64(one) - other) / max(float(np.linalg.norm(other)), 1e-30))


@pytest.fixture(params=NETWORKS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return NETWORKS[request.param]()


@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_all_gradients(graph: Graph, training: bool) -> None:
    """Ten roundings, one behind the other. Of ReLUs and maxima near a tie, some n HALF_STEP change sides: their
    gradients go elsewhere, which weighs as the root of that share, some 0.05 for each layer."""
    n = 48
    x, _ = batch(graph, n)
    shape = (n, *(size or 0 for size in graph.output_shapes[0]))
    grad = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    results = []
    for engine, precision in ((NativeEngine(), "bf16"), (DOUBLE, "fp32")):
        options: dict[str, Any] = {"batch_size": n, "training": training, "wrt": [graph.inputs[0]]}
        plan = engine.compile(graph, initialize(graph, 11), precision=precision, **options)
        outputs = plan.forward(x, step=4)
        results.append((outputs, {"input": plan.backward(grad)[graph.inputs[0]], **plan.gradients}))
    (ours, our_gradients), (exact, gradients) = results
    assert relative(ours, exact) < 4 * HALF_STEP
    assert our_gradients.keys() == gradients.keys()
    longest = max(float(np.linalg.norm(array)) for array in gradients.values())
    for path, array in gradients.items():
        length = max(float(np.linalg.norm(array)), 0.01 * longest)  # some are sums that are 0 but for rounding
        assert np.linalg.norm(our_gradients[path] - array) < 0.25 * length, path


def task(n: int, seed: int) -> tuple[Array, Array]:
    """Noisy images of five classes: where a bright stripe is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, n)
    images = rng.standard_normal((n, 10, 10, 3)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 0.35
    return images, labels


def learner() -> Graph:
    """A residual network with everything that training meets."""
    block = Sequential(ops.Conv(16, 3, padding=1, use_bias=False), ops.BatchNorm())
    layers = [ops.Conv(16, 3, padding=1, use_bias=False), ops.BatchNorm(), ops.ReLU(), Residual(block), ops.ReLU()]
    return build(
        Sequential(*layers, ops.MaxPool(2), ops.Conv(24, 3), ops.ReLU(), ops.Flatten(), ops.Dense(5)), (10, 10, 3)
    )


def trained(precision: str, seed: int) -> tuple[list[float], float]:
    """The losses of all steps, and the loss on other images afterwards."""
    graph = learner()
    store = initialize(graph, seed)
    options: dict[str, Any] = {"loss": ops.SoftmaxCrossEntropy(), "precision": precision}
    plan = NativeEngine().compile(
        graph, store, batch_size=64, training=True, optimizer=ops.SGD(momentum=0.9, weight_decay=1e-3), **options
    )
    losses = [plan.train_step(*task(64, 1000 * seed + step), lr=0.02, step=step).loss for step in range(60)]
    test = NativeEngine().compile(graph, store, batch_size=512, **options)
    images, labels = task(512, 99)
    test.forward(images)
    return losses, test.loss(labels)[0]


def test_training_reaches_the_loss_of_fp32() -> None:
    """Rounding is noise that is small beside that of the initial weights."""
    single, short = ([trained(precision, seed) for seed in range(3)] for precision in ("fp32", "bf16"))
    for losses, _ in short:
        assert np.mean(losses[-5:]) < 0.35 * np.mean(losses[:5])
    end, end_short = (np.mean([loss for _, loss in results]) for results in (single, short))
    assert abs(end_short - end) < 0.2 * end, (end_short, end)


# --- what a plan promises


def stepped(graph: Graph, steps: int = 2, n: int = 24) -> dict[str, Array]:
    """All tensors and losses after some steps, the last on a partial batch."""
    store = initialize(graph, 2)
    options: dict[str, Any] = {"loss": ops.SoftmaxCrossEntropy(), "optimizer": ops.SGD(momentum=0.9)}
    plan = NativeEngine().compile(graph, store, batch_size=n, training=True, precision="bf16", **options)
    losses = [plan.train_step(*batch(graph, n - step, step), lr=0.01, step=step).loss for step in range(steps)]
    return {**store.tensors(), "loss": np.asarray(losses)}


def test_the_number_of_threads_changes_no_bit(graph: Graph, threads: None) -> None:
    results = []
    for count in (1, 2, 3):
        core().set_threads(count)
        results.append(stepped(graph))
    for other in results[1:]:
        for name, array in results[0].items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)


def compiled(graph: Graph, precision: str, **options: Any) -> NativePlan:
    store = initialize(graph, 2)
    plan = NativeEngine().compile(graph, store, batch_size=8, training=True, precision=precision, **options)
    assert isinstance(plan, NativePlan)
    return plan


@pytest.mark.parametrize("name", ["resnet", "vgg", "mobilenet", "volume"])
def test_a_plan_takes_little_more_than_half_of_the_memory(name: str) -> None:
    """Half for activations; the indices of maxima and what Python reads stay as they are. (LeNet's float32 plan does
    not even store the maps that it pools.)"""
    sizes = [compiled(NETWORKS[name](), precision)._program.layout.arena_bytes for precision in ("fp32", "bf16")]
    assert sizes[1] < 0.65 * sizes[0]


def casts(plan: Plan) -> list[tuple[str, str]]:
    """The passes and kernels of the casts that a plan needs."""
    return [(one["section"], one["kernel"]) for one in plan.describe() if one["kernel"] in ("narrow", "widen")]


@pytest.mark.parametrize("name", ["resnet", "vgg", "mobilenet", "signal", "volume"])
def test_only_what_enters_is_cast(name: str) -> None:
    """The images, once for forward and backward, and the gradient of the logits."""
    plan = compiled(NETWORKS[name](), "bf16", loss=ops.SoftmaxCrossEntropy())
    assert [one for one in casts(plan) if one[0] != "backward"] == [("forward", "narrow"), ("loss_backward", "narrow")]


def test_layers_that_run_as_one_in_float32_cast_what_they_leave() -> None:
    """Convolution, ReLU and pooling read the images as they are, and hand on a quarter of the map."""
    graph = NETWORKS["lenet"]()
    plan = NativeEngine().compile(graph, initialize(graph, 2), batch_size=8, precision="bf16")
    kernels = [one["kernel"] for one in plan.describe() if one["section"] == "forward"]
    if "convpool" in kernels:  # a rule of the vector's width decides
        assert kernels[:3] == ["convpool", "narrow", "conv_forward"]
    assert casts(plan) == [("forward", "narrow")]


def test_bytes_become_bfloat16_in_the_layer_that_scales_them() -> None:
    plan = compiled(NETWORKS["pixels"](), "bf16")
    rows = [(one["kernel"], one["precision"]) for one in plan.describe() if one["section"] == "forward"]
    assert rows[0] == ("normalize_uint8", "bf16")


def test_what_has_no_form_is_surrounded_by_casts() -> None:
    """Layer norm computes in float32 from what convolutions stored, and its result is rounded for the next one."""
    layers = [ops.Conv(8, 3), ops.ReLU(), ops.Conv(8, 3), ops.LayerNorm(), ops.Conv(8, 3), ops.GlobalAvgPool()]
    graph = build(Sequential(*layers, ops.Dense(3)), (12, 12, 3))
    plan = NativeEngine().compile(graph, initialize(graph, 1), batch_size=2, precision="bf16")
    kernels = [(one["kernel"], one["precision"]) for one in plan.describe() if one["section"] == "forward"]
    product, norm = ("conv_forward", "bf16"), ("groupnorm", "fp32")
    narrow, pool = ("narrow", "fp32"), ("reduce_sum", "bf16")
    assert kernels == [
        narrow,
        product,
        product,
        norm,
        narrow,
        product,
        pool,
        product,
    ]  # the norm's input is written in fp32


def test_what_python_reads_is_float32() -> None:
    """Outputs, kept values and gradients of inputs; a partial batch as well as a full one."""
    graph = NETWORKS["resnet"]()
    plan = compiled(graph, "bf16", keep=["conv1", "relu1"], wrt=["relu1"])
    x, _ = batch(graph, 3)
    output = plan.forward(x)
    gradient = plan.backward(np.ones_like(output))["relu1"]
    assert {array.dtype for array in (output, gradient, *plan.kept.values())} == {np.dtype(np.float32)}
    assert plan.kept["relu1"].shape == gradient.shape
    exact = DOUBLE.compile(graph, initialize(graph, 2), batch_size=8, training=True, keep=["conv1", "relu1"])
    exact.forward(x)
    for name, array in exact.kept.items():
        assert relative(plan.kept[name], array) < 2 * HALF_STEP
