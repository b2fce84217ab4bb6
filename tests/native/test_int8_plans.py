"""Whole quantised networks: the native engine's bits are the reference engine's, whatever the threads."""

from __future__ import annotations

import numpy as np
import pytest

import fovea
import fovea.ops as ops
from fovea.engines.base import Plan
from fovea.errors import FoveaError
from fovea.graph.compose import Parallel, Residual, Sequential, build
from fovea.graph.graph import Graph
from fovea.model import Model
from tests.native.networks import NETWORKS, Array, batch, filled

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")


def awkward() -> Graph:
    """Signed activations behind linear layers, a sum of two convolutions, flattened ragged channels, a kept sum."""
    linear = Sequential(ops.Conv(10, 1), ops.Conv(10, 3, padding=1, groups=10), ops.Conv(10, 3, padding=1))
    return build(
        Sequential(
            *(ops.Conv(10, 3, padding=1), Residual(linear)),
            Parallel(ops.Conv(6, 1), ops.Conv(6, 3, padding=1), join=ops.Add()),
            *(ops.ReLU6(), ops.Conv(12, 3, groups=3, padding=1), ops.ReLU(), ops.MaxPool(2)),
            *(ops.Conv(5, 3), ops.Flatten(), ops.Dropout(0.5), ops.Dense(7), ops.ReLU(), ops.Dense(5)),
        ),
        (10, 9, 3),
    )  # fmt: skip


CASES = {**NETWORKS, "awkward": awkward}


@pytest.fixture(params=CASES)
def graph(request: pytest.FixtureRequest) -> Graph:
    return CASES[request.param]()


def quantized(graph: Graph, **options: object) -> tuple[Model, Model, Array]:
    """A float32 model, its int8 form, and samples that it was not calibrated on."""
    model = Model.from_store(graph, filled(graph))
    samples = np.concatenate([batch(graph, 8, seed)[0] for seed in range(8)])
    return model, fovea.quantize(model, samples, **options), batch(graph, 7, 99)[0]  # type: ignore[arg-type]


