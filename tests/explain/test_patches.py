"""The most exciting patches: the same in pieces as whole, and exact, which changing pixels outside shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea
from fovea.errors import ConfigError, GraphError
from fovea.explain import activations, exciting
from fovea.features import passes
from fovea.model import Model
from tests.explain.small_networks import pictures, trained


def test_the_best_of_all_samples_by_brute_force() -> None:
    model, (images, _) = trained(), pictures(30, seed=1)
    found = exciting(model, images, ["relu1", "batchnorm2"], {"batchnorm2": [2, 7]}, top_k=4)
    assert found["relu1"].channels.tolist() == list(range(8))
    for name, one in found.items():
        values = activations(model, images, name)[name]
        for row, channel in enumerate(one.channels):
            peaks = values[..., channel].reshape(30, -1).max(axis=1)
            order = np.argsort(-peaks, kind="stable")[:4]
            assert one.samples[row].tolist() == order.tolist()
            np.testing.assert_allclose(one.values[row], peaks[order], rtol=1e-6)
            for sample, position, value in zip(one.samples[row], one.positions[row], one.values[row], strict=True):
                assert values[(sample, *position, channel)] == value
    assert set(found["relu1"].images) == {int(i) for i in found["relu1"].samples.flat}
    np.testing.assert_array_equal(found["relu1"].images[int(found["relu1"].samples[0, 0])],
                                  images[found["relu1"].samples[0, 0]])  # fmt: skip


def test_in_pieces_as_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal samples stand in their order, however the data are cut."""
    model, (images, _) = trained(), pictures(24, seed=1)
    images = np.concatenate([images, images[:10]])
    whole = exciting(model, images, "relu1", engine="reference")["relu1"]
    monkeypatch.setattr(passes, "_MOST", 5)
    pieces = exciting(model, images, "relu1", engine="reference")["relu1"]
    np.testing.assert_array_equal(pieces.samples, whole.samples)
    np.testing.assert_array_equal(pieces.values, whole.values)
    np.testing.assert_array_equal(pieces.low, whole.low)


def test_fewer_samples_than_asked_for() -> None:
    found = exciting(trained(), pictures(2)[0], "relu1", 0, top_k=5)["relu1"]
    assert sorted(found.samples[0, :2].tolist()) == [0, 1]
    assert found.samples[0, 2:].tolist() == [-1, -1, -1]
    assert np.isneginf(found.values[0, 2:]).all()


def branched(x: Any) -> Any:
    a = fovea.Conv(4, 3, stride=2, padding=1)(x)
    b = fovea.ReLU()(fovea.Conv(4, 5, padding=2)(a))
    c = fovea.Conv(4, 1)(fovea.Conv(4, 3, stride=2, padding=1)(x))
    return fovea.Conv(3, 3, padding="same")(fovea.Add()(b, c))


@pytest.mark.parametrize("network", ["trained", "branched"])
def test_nothing_outside_a_patch_matters_and_its_edges_do(network: str) -> None:
    if network == "trained":
        model, layer = trained(), "conv2"
    else:
        known = fovea.Preprocessing(size=(16, 16), mean=(0.45,) * 3, std=(0.15,) * 3)
        model = Model(branched, (16, 16, 3), preprocessing=known, seed=4)
        layer = model.graph.outputs[0].node
    rng = np.random.default_rng(0)
    images = pictures(6, seed=8)[0]
    found = exciting(model, images, layer, top_k=3, engine="reference")[layer]
    assert not found.gated
    for row, rank in [(0, 0), (1, 1), (2, 2), (2, 0)]:
        sample, low, high = found.samples[row, rank], found.low[row, rank], found.high[row, rank]
        at = (0, *found.positions[row, rank], found.channels[row])
        patch = found.patch(row, rank)
        assert patch.shape == (*(high - low), 3)
        outside = rng.integers(0, 256, images[sample].shape).astype(np.uint8)
        outside[low[0] : high[0], low[1] : high[1]] = patch
        value = activations(model, outside[None], layer, engine="reference")[layer][at]
        np.testing.assert_allclose(value, found.values[row, rank], rtol=1e-5)
    if network == "trained":
        return  # max-pooling may not care for an edge
    for row, rank in [(0, 0), (1, 1)]:
        sample, low, high = found.samples[row, rank], found.low[row, rank], found.high[row, rank]
        at = (0, *found.positions[row, rank], found.channels[row])
        for edge in (
            (low[0], slice(None)),
            (high[0] - 1, slice(None)),
            (slice(None), low[1]),
            (slice(None), high[1] - 1),
        ):
            changed = images[sample].copy()
            changed[edge] = rng.integers(0, 256, changed[edge].shape)
            value = activations(model, changed[None], layer, engine="reference")[layer][at]
            assert abs(value - found.values[row, rank]) > 1e-6


def test_patches_of_a_dense_layer_are_whole_images() -> None:
    found = exciting(trained(), pictures(4)[0], "dense1")["dense1"]
    assert found.positions.shape == (3, 9, 0)
    assert found.patch(0, 0).shape == (16, 16, 3)


def test_gates_are_said() -> None:
    known = fovea.Preprocessing(size=(32, 32))

    def network(x: Any) -> Any:
        features = fovea.Conv(4, 3, padding=1)(x)
        return fovea.Multiply()(features, fovea.Sigmoid()(fovea.Dense(4)(fovea.GlobalAvgPool()(features))))

    model = Model(network, (32, 32, 3), preprocessing=known, seed=1)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = exciting(model, images, model.graph.outputs[0].node)[model.graph.outputs[0].node]
    assert found.gated
    assert ((found.high - found.low)[found.samples >= 0] <= 3).all()


def test_mistakes_are_told() -> None:
    model, (images, _) = trained(), pictures(2)
    with pytest.raises(ConfigError, match=r"\[relu1\] expected channels from 0 to 7, got 8"):
        exciting(model, images, "relu1", [0, 8])
    with pytest.raises(ConfigError, match="expected top_k as an integer from 1 to 1000, got 0"):
        exciting(model, images, "relu1", top_k=0)
    with pytest.raises(GraphError, match="near names"):
        exciting(model, images, "relu9")
