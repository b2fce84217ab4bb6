"""Attribution of signals (N,T,C) and volumes (N,D,H,W,C): the methods of images, along one axis and along three."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import explain
from fovea.engines.registry import available_engines
from fovea.errors import FoveaError
from fovea.explain.baseline import baseline_of
from fovea.explain.placing import centres_of, enlarged
from fovea.explain.question import ask
from fovea.explain.rise import masks
from fovea.model import Model
from tests.explain.attribution_nets import lived_in, numbers
from tests.explain.test_attribution_questions import QUICK

SHAPES: dict[str, tuple[int, ...]] = {"signal": (32, 2), "volume": (8, 6, 6, 2)}


def network(kind: str, **options: Any) -> Model:
    """Convolutions, a norm, ReLU, max-pooling and global pooling, in the axes of this kind."""
    net = fovea.Sequential(
        fovea.Conv(6, 3, padding=1, use_bias=False), fovea.BatchNorm(), fovea.ReLU(), fovea.MaxPool(2),
        fovea.Conv(5, 3, padding=1), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(3),
    )  # fmt: skip
    return lived_in(Model(net, input_shape=SHAPES[kind], seed=1, **options))


def linear(kind: str) -> tuple[Model, np.ndarray]:
    """``S = sum w x + b`` for each of three classes, and w of class 1, *spatial,C."""
    model = lived_in(Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(3)), input_shape=SHAPES[kind], seed=4))
    return model, model.parameters()["dense1.weight"][:, 1].reshape(SHAPES[kind])


@pytest.fixture(scope="module", params=SHAPES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", list(explain.METHODS))
def test_every_method_on_every_engine(kind: str, name: str) -> None:
    model, x = network(kind), numbers(2, *SHAPES[kind])
    method, options = explain.METHODS[name], QUICK.get(name, {})
    expected = explain.attributions(model, x, name, [0, 2], engine="reference", **options)
    for one, sample in zip(expected, x, strict=True):
        assert one.values.shape == SHAPES[kind][:-1]
        assert one.values.dtype == np.float32
        assert np.ptp(one.values) > 0
        np.testing.assert_array_equal(one.image, sample)
        assert (one.layer is not None) == method.needs_layer
        if not (method.needs_layer and name != "guided_grad_cam") and name not in ("occlusion", "rise"):
            assert one.raw.shape == SHAPES[kind]
    for engine in available_engines():
        found = explain.attributions(model, x, name, [0, 2], engine=engine, **options)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.values, other.values, atol=2e-5 * np.abs(other.values).max())


@pytest.mark.parametrize("name", ["gradient_x_input", "integrated_gradients", "deeplift", "lrp_epsilon"])
def test_what_linear_networks_make_of_their_input(kind: str, name: str) -> None:
    model, weight = linear(kind)
    x, start = numbers(*SHAPES[kind]), numbers(*SHAPES[kind], seed=7)
    options: dict[str, Any] = {"lrp_epsilon": {"epsilon": 0.0}, "gradient_x_input": {}}.get(name, {"baseline": start})
    found = explain.METHODS[name](model, x, 1, **options)
    expected = weight * (x - options.get("baseline", 0.0))
    np.testing.assert_allclose(found.raw, expected, atol=1e-5)
    np.testing.assert_allclose(found.values, expected.sum(-1), atol=1e-5)


def test_occlusion_of_a_linear_network_is_what_each_window_adds(kind: str) -> None:
    model, weight = linear(kind)
    x = numbers(*SHAPES[kind])
    found = explain.occlusion(model, x, 1, window=2, stride=2, score="logit")
    added = (weight * x).sum(-1)
    for axis in range(added.ndim):
        added = np.add.reduceat(added, np.arange(0, added.shape[axis], 2), axis)
    np.testing.assert_allclose(found.raw, added, atol=1e-5)
    for axis in range(added.ndim):
        added = added.repeat(2, axis)
    np.testing.assert_allclose(found.values, added, atol=1e-5)


def test_hires_cam_adds_up_to_the_score_less_its_bias(kind: str) -> None:
    model, x = network(kind), numbers(*SHAPES[kind])
    found = explain.hires_cam(model, x, 2)
    assert found.raw.shape == tuple(side // 2 for side in SHAPES[kind][:-1])
    assert float(found.raw.sum()) == pytest.approx(found.score - float(model.parameters()["dense1.bias"][2]), rel=1e-4)


def test_coarse_maps_lie_at_the_centres_of_their_fields(kind: str) -> None:
    """A map that grows linearly along an axis does so in the input, from the first centre to the last."""
    net = fovea.Sequential(fovea.Conv(2, 3, stride=2), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2))
    shape = (*(9, 7, 11)[: len(SHAPES[kind]) - 1], 1)
    graph = Model(net, input_shape=shape, seed=0).graph
    centres = centres_of(graph, "conv1")
    for axis, places in enumerate(centres):
        np.testing.assert_array_equal(places, 1.5 + 2 * np.arange((shape[axis] - 1) // 2))
        along = [1] * len(centres)
        along[axis] = len(places)
        coarse = np.broadcast_to(places.reshape(along), [len(one) for one in centres])
        line = np.moveaxis(enlarged(graph, "conv1", coarse[None])[0], axis, -1).reshape(-1, shape[axis])
        expected = np.clip(np.arange(shape[axis]) + 0.5, places[0], places[-1])
        np.testing.assert_allclose(line, np.broadcast_to(expected, line.shape), rtol=1e-6)


@pytest.mark.parametrize("size", [(21,), (9, 7, 8)])
def test_rise_masks_in_any_axes(size: tuple[int, ...]) -> None:
    whole = masks(size, range(400), 4, 0.5, seed=1)
    assert whole.shape == (400, *size)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert np.abs(whole.mean(0) - 0.5).max() < 0.12, "each place is seen half of the time"
    np.testing.assert_array_equal(whole[7:9], masks(size, range(7, 9), 4, 0.5, seed=1))


def test_rise_finds_the_only_place_that_counts(kind: str) -> None:
    model, x = linear(kind)[0], np.ones(SHAPES[kind], np.float32)
    weight = np.zeros(SHAPES[kind], np.float32)
    place = tuple(side // 2 for side in SHAPES[kind][:-1])
    weight[place] = 1
    model.store.parameters["dense1.weight"][...] = weight.reshape(-1, 1)
    model.store.touch()
    found = explain.rise(model, x, 1, score="logit", samples=400)
    best = np.unravel_index(found.values.argmax(), found.values.shape)
    assert max(abs(a - b) for a, b in zip(best, place, strict=True)) <= 1


@pytest.mark.parametrize("name", [
    "grad_cam", "hires_cam", "layer_cam", "grad_cam_pp", "score_cam", "gradient_x_input", "integrated_gradients",
    "deeplift", "lrp_epsilon", "occlusion",
])  # fmt: skip
def test_the_part_that_makes_the_class_lights_up(kind: str, name: str) -> None:
    """Class 0 is the mean of a smoothed, rectified input, and only one part of this one is loud."""
    shape = (*SHAPES[kind][:-1], 1)
    net = fovea.Sequential(
        fovea.Conv(1, 3, padding=1, use_bias=False), fovea.ReLU(), fovea.MaxPool(2), fovea.GlobalAvgPool(),
        fovea.Dense(2, use_bias=False),
    )  # fmt: skip
    model = Model(net, input_shape=shape, seed=0)
    model.store.parameters["conv1.weight"][...] = 1
    model.store.parameters["dense1.weight"][...] = [[1, -1]]
    model.store.touch()
    x = 0.01 * numbers(*shape)
    loud = tuple(slice(side // 2, side // 2 + max(2, side // 4)) for side in shape[:-1])
    x[loud] += 1
    values = explain.METHODS[name](model, x, 0).values
    inside = np.zeros(values.shape, bool)
    inside[loud] = True
    assert values[inside].mean() > values[~inside].mean() + 0.2 * np.ptp(values)
    peak = np.unravel_index(values.argmax(), values.shape)
    assert all(part.start - 1 <= at <= part.stop for at, part in zip(peak, loud, strict=True))


def known(kind: str, **fields: Any) -> fovea.Preprocessing:
    size = SHAPES[kind][:-1]
    return fovea.Preprocessing(kind=kind, size=size, channels=2, mean=(0.25,) * 2, std=(2.0,) * 2, scale=1.0, **fields)


def test_what_is_kept_is_what_the_network_saw_before_the_pixel_half() -> None:
    signal = numbers(40, 2)
    model = network("signal", preprocessing=known("signal", rate=8000))
    found = explain.gradient(model, signal, 1)
    np.testing.assert_array_equal(found.image, signal[:32])
    assert (found.rate, found.image.dtype, found.values.shape) == (8000, np.float32, (32,))
    np.testing.assert_allclose(
        found.raw, explain.gradient(network("signal"), (signal[:32] - 0.25) / 2, 1).raw, atol=1e-6
    )
    volume = numbers(8, 6, 6, 2)
    standard = explain.gradient(network("volume", preprocessing=known("volume", per_sample=True)), 3 + 5 * volume, 1)
    np.testing.assert_allclose(standard.image, (volume - volume.mean()) / volume.std(), atol=1e-5)
    assert standard.rate is None
    clip = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 2)).astype(np.uint8)
    seen = fovea.Preprocessing(kind="clip", size=(8, 6, 6), channels=2)
    moving = explain.layer_cam(network("volume", preprocessing=seen), clip, 1)
    np.testing.assert_array_equal(moving.image, clip)


def test_baselines_of_signals_and_volumes(kind: str) -> None:
    model = network(kind, preprocessing=known(kind))
    x = numbers(2, *SHAPES[kind])
    x[1] = 3.0
    question = ask(model, x, explain.METHODS["occlusion"], [0, 1], None, None, None)
    np.testing.assert_allclose(baseline_of(question, "black"), -0.125)
    blurred = baseline_of(question, "blur")
    np.testing.assert_allclose(blurred[1], (3 - 0.25) / 2, rtol=1e-6, err_msg="what is constant stays so")
    axes = tuple(range(x.ndim - 2))
    assert (blurred[0].std(axes) < 0.8 * question.x[0].std(axes)).all()
    at_once = explain.attributions(model, x, "integrated_gradients", 1, baseline="blur")
    assert all("completeness" in one.notes[0] for one in at_once)


def test_blur_is_a_gaussian_along_each_axis() -> None:
    model = network("signal", preprocessing=known("signal"))
    x = np.zeros((1, 32, 2), np.float32)
    x[0, 16] = 1
    question = ask(model, x, explain.METHODS["occlusion"], [0], None, None, None)
    seen = baseline_of(question, "blur")[0, :, 0] * 2 + 0.25
    deviation = 32 / 10
    expected = np.exp(-(((np.arange(32) - 16) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(seen, expected, atol=1.5e-3)  # the tails beyond three deviations are left out


@pytest.mark.parametrize(("wrong", "message"), [
    (numbers(32), "expected network input as a float32 array T,C, since the model knows no preprocessing, got float32"),
    (np.zeros((32, 2), np.int16), "expected network input as a float32 array T,C"),
    ("a.wav", "expected a model that knows its preprocessing for the file a.wav"),
])  # fmt: skip
def test_what_is_no_signal_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(FoveaError, match=message):
        explain.gradient(network("signal"), wrong, 0)


def test_windows_are_checked_along_every_axis() -> None:
    with pytest.raises(FoveaError, match="expected an integer from 1 to 6 pixels, got 7"):
        explain.occlusion(network("volume"), numbers(*SHAPES["volume"]), 0, window=7)
    with pytest.raises(FoveaError, match="a volume has 3 channels, 2 are expected"):
        explain.gradient(network("volume", preprocessing=known("volume")), numbers(8, 6, 6, 3), 0)
