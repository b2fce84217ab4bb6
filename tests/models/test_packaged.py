"""Weights that come with fovea: small, whole, of known origin, right on real images, and used like any others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import fovea
from fovea import models
from fovea.errors import ConfigError, ModelFileError
from fovea.models.packaged import FOLDER, Packaged, packaged, packaged_for

LARGEST = 3_000_000
"""Bytes of all files: what an installation pays for weights that it may never use."""
FILES = {f"{one.network}:{one.name}": one for one in packaged()}
everyone = pytest.mark.parametrize("one", FILES.values(), ids=FILES)


def test_they_are_small_and_each_has_a_card() -> None:
    assert {"lenet5:mnist", "resnet20:cifar10"} <= set(FILES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LARGEST
    names = {path.stem for path in FOLDER.iterdir()}
    assert {path.name for path in FOLDER.iterdir()} == {name + end for name in names for end in (".md", ".safetensors")}


@everyone
def test_a_file_is_of_known_origin_and_says_so(one: Packaged) -> None:
    with safe_open(one.file, framework="numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118  # no mapping
    about = one.about
    assert re.fullmatch("[0-9a-f]{64}", about["fingerprint"])
    assert about["split"] == "val", "validation chose the epoch"
    assert about["seed"] == about["train"]["seed"]
    assert one.commands[0].startswith(
        f"fovea train {one.name} --model {one.network} --epochs {about['train']['epochs']}"
    )
    assert one.commands[2].startswith("fovea evaluate ")
    assert one.samples == 10_000
    assert 0.8 < one.accuracy < 1
    assert abs(one.accuracy - about["metrics"]["accuracy"]) < 0.02, "validation and test are drawn alike"
    card = one.card.read_text(encoding="utf-8")
    said = (f"{one.accuracy:.2%} of 10,000", f"{one.file.stat().st_size:,} bytes", one.licence, about["fingerprint"])
    for text in (one.data, *said, *one.commands):
        assert text in card
    assert ("JPEG" in card) == (one.name == "cifar10")


@everyone
def test_class_names_and_preprocessing_come_with_them(one: Packaged) -> None:
    model = models.create(one.network, weights=one.name)
    again = fovea.load(f"{one.network}:{one.name}")
    assert model.graph.nodes == again.graph.nodes == models.architecture(one.network).graph().nodes
    for path, array in fovea.load(one.file).store.tensors().items():
        np.testing.assert_array_equal(model.store.tensors()[path], array)
        np.testing.assert_array_equal(again.store.tensors()[path], array)
    kept = fovea.load(one.file)
    for made in (model, again):
        assert made.classes == kept.classes
        assert made.preprocessing == kept.preprocessing
        assert made.task == kept.task
        assert made.provenance["weights"] == {"file": one.file.name, "name": one.name, "of": kept.provenance}
        assert made.provenance["fingerprint"] == one.about["fingerprint"]
    assert models.default_weights(one.network) == one.name


@everyone
def test_they_are_right_about_real_images(one: Packaged, outside_data: Callable[[str], Path]) -> None:
    test = fovea.dataset(outside_data(one.name)).test
    assert test is not None
    rows = np.arange(0, len(test), 20)
    found = models.create(one.network, weights=one.name).predict(test.inputs[rows], top_k=1)
    names = np.array([prediction.label for prediction in found])
    right = float((names == np.array(test.classes)[test.targets[rows]]).mean())
    margin = 4 * np.sqrt(one.accuracy * (1 - one.accuracy) / len(rows))
    assert abs(right - one.accuracy) < margin, (right, one.accuracy)


def test_another_number_of_classes_keeps_the_backbone_and_starts_the_head_fresh() -> None:
    plain = models.resnet20(weights="cifar10")
    model = models.resnet20(num_classes=3, weights="cifar10", seed=4)
    fresh = models.resnet20(num_classes=3, seed=4)
    for path, array in model.store.tensors().items():
        other = fresh if path.startswith("head.dense1") else plain
        np.testing.assert_array_equal(array, other.store.tensors()[path], err_msg=path)
    assert model.classes is None
    assert model.preprocessing == plain.preprocessing
    assert model.task == fresh.task
    assert set(model.provenance) == {"weights"}, "nobody has trained this model yet"
    assert model.provenance["weights"]["fresh"] == "head.dense1, since the file has 10 outputs and not 3"
    named = models.resnet20(classes=["cat", "dog"], weights="cifar10")
    assert named.classes == ("cat", "dog")


def test_inputs_of_another_size_are_prepared_for_it() -> None:
    own = models.resnet20(weights="cifar10").preprocessing
    for size, wanted in (((48, 64), (48, 64)), ((None, None), None)):
        model = models.resnet20(input_shape=(*size, 3), weights="cifar10")
        assert model.preprocessing is not None
        assert model.preprocessing.size == wanted
        assert (model.preprocessing.mean, model.preprocessing.std) == (own.mean, own.std)
    with pytest.raises(ModelFileError, match=r"expected dense1.weight with shape .* for lenet5, got \(400, 120\)"):
        models.lenet5(input_shape=(32, 32, 1), weights="mnist")


def test_words_that_name_nothing_list_what_there_is() -> None:
    for call in (lambda: models.resnet20(weights="imagenet"), lambda: fovea.load("resnet20:imagenet")):
        with pytest.raises(ConfigError, match=r"expected a file of weights, or cifar10, got 'imagenet', which is none"):
            call()
    with pytest.raises(ConfigError, match="or torchvision, got 'cifar10'"):
        models.resnet18(weights="cifar10")
    with pytest.raises(ConfigError, match="expected a file of weights, got 'cifar10'"):
        models.vgg_small(weights="cifar10")
    with pytest.raises(ConfigError, match=r"near names: .*resnet20"):
        fovea.load("resnet21:cifar10")
    with pytest.raises(ConfigError, match="its options are shortcut"):
        models.resnet20(weights="cifar10", width=2)
    for name, fix in (("lenet5", "give lenet5:mnist"), ("vgg_small", "train it, or give its weights")):
        with pytest.raises(ModelFileError, match=f"got the name of a network alone; {fix}"):
            fovea.load(name)
    assert packaged_for("resnet18") == {}
    assert models.default_weights("resnet18") == "torchvision"
    assert models.default_weights("vgg_small") is None


def test_the_head_of_every_network_is_its_last_layer_with_weights() -> None:
    """So that a fresh head is one layer, whatever the network."""
    for name in models.names("classification"):
        record = models.architecture(name)
        few, many = (record.graph(num_classes=count) for count in (4, 7))
        shapes = [{path: spec.shape for path, spec in graph.parameters().items()} for graph in (few, many)]
        changed = {path for path, shape in shapes[0].items() if shapes[1][path] != shape}
        last = [node for node in few.nodes.values() if node.parameters][-1]
        assert changed == set(last.parameters), name
