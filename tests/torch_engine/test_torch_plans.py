"""What is the PyTorch engine's own: precisions, devices, kernels that need care, gradients as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402  # the engine needs PyTorch

import fovea  # noqa: E402
import fovea.ops as ops  # noqa: E402
from fovea.engines import registry  # noqa: E402
from fovea.engines.reference import ReferenceEngine  # noqa: E402
from fovea.engines.registry import get_engine  # noqa: E402
from fovea.engines.spec import prepare  # noqa: E402
from fovea.engines.torch.distributed import Processes  # noqa: E402
from fovea.engines.torch.plan import TorchPlan  # noqa: E402
from fovea.engines.torch.settings import Settings  # noqa: E402
from fovea.errors import EngineError, MissingExtra  # noqa: E402
from fovea.graph.compose import Sequential, build  # noqa: E402
from fovea.graph.graph import Graph  # noqa: E402
from fovea.graph.store import ParameterStore  # noqa: E402
from tests.engines.test_plans import batch, filled, near, network, trained  # noqa: E402

Array = Any


def both(graph: Graph, x: Array, training: bool = False) -> tuple[list[Array], list[Array]]:
    """Outputs and input gradient of the PyTorch engine, and of the textbook in float64."""
    results = []
    for engine in (get_engine("torch"), ReferenceEngine(np.float64)):
        store = filled(graph)
        plan = engine.compile(graph, store, batch_size=len(x), training=training, wrt=graph.inputs)
        y = plan.forward(x)
        gradient = plan.backward(np.random.default_rng(1).standard_normal(y.shape))[graph.inputs[0]]
        results.append([y, gradient])
    return results[0], results[1]


def test_the_store_is_the_memory_of_the_tensors() -> None:
    store = filled(network())
    held = store.tensors()
    plan = get_engine("torch").compile(
        network(), store, batch_size=6, training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=ops.AdamW()
    )
    before = held["stem.conv1.weight"].copy()
    plan.train_step(*batch(6), lr=0.1)
    assert all(store.tensors()[path] is array for path, array in held.items())
    assert not np.allclose(held["stem.conv1.weight"], before)
    slots = store.optimizer_state["stem.conv1.weight"]
    assert slots["exp_avg"].shape == before.shape
    assert slots["exp_avg"].any()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_precisions_go_the_same_way_with_float32_weights(precision: str) -> None:
    """TF32 is a mode of GPUs: on a CPU products stay float32. bfloat16 has 8 bits: steps differ by a percent."""
    ours, losses, norms = trained(get_engine("torch"), 4, precision=precision)
    exact, expected, expected_norms = trained(ReferenceEngine(np.float64), 4)
    tolerance = 0.03 if precision == "bf16" else 1e-5
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    np.testing.assert_allclose(norms, expected_norms, rtol=3 * tolerance)
    assert all(array.dtype == np.float32 for array in ours.tensors().values())
    if precision == "bf16":
        assert losses != trained(get_engine("torch"), 4)[1]
    for path, array in exact.parameters.items():
        np.testing.assert_allclose(ours.parameters[path], array, atol=tolerance * np.abs(array).max())


def test_an_absent_gpu_is_said_in_one_sentence() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError, match=r"^\[device\] expected a GPU for cuda, found 0 here.*; use device='cpu'$"):
        get_engine("torch").compile(network(), filled(network()), batch_size=1, device="cuda")


def test_a_model_infers_on_the_device_that_it_is_told() -> None:
    model = fovea.Model(fovea.Sequential(fovea.Conv(4, 3), fovea.GlobalAvgPool(), fovea.Dense(3)), (8, 8, 3))
    x, _ = batch(3)
    expected = model(x)
    model.device = "cuda"
    if torch.cuda.is_available():
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
        return
    with pytest.raises(EngineError, match=r"^\[device\] expected a GPU for cuda, found 0 here"):
        model(x)
    model.device = "cpu"
    np.testing.assert_array_equal(model(x), expected)


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:-1", 3])
def test_devices_that_are_none(device: Any) -> None:
    with pytest.raises(EngineError, match=r"\[device\] expected"):
        get_engine("torch").compile(network(), filled(network()), batch_size=1, device=device)


def test_other_engines_name_the_one_for_gpus() -> None:
    for name in ("native", "reference"):
        if name in registry.available_engines():
            with pytest.raises(EngineError, match="GPUs are the torch engine's: engine='torch'"):
                get_engine(name).compile(network(), filled(network()), batch_size=1, device="cuda")
    with pytest.raises(EngineError, match="expected no sync_batchnorm"):
        get_engine("reference").configured(sync_batchnorm=True)
    assert get_engine("reference").configured(compiled=False) is get_engine("reference")


def test_without_pytorch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_found", lambda module: module != "torch")
    registry._make.cache_clear()
    try:
        with pytest.raises(MissingExtra, match=r"pip install 'fovea\[torch\]'"):
            get_engine("torch")
        assert "torch" not in registry.available_engines()
    finally:
        registry._make.cache_clear()


def test_it_is_never_the_default() -> None:
    assert registry.default_engine() != "torch"
    assert list(registry.ENGINES)[-1] == "torch"


def test_four_spatial_axes_are_refused_by_name() -> None:
    graph = build(Sequential({"wide": ops.Conv(2, 1)}), (2, 2, 2, 2, 3))
    with pytest.raises(EngineError, match=r"\[wide\] expected at most 3 spatial axes, got 4"):
        get_engine("torch").compile(graph, filled(graph), batch_size=1)


def test_group_norm_of_a_large_mean_does_not_cancel() -> None:
    x = (1 + 0.01 * np.random.default_rng(0).standard_normal((2, 3, 3, 12))).astype(np.float32)
    (y, gradient), (exact, exact_gradient) = both(build(Sequential(ops.GroupNorm(12)), (3, 3, 12)), x)
    np.testing.assert_allclose(y, exact, atol=1e-4)
    np.testing.assert_allclose(gradient, exact_gradient, atol=1e-4 * np.abs(exact_gradient).max())


@pytest.mark.parametrize("shape", [(4, 1, 17), (1, 4, 17), (1, 17), (1, 1, 1, 3)])
def test_batch_norm_of_thin_maps(shape: tuple[int, ...]) -> None:
    """Their order in memory is ambiguous, on which PyTorch's own gradient stumbles: pooling leaves such maps."""
    x = np.random.default_rng(0).standard_normal((5, *(2 * size for size in shape[:-1]), 3)).astype(np.float32)
    network = Sequential(ops.AvgPool(2), ops.Conv(shape[-1], 1), ops.BatchNorm(), ops.HardSwish(), ops.Conv(2, 1))
    ours, exact = both(build(network, x.shape[1:]), x, training=True)
    for a, b in zip(ours, exact, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


def test_one_value_per_channel_has_no_unbiased_variance() -> None:
    graph = build(Sequential(ops.BatchNorm(momentum=0.25)), (3,))
    store = ParameterStore.for_graph(graph)
    store.load({"batchnorm1.weight": [1, 2, 3], "batchnorm1.bias": [4, 5, 6], "batchnorm1.running_var": [1, 1, 1]})
    plan = get_engine("torch").compile(graph, store, batch_size=2, training=True)
    np.testing.assert_array_equal(plan.forward(np.array([[4.0, 8, 12]], np.float32)), [[4, 5, 6]])
    np.testing.assert_array_equal(store.buffers["batchnorm1.running_mean"], [1, 2, 3])
    np.testing.assert_array_equal(store.buffers["batchnorm1.running_var"], [0.75] * 3)


def test_gradients_can_be_replaced_by_the_callers_own() -> None:
    store = filled(network())
    plan = get_engine("torch").compile(
        network(), store, batch_size=6, training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=ops.SGD(momentum=0.0)
    )
    x, targets = batch(6)
    plan.forward(x)
    plan.loss_backward(targets)
    before = store.copy().parameters
    mean = {path: np.array(array) / 2 for path, array in plan.gradients.items()}
    for path, array in mean.items():
        plan.gradients[path] = array
    plan.update(1.0)
    for path, array in mean.items():
        near(store.parameters[path], before[path] - array)
    with pytest.raises(KeyError):
        plan.gradients["head.weight"]


def test_a_second_backward_after_an_update_is_refused() -> None:
    plan = get_engine("torch").compile(
        network(), filled(network()), batch_size=6, training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=ops.SGD()
    )
    x, targets = batch(6)
    plan.forward(x)
    plan.loss_backward(targets)
    plan.update(0.1)
    with pytest.raises(EngineError, match="expected forward before loss and backward"):
        plan.loss_backward(targets)


def test_read_only_inputs_are_taken() -> None:
    x, _ = batch(3)
    x.flags.writeable = False
    near(
        get_engine("torch").compile(network(), filled(network()), batch_size=3).forward(x),
        get_engine("reference").compile(network(), filled(network()), batch_size=3).forward(x),
    )


def test_bytes_have_a_gradient_too() -> None:
    model = fovea.Model(Sequential(ops.Conv(2, 3), ops.GlobalAvgPool()), (5, 5, 1), seed=0)
    model.preprocessing = fovea.Preprocessing(size=(5, 5), channels=1, scale=1 / 255)
    x = np.arange(50, dtype=np.uint8).reshape(2, 5, 5, 1)
    found = []
    for engine in ("torch", "reference"):
        plan = model.compile(engine, 2, pixels=True, wrt=["input1"])
        plan.forward(x)
        found.append(plan.backward(np.ones((2, 2), np.float32))["input1"])
    near(found[0], found[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler about itself
def test_compiled_plans_compute_the_same() -> None:
    """torch.compile, partial batches and dropout included."""
    eager, losses, norms = trained(get_engine("torch"), 4)
    ours, compiled, compiled_norms = trained(get_engine("torch").configured(compiled=True), 4)
    near(compiled, losses, 1e-5)
    near(compiled_norms, norms, 1e-5)
    for path, array in eager.tensors().items():
        near(ours.tensors()[path], array, 1e-5)


def test_pieces_of_a_batch_are_averaged_among_processes_once() -> None:
    """One process stands for several: it is told how often DistributedDataParallel sends gradients."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        spec = prepare(network(), batch_size=6, training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=ops.SGD())
        processes = Processes()
        processes.size = 2
        plan = TorchPlan(spec, filled(network()), torch.device("cpu"), Settings(), processes)
        sent: list[int] = []

        def sends(bucket: Any) -> Any:
            sent.append(1)
            future: Any = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        assert plan._shared is not None
        plan._shared.register_comm_hook(None, lambda _, bucket: sends(bucket))
        x, labels = batch(6)
        for more, expected in ((True, 0), (True, 0), (False, 1), (False, 2)):
            plan.more_follow = more
            plan.forward(x)
            plan.loss_backward(labels)
            assert len(sent) == expected
    finally:
        dist.destroy_process_group()
