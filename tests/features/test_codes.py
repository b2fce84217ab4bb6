"""Codes of layers: which value is taken, equal to what the network computes, in one pass, from any kind of samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.engines.registry import available_engines
from fovea.errors import ConfigError, DataError, GraphError
from fovea.features.extract import cut
from fovea.features.nodes import behind, penultimate
from fovea.model import Model
from tests.tiny_data import images

SIZE = fovea.Preprocessing(size=(16, 16), mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.25))


def residual_net(classes: int = 3) -> Model:
    """conv-norm-relu, a residual block that ends in addition and ReLU, a linear bottleneck, global pooling, dense."""
    block = fovea.Sequential(fovea.Conv(6, 3, padding="same"), fovea.BatchNorm(), fovea.ReLU(),
                             fovea.Conv(6, 3, padding="same"), fovea.BatchNorm())  # fmt: skip
    net = fovea.Sequential(
        fovea.Conv(6, 3, padding="same"), fovea.BatchNorm(), fovea.ReLU(), fovea.MaxPool(2),
        {"block": fovea.Residual(block)}, fovea.ReLU(), fovea.Conv(5, 1), fovea.BatchNorm(), fovea.Conv(8, 1),
        fovea.ReLU6(), fovea.GlobalAvgPool(), fovea.Dropout(0.5), fovea.Dense(classes),
    )  # fmt: skip
    model = fovea.Model(net, (16, 16, 3), seed=4, preprocessing=SIZE)
    rng = np.random.default_rng(5)
    for path, array in {**model.store.parameters, **model.store.buffers}.items():
        if "batchnorm" in path:
            array[...] = rng.uniform(0.5, 1.5, array.shape) * (-1 if path.endswith(".bias") else 1)
    model.store.touch()
    return model


def pictures(n: int = 7, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("conv1", "relu1"), ("batchnorm1", "relu1"), ("relu1", "relu1"), ("maxpool1", "maxpool1"),
        ("block.conv1", "block.relu1"), ("block.conv2", "relu2"), ("block", "relu2"), ("conv2", "batchnorm2"),
        ("conv3", "relu61"), ("globalavgpool1", "globalavgpool1"), ("dense1", "dense1"),
    ],
)  # fmt: skip
def test_a_layer_ends_behind_its_norm_addition_and_activation(asked: str, taken: str) -> None:
    graph = residual_net().graph
    assert fovea.codes(residual_net(), pictures(2), asked).nodes == {asked: taken}
    if asked in graph.nodes:
        assert behind(graph, asked) == taken


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("mobilenetv2", "head.globalavgpool1"), ("squeezenet", "fire9.expand.concat1"), ("vgg11", "head.relu2"),
        ("resnet18", "head.globalavgpool1"), ("convnext_tiny", "head.layernorm1"), ("lenet5", "relu4"),
        ("densenet121", "head.globalavgpool1"), ("efficientnet_b0", "head.globalavgpool1"),
    ],
)  # fmt: skip
def test_the_features_of_known_networks(name: str, features: str) -> None:
    assert penultimate(fovea.models.architecture(name).graph(10)) == features


@pytest.mark.parametrize("engine", available_engines())
def test_codes_are_the_pooled_activations(engine: str) -> None:
    model, x = residual_net(), pictures(9)
    found = fovea.codes(model, x, ["conv1", "block", "conv2", "dense1"], engine=engine, batch_size=4)
    inputs = SIZE.apply_pixels(x)
    kept = model.forward(inputs, keep=["relu1", "relu2", "batchnorm2"])
    for name, node in (("conv1", "relu1"), ("block", "relu2"), ("conv2", "batchnorm2")):
        np.testing.assert_allclose(found[name], kept[node].mean((1, 2)), rtol=2e-5, atol=2e-6)
        assert found[name].dtype == np.float32
    np.testing.assert_allclose(found["dense1"], kept["outputs"], rtol=1e-4, atol=1e-5)
    assert found["conv1"].min() >= 0


def test_pooling_of_maps() -> None:
    model, x = residual_net(), pictures(3)
    kept = model.forward(SIZE.apply_pixels(x), keep=["relu1"])["relu1"]
    for pooling, expected in (("max", kept.max((1, 2))), ("none", kept.reshape(3, -1))):
        np.testing.assert_allclose(
            fovea.codes(model, x, "conv1", pooling=pooling).array, expected, rtol=1e-4, atol=1e-5
        )


def test_the_default_feeds_the_classifier() -> None:
    model, x = residual_net(), pictures(6)
    found = fovea.codes(model, x)
    assert found.nodes == {"globalavgpool1": "globalavgpool1"}
    own = model.store.parameters
    logits = found.array @ own["dense1.weight"] + own["dense1.bias"]
    np.testing.assert_allclose(logits, model.logits(x), rtol=1e-4, atol=1e-5)


def test_the_network_is_cut_behind_the_deepest_layer() -> None:
    part = cut(residual_net(), ["relu1", "maxpool1"])
    assert list(part.graph.nodes) == [
        "input1", "conv1", "batchnorm1", "relu1", "maxpool1", "relu1.code", "maxpool1.code"
    ]  # fmt: skip
    assert part.store is not residual_net().store


def test_every_kind_of_samples_gives_the_same(tmp_path: Path) -> None:
    data = fovea.dataset(images(tmp_path / "set"), val_fraction=0.25)
    model = residual_net()
    streamed = fovea.codes(model, data.train).array
    ids = data.train.ids
    paths = [tmp_path / "set" / name for name in ids]
    inputs = data.train.inputs
    for given in (data.train, inputs, list(inputs), paths, [str(path) for path in paths]):
        for cache in (False, True):
            np.testing.assert_array_equal(fovea.codes(model, given, cache=cache).array, streamed)
    np.testing.assert_allclose(fovea.codes(model, paths[0]).array, streamed[:1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fovea.codes(model, inputs[0]).array, streamed[:1], rtol=1e-5, atol=1e-6)


def test_a_split_is_decoded_piece_by_piece_and_not_kept(tmp_path: Path) -> None:
    split = fovea.dataset(images(tmp_path / "set")).train
    found = fovea.codes(residual_net(), split, batch_size=5)
    assert not split.decoded
    assert len(found.array) == len(split) == len(split.targets)
    assert not split.decoded  # targets, ids and rows are known without the inputs
    assert split.take([1, 0]).ids == (split.ids[1], split.ids[0])
    assert not split.decoded


def test_unreadable_samples_are_left_out_as_the_split_does(tmp_path: Path) -> None:
    root = images(tmp_path / "set")
    broken = fovea.dataset(root).train.ids[3]
    (root / broken).write_bytes(b"no picture")
    first, second = (fovea.dataset(root, max_bad=0.2).train for _ in range(2))
    found = fovea.codes(residual_net(), first, batch_size=4).array
    expected = fovea.codes(residual_net(), second.inputs).array
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert [bad.path for bad in first.quarantined] == [broken]
    third = fovea.dataset(root, max_bad=0.2).train
    fovea.codes(residual_net(), third)  # from the cache
    assert third.ids == second.ids
    assert not third.decoded
    assert third.quarantined[0].path == broken


def test_another_size_than_the_data_sets_own(tmp_path: Path) -> None:
    root = images(tmp_path / "set", side=20)
    split = fovea.dataset(root, size=8).train
    assert split.inputs.shape[1:] == (8, 8, 3)
    prepared = fovea.dataset(root).prepared(SIZE).train
    np.testing.assert_array_equal(
        fovea.codes(residual_net(), split, cache=False).array,
        fovea.codes(residual_net(), prepared.inputs, cache=False).array,
    )


def test_a_model_without_preprocessing_takes_network_input() -> None:
    model, x = residual_net(), pictures(4)
    expected = fovea.codes(model, x).array
    model.preprocessing = None
    np.testing.assert_allclose(fovea.codes(model, SIZE.apply_pixels(x)).array, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match=r"\[codes\] expected a model that knows its preprocessing"):
        fovea.codes(model, x)


def test_a_quantised_model_gives_codes() -> None:
    model, x = residual_net(), pictures(24)
    expected = fovea.codes(model, x, ["conv1", "conv3"])
    quantised = fovea.quantize(model, SIZE.apply_pixels(x))
    found = fovea.codes(quantised, x, ["conv1", "conv3"])
    for name in found:
        assert np.abs(found[name] - expected[name]).max() < 0.06 * np.abs(expected[name]).max()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"layers": "conv9"}, GraphError, "near names: conv3, conv2, conv1"),
        ({"layers": ["conv1", 3]}, ConfigError, "expected layers as a list of names"),
        ({"layers": []}, ConfigError, "expected layers as a list of names"),
        ({"layers": "input1"}, GraphError, r"\[input1\] expected a layer, got an input"),
        ({"pooling": "median"}, ConfigError, "expected pooling as one of mean, max, none, got 'median'"),
        ({"batch_size": 0}, ConfigError, "expected batch_size as an integer of at least 1, got 0"),
        ({"samples": 3}, DataError, "expected a split, images or paths, got int"),
        ({"samples": []}, DataError, "expected at least one sample"),
        ({"samples": ["no.png"]}, DataError, r"\[no.png\] expected a file"),
        ({"samples": ["no.png", pictures(1)[0]]}, DataError, "expected paths or images, got both"),
        ({"model": "resnet.safetensors"}, ConfigError, "expected a Model, got str"),
    ],
)  # fmt: skip
def test_mistakes(change: dict[str, Any], error: type[Exception], text: str) -> None:
    given = {"model": residual_net(), "samples": pictures(2), **change}
    with pytest.raises(error, match=text):
        fovea.codes(given.pop("model"), given.pop("samples"), **given)


def test_a_whole_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected one split of set, got all of it; give data\.train"):
        fovea.codes(residual_net(), fovea.dataset(images(tmp_path / "set")))