def equal(plan: Plan, ours: Array, expected: Array) -> None:
    """Every bit, unless layers between compute in float32: their rounding may move a byte by one."""
    rows = [one for one in plan.describe() if one["section"] == "forward"]
    if all(one["kernel"].startswith("int8_") for one in rows):
        np.testing.assert_array_equal(ours, expected)
    else:
        np.testing.assert_allclose(ours, expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_native_is_reference_bit_by_bit(graph: Graph) -> None:
    _, model, x = quantized(graph)
    expected = model.compile("reference", batch_size=7).forward(x)
    plan = model.compile("native", batch_size=8)
    assert any(one["kernel"] == "int8_conv" for one in plan.describe())
    equal(plan, plan.forward(x), expected)
    equal(plan, plan.forward(x[:3]), expected[:3])


def test_little_is_lost(graph: Graph) -> None:
    model, small, x = quantized(graph)
    exact, ours = model(x), small(x)
    assert np.abs(ours - exact).max() < 0.06 * np.abs(exact).max()
    assert np.sqrt(np.square(ours - exact).mean()) < 0.02 * np.sqrt(np.square(exact).mean()) + 0.01


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(graph: Graph, threads: int) -> None:
    _, model, x = quantized(graph)
    usual = fovea.get_threads()
    expected = model.compile("native", batch_size=7).forward(x)
    fovea.set_threads(threads)
    try:
        np.testing.assert_array_equal(model.compile("native", batch_size=7).forward(x), expected)
    finally:
        fovea.set_threads(usual)


def test_kept_activations_are_numbers_again(graph: Graph) -> None:
    model, small, x = quantized(graph)
    names = [name for name, node in small.graph.nodes.items() if node.op.kind in ("relu", "relu6", "add")]
    if not names:
        pytest.skip("this network has none")
    plan = small.compile("native", batch_size=7, keep=names)
    outputs = plan.forward(x)
    reference = small.compile("reference", batch_size=7, keep=names)
    equal(plan, outputs, reference.forward(x))
    exact = model.forward(x, keep=names)
    for name in names:
        equal(plan, plan.kept[name], reference.kept[name])
        error = np.square(plan.kept[name] - exact[name]).mean()
        assert error < 0.06**2 * np.square(exact[name]).mean() + 1e-4


def test_the_loss_of_an_int8_plan() -> None:
    graph = NETWORKS["resnet"]()
    model, small, _ = quantized(graph)
    x, targets = batch(graph, 6)
    losses = []
    for one in (model, small):
        plan = one.compile("native", batch_size=6, loss=ops.SoftmaxCrossEntropy())
        plan.forward(x)
        losses.append(plan.loss(targets)[0])
    assert losses[1] == pytest.approx(losses[0], abs=0.1)


def test_pixels_go_straight_onto_the_grid() -> None:
    record = fovea.Preprocessing(size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    graph = NETWORKS["resnet"]()
    model = Model.from_store(graph, filled(graph), preprocessing=record)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    network_input = (pixels / 255.0 - record.mean) / record.std
    small = fovea.quantize(model, network_input.astype(np.float32))
    plan = small.compile("native", batch_size=40, pixels=True)
    kernels = [one["kernel"] for one in plan.describe()]
    assert "int8_quantize_uint8" in kernels
    assert "int8_quantize_float32" not in kernels
    ours = plan.forward(pixels)
    np.testing.assert_array_equal(ours, small.compile("reference", 40, pixels=True).forward(pixels))
    exact = model.logits(pixels)
    assert np.abs(ours - exact).max() < 0.06 * np.abs(exact).max()


def test_other_precisions_compute_on_the_stored_weights() -> None:
    graph = NETWORKS["vgg"]()
    model, small, x = quantized(graph)
    exact = model(x)
    ours = small.compile("native", batch_size=7, precision="fp32").forward(x)
    assert 0 < np.abs(ours - exact).max() < 0.03 * np.abs(exact).max()


def test_every_method_finds_ranges() -> None:
    graph = NETWORKS["vgg"]()
    for method in ("mse", "percentile", "minmax"):
        model, small, x = quantized(graph, method=method)
        assert small.quantization is not None
        assert small.quantization.about == {"method": method, "samples": 64}
        assert np.abs(small(x) - model(x)).max() < 0.1 * np.abs(model(x)).max()


def test_the_same_samples_give_the_same_model() -> None:
    graph = NETWORKS["mobilenet"]()
    one, other = (quantized(graph)[1] for _ in range(2))
    assert one.quantization is not None
    assert other.quantization is not None
    assert one.quantization.grids == other.quantization.grids
    for path, array in one.store.tensors().items():
        np.testing.assert_array_equal(array, other.store.tensors()[path])


def test_layers_of_zeros_and_silent_inputs() -> None:
    graph = NETWORKS["lenet"]()
    model = Model.from_store(graph, filled(graph))
    for path, array in model.parameters().items():
        if path.startswith("conv1") or path == "dense2.weight":
            array[...] = 0
    model.store.touch()
    small = fovea.quantize(model, np.zeros((4, 16, 14, 1), np.float32))
    x = batch(graph, 4)[0]
    np.testing.assert_allclose(small(x), model(x), atol=1e-3)


def test_mistakes_are_named() -> None:
    graph = NETWORKS["vgg"]()
    model, small, x = quantized(graph)
    with pytest.raises(FoveaError, match="quantised to int8 already"):
        fovea.quantize(small, x)
    with pytest.raises(FoveaError, match="expected method as one of mse, percentile, minmax"):
        fovea.quantize(model, x, method="best")
    with pytest.raises(FoveaError, match="at least one sample"):
        fovea.quantize(model, x[:0])
    with pytest.raises(FoveaError, match="images as an integer"):
        fovea.quantize(model, x, images=0)
    with pytest.raises(FoveaError, match=r"expected a fovea\.Model"):
        fovea.quantize(graph, x)  # type: ignore[arg-type]
    with pytest.raises(FoveaError, match="nothing to do"):
        fovea.quantize(fovea.Model(fovea.Sequential(fovea.ReLU(), fovea.GlobalAvgPool()), (4, 4, 3)), x[:, :4, :4])
    with pytest.raises(FoveaError, match="train the model that it was made from"):
        small.compile("native", batch_size=2, training=True, loss=ops.SoftmaxCrossEntropy())
    with pytest.raises(FoveaError, match="quantised model for precision int8"):
        model.compile("native", batch_size=2, precision="int8")
    with pytest.raises(FoveaError, match="precision fp32 for gradients"):
        small.compile("native", batch_size=2, wrt=[graph.inputs[0]])
