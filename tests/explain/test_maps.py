"""Feature maps, channels and filters: counted in pieces as whole, and right by construction."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea.errors import ConfigError, GraphError
from fovea.explain import activations, channel_statistics, filters
from fovea.explain.channels import activation_layers
from fovea.features import passes
from fovea.model import Model
from fovea.report.sheets import Tile, filter_tiles, sheet
from tests.explain.small_networks import pictures, trained


def test_maps_are_what_the_network_computes() -> None:
    model, (images, _) = trained(), pictures(5)
    assert model.preprocessing is not None
    x = model.preprocessing.apply_pixels(images)
    expected = model.forward(x, keep=["conv1", "relu2", "dense1"])
    found = activations(model, images, ["conv1", "relu2", "dense1"])
    for name in ("conv1", "relu2", "dense1"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    one = activations(model, list(images[:2]), "conv1", engine="reference")["conv1"]
    np.testing.assert_allclose(one, expected["conv1"][:2], atol=1e-4)


def test_in_pieces_as_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (images, _) = trained(), pictures(23)
    whole = channel_statistics(model, images, ["relu1", "relu2"])
    monkeypatch.setattr(passes, "_MOST", 4)
    pieces = channel_statistics(model, images, ["relu1", "relu2"])
    for name, one in whole.items():
        for field in ("mean", "std", "minimum", "maximum", "zeros", "low", "high", "active"):
            np.testing.assert_allclose(getattr(pieces[name], field), getattr(one, field), rtol=1e-6, atol=1e-7)
        assert pieces[name].samples == 23
    values = activations(model, images, "relu1")["relu1"].astype(np.float64)
    np.testing.assert_allclose(whole["relu1"].mean, values.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(whole["relu1"].std, values.std(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(whole["relu1"].zeros, (values == 0).mean(axis=(0, 1, 2)))
    np.testing.assert_array_equal(whole["relu1"].active, (values > 0).any(axis=(1, 2)).sum(axis=0))
    assert whole["relu1"].positions == 256


def built(activation: Any, biases: list[float]) -> Model:
    """One channel for each bias on a grey image: the convolution gives the pixel (-1 to 1) plus the bias."""
    net = fovea.Sequential(fovea.Conv(len(biases), 1), activation)
    known = fovea.Preprocessing(size=(4, 4), channels=1, scale=1 / 127.5, mean=1.0)
    model = Model(net, (4, 4, 1), preprocessing=known)
    model.parameters()["conv1.weight"][...] = 1
    model.parameters()["conv1.bias"][...] = biases
    return model


IMAGES = np.array([np.full((4, 4, 1), 0), np.full((4, 4, 1), 255)], np.uint8)


def test_dead_and_always_active_channels_by_construction() -> None:
    model = built(fovea.ReLU(), [-5.0, 0.0, 5.0])
    found = channel_statistics(model, IMAGES)["relu1"]
    assert found.never.tolist() == found.dead.tolist() == [True, False, False]
    assert found.always.tolist() == [False, False, True]
    assert found.zeros.tolist() == [1.0, 0.5, 0.0]
    assert found.active.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.mean, [0.0, 0.5, 5.0], rtol=1e-6)
    assert not found.saturated.any()


@pytest.mark.parametrize(
    ("activation", "biases", "low", "high"),
    [(fovea.ReLU6(), [0.0, 9.0, 6.5], [0.5, 0, 0], [0, 1, 0.5]),
     (fovea.Sigmoid(), [0.0, 20.0, -20.0], [0, 0, 1], [0, 1, 0]),
     (fovea.Tanh(), [0.0, 9.0, -2.0], [0, 0, 0.5], [0, 1, 0]),
     (fovea.Clip(-0.5, 0.5), [0.0, 3.0, -3.0], [0.5, 0, 1], [0.5, 1, 0]),
     (fovea.SiLU(), [0.0, 3.0, -3.0], [0, 0, 0], [0, 0, 0])],
)  # fmt: skip
def test_saturation_by_construction(activation: Any, biases: list[float], low: list[float], high: list[float]) -> None:
    found = next(iter(channel_statistics(built(activation, biases), IMAGES).values()))
    assert (found.low.tolist(), found.high.tolist()) == (low, high)


def test_deviations_far_from_zero_keep_their_digits() -> None:
    model = Model(fovea.Conv(2, 1), (16, 16, 1), preprocessing=fovea.Preprocessing(size=(16, 16), channels=1), seed=0)
    model.store.load({"conv1.weight": np.ones((1, 1, 1, 2), np.float32), "conv1.bias": np.float32([0, 1000])})
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 1)).astype(np.uint8)
    found = channel_statistics(model, images, ["conv1"])["conv1"]
    assert found.std == pytest.approx((images / 255).std(), rel=1e-3)
    assert found.mean - [0, 1000] == pytest.approx((images / 255).mean(), rel=1e-3)


def test_a_saturated_channel_still_changes() -> None:
    model = built(fovea.Sigmoid(), [20.0])
    images = np.concatenate([IMAGES[1:]] * 19 + [IMAGES[:1]])
    model.parameters()["conv1.weight"][...] = 15
    found = channel_statistics(model, images)["sigmoid1"]
    assert found.high.tolist() == [1.0]  # from sigmoid(5) on: within one per cent of 1
    assert found.saturated.tolist() == [True]
    model.parameters()["conv1.bias"][...] = 15
    model.store.touch()
    found = channel_statistics(model, images)["sigmoid1"]
    assert found.high.tolist() == [0.95]
    assert found.saturated.tolist() == [True]


def test_which_layers_are_counted() -> None:
    assert activation_layers(trained().graph) == ["relu1", "relu2"]
    graph = fovea.models.architecture("mobilenetv3_small").graph()
    assert not [name for name in activation_layers(graph) if "hardsigmoid" in name]
    plain = Model(fovea.Sequential(fovea.Conv(2, 3)), (8, 8, 3), preprocessing=fovea.Preprocessing(size=(8, 8)))
    assert list(channel_statistics(plain, np.zeros((1, 8, 8, 3), np.uint8))) == ["conv1"]


def test_filters_of_the_first_layer_and_of_deeper_ones() -> None:
    model = trained()
    first, second = filters(model), filters(model, "conv2")
    assert (first.layer, first.is_first, second.is_first) == ("conv1", True, False)
    assert first.weight.shape == (8, 3, 3, 3)
    np.testing.assert_array_equal(first.weight[5], model.parameters()["conv1.weight"][..., 5])
    assert second.norms.shape == (12, 8)
    assert second.norms[4, 3] == pytest.approx(np.linalg.norm(model.parameters()["conv2.weight"][:, :, 3, 4]), rel=1e-6)
    assert second.strongest(4, 2)[0] == int(second.norms[4].argmax())
    assert "no pictures of the input" in second.note().replace("\n", " ")
    behind = [fovea.Normalize(mean=(0.5,) * 3, std=(0.2,) * 3), fovea.Pad(1), fovea.Conv(2, 3), fovea.Pad(1)]
    padded = Model(fovea.Sequential(*behind, fovea.Conv(2, 3)), (8, 8, 3), seed=0)
    assert [filters(padded, name).is_first for name in ("conv1", "conv2")] == [True, False]
    assert "colours of the input" in first.note()
    signal = filters(Model(fovea.Sequential(fovea.Conv(4, 9)), (64, 1), seed=0))
    assert "colours" not in signal.note()


def test_filters_of_groups_name_their_own_inputs() -> None:
    net = fovea.Sequential(fovea.Conv(8, 3), fovea.Conv(8, 3, groups=4), fovea.Conv(8, 3, groups=8))
    model = Model(net, (12, 12, 3), seed=3)
    grouped = filters(model, "conv2")
    assert set(grouped.strongest(7, 2)) == {6, 7}
    assert filters(model, "conv3").strongest(5, 3) == [5]
    assert "Depthwise" in filters(model, "conv3").note()


def test_filters_of_one_position_are_a_matrix() -> None:
    net = fovea.Sequential(fovea.Conv(6, 3), fovea.Conv(10, 1), fovea.Conv(10, 1, groups=2))
    model = Model(net, (12, 12, 3), seed=3)
    mixing = filters(model, "conv2")
    assert mixing.is_pointwise
    assert not filters(model).is_pointwise
    assert "It mixes channels" in mixing.note()
    (tile,) = filter_tiles(mixing, True)
    weight = model.parameters()["conv2.weight"][0, 0]  # below, channels
    assert tile.value.shape == (10, 6)
    assert tile.value[weight.argmax() % 10, weight.argmax() // 10] > 200
    np.testing.assert_array_equal(tile.value > 127.5, weight.T > 0)
    wide = Image.open(io.BytesIO(sheet([Tile(np.zeros((4, 40), np.uint8))], "wide", side=8.0))).size
    assert wide[0] > 3 * wide[1]
    grouped = filters(model, "conv3")
    assert "of its group" in grouped.note()
    assert filter_tiles(grouped, True)[0].value.shape == (10, 5)


def test_mistakes_are_told() -> None:
    model, (images, _) = trained(), pictures(2)
    with pytest.raises(GraphError, match="near names: relu2, relu1"):
        activations(model, images, "relu3")
    with pytest.raises(ConfigError, match="expected layers as a list of names"):
        activations(model, images, [])
    with pytest.raises(GraphError, match=r"\[input1\] expected a layer, got an input"):
        activations(model, images, "input1")
    with pytest.raises(GraphError, match=r"\[relu1\] expected a convolution, got relu"):
        filters(model, "relu1")
    with pytest.raises(GraphError, match="expected a network with a convolution, got none"):
        filters(fovea.models.mlp())
