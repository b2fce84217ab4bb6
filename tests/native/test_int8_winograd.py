"""Winograd's algorithm on bytes: the native bits are the reference engine's, and near the convolution's."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")

import fovea
import fovea.ops as ops
from fovea.errors import FoveaError
from fovea.graph.compose import Residual, Sequential, build
from fovea.model import Model
from tests.native.networks import Array, filled

CASES = {
    "odd": ((7, 9, 4), 64, 64, 1),
    "unpadded": ((6, 8, 4), 66, 70, 0),
    "wide_padding": ((4, 5, 4), 64, 130, 2),
    "one_pixel": ((1, 1, 4), 72, 64, 1),
    "pairs": ((8, 8, 4), 128, 96, 1),
}
"""Input shape, channels in and out of the layer, padding."""


def network(name: str, seed: int = 0) -> tuple[Model, Array]:
    """A model whose middle layer is wide, and samples."""
    shape, inputs, outputs, padding = CASES[name]
    layers = [
        ops.Conv(inputs, 1), ops.ReLU(), ops.Conv(outputs, 3, padding=padding), ops.ReLU(), ops.GlobalAvgPool(),
        ops.Dense(5),
    ]  # fmt: skip
    graph = build(Sequential(*layers), shape)
    x = np.random.default_rng(seed).standard_normal((24, *shape)).astype(np.float32)
    return Model.from_store(graph, filled(graph)), x


def kernels(model: Model) -> list[str]:
    """What a native plan runs."""
    return [one["kernel"] for one in model.compile("native", batch_size=2).describe()]


@pytest.mark.parametrize("name", CASES)
def test_bits_of_the_reference_engine(name: str) -> None:
    model, x = network(name)
    small = fovea.quantize(model, x)
    assert "int8_winograd" in kernels(small)
    keep = [node for node, one in small.graph.nodes.items() if one.op.kind == "relu"]
    plans = [small.compile(engine, batch_size=24, keep=keep) for engine in ("native", "reference")]
    ours, expected = (plan.forward(x) for plan in plans)
    for node in keep:
        np.testing.assert_array_equal(plans[0].kept[node], plans[1].kept[node])
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("channels", [64, 24], ids=["winograd", "direct"])
def test_an_input_that_is_added_as_well_is_not_written_over(channels: int) -> None:
    layers = [ops.Conv(channels, 1), ops.ReLU(), Residual(ops.Conv(channels, 3, padding=1)), ops.GlobalAvgPool()]
    graph = build(Sequential(*layers, ops.Dense(3)), (33, 31, 3))
    x = np.random.default_rng(0).standard_normal((4, 33, 31, 3)).astype(np.float32)
    small = fovea.quantize(Model.from_store(graph, filled(graph)), x)
    assert ("int8_winograd" in kernels(small)) == (channels == 64)
    for batch in (1, 4):
        given = x[:batch]
        ours, expected = (small.compile(engine, batch_size=batch).forward(given) for engine in ("native", "reference"))
        np.testing.assert_array_equal(ours, expected)


def test_residual_and_few_tiles() -> None:
    """An addition behind it; one image and several."""
    body = Sequential(ops.Conv(64, 3, padding=1), ops.ReLU(), ops.Conv(64, 3, padding=1))
    graph = build(Sequential(ops.Conv(64, 1), ops.ReLU(), Residual(body), ops.ReLU(), ops.Flatten(), ops.Dense(3)),
                  (6, 5, 3))  # fmt: skip
    model = Model.from_store(graph, filled(graph))
    x = np.random.default_rng(0).standard_normal((9, 6, 5, 3)).astype(np.float32)
    small = fovea.quantize(model, x)
    assert kernels(small).count("int8_winograd") == 2
    expected = small.compile("reference", batch_size=9).forward(x)
    for batch in (1, 9):
        plan = small.compile("native", batch_size=batch)
        np.testing.assert_array_equal(plan.forward(x[:batch]), expected[:batch])
    np.testing.assert_allclose(expected, model(x), rtol=0, atol=0.06 * np.abs(expected).max())


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_bit(threads: int) -> None:
    model, x = network("pairs")
    small = fovea.quantize(model, x)
    usual = fovea.get_threads()
    expected = small.compile("native", batch_size=24).forward(x)
    fovea.set_threads(threads)
    try:
        np.testing.assert_array_equal(small.compile("native", batch_size=24).forward(x), expected)
    finally:
        fovea.set_threads(usual)


def test_little_more_is_lost() -> None:
    """About twice the rounding error of the convolution on bytes; and each file says which it is."""
    model, x = network("odd")
    exact, errors = model(x), []
    for winograd in (False, True):
        small = fovea.quantize(model, x, winograd=winograd)
        assert ("int8_winograd" in kernels(small)) == winograd
        assert small.quantization is not None
        assert small.quantization.to_dict().get("winograd", False) == winograd
        errors.append(np.sqrt(np.square(small(x) - exact).mean() / np.square(exact).mean()))
    assert errors[0] < 0.02
    assert errors[1] < 0.03


def test_the_file_remembers(tmp_path: object) -> None:
    model, x = network("odd")
    for winograd in (False, True):
        small = fovea.quantize(model, x, winograd=winograd)
        small.save(f"{tmp_path}/small.safetensors")
        again = fovea.load(f"{tmp_path}/small.safetensors")
        np.testing.assert_array_equal(again(x), small(x))


def test_a_mistake_is_named() -> None:
    model, x = network("odd")
    with pytest.raises(FoveaError, match="winograd as True or False"):
        fovea.quantize(model, x, winograd="no")  # type: ignore[arg-type]
