"""Weights of Keras in our networks: three formats, names of Keras Applications, order, where its networks differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import models
from fovea.errors import ModelFileError
from fovea.models.keras_names import KERAS
from tests.interop.keras_writer import FORMATS, Layer, layers_of, write

h5py = pytest.importorskip("h5py")


def random_model(name: str, **options: Any) -> fovea.Model:
    """A network with numbers in every array, statistics included."""
    model = models.create(name, **options)
    rng = np.random.default_rng(0)
    for path, array in model.store.tensors().items():
        low, high = (0.5, 1.5) if path.endswith("running_var") else (-0.3, 0.3)
        array[...] = rng.uniform(low, high, array.shape)
    return model


def same_arrays(model: fovea.Model, other: fovea.Model) -> None:
    for path, array in model.store.tensors().items():
        np.testing.assert_array_equal(array, other.store.tensors()[path], err_msg=path)


def norms(model: fovea.Model) -> set[float]:
    return {node.op.eps for node in model.graph.nodes.values() if node.op.kind == "batchnorm"}


# As Keras 3.15 prints them: some of every network's, and how many layers have arrays.
KNOWN = {
    "resnet50": (107, {"conv1_conv", "conv2_block1_0_conv", "conv2_block1_0_bn", "conv5_block3_3_bn", "predictions"}),
    "vgg16": (16, {"block1_conv1", "block5_conv3", "fc1", "fc2", "predictions"}),
    "densenet121": (242, {"conv1_bn", "conv2_block1_0_bn", "conv5_block16_2_conv", "pool2_bn", "pool4_conv", "bn"}),
    "mobilenetv2": (105, {"conv1", "bn_conv1", "expanded_conv_project_bn", "block_16_depthwise", "conv_1_bn"}),
    "mobilenetv3_large": (110, {"expanded_conv_depthwise", "expanded_conv_14_squeeze_excite_conv_1", "logits"}),
    "mobilenetv3_small": (88, {"conv_bn", "expanded_conv_squeeze_excite_conv", "expanded_conv_10_project_bn"}),
    "efficientnet_b0": (131, {"stem_bn", "block1a_dwconv", "block2a_expand_conv", "block7a_se_reduce", "top_bn"}),
    "convnext_tiny": (
        100,
        {
            "convnext_tiny_stem_layernorm", "convnext_tiny_downsampling_conv_2", "convnext_tiny_head_dense",
            "convnext_tiny_stage_0_block_0_pointwise_conv_1", "convnext_tiny_stage_3_block_2_layer_scale",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_names_of_keras_applications(name: str) -> None:
    count, some = KNOWN[name]
    names = KERAS[name].names(models.architecture(name).graph())
    assert len(names) == len(set(names)) == count
    assert some <= set(names)


@pytest.mark.parametrize(
    ("name", "file"), [*(("mobilenetv3_small", file) for file in FORMATS), ("mobilenetv2", "net.keras")]
)
def test_a_file_in_each_format(tmp_path: Path, name: str, file: str) -> None:
    """The file tells the number of classes; padding and eps of Keras's network come with its names."""
    expected = random_model(name, num_classes=7, padding="same")
    names = KERAS[name].names(expected.graph)
    path = write(tmp_path / file, layers_of(expected, [name.upper() for name in names]), eps=1e-3)
    model = models.create(name, weights=path)
    same_arrays(model, expected)
    assert model.provenance["weights"]["matched"] == f"{len(names)} layers by the names of Keras Applications"
    assert norms(model) == {1e-3}
    convolutions = [node.op for node in model.graph.nodes.values() if node.op.kind == "conv" and node.op.groups > 1]
    assert {op.padding for op in convolutions} == {"same"}
    other: Any = 1 if name == "mobilenetv2" else "half"
    assert models.create(name, weights=path, padding=other).graph.node("stem.conv1").op.padding != "same", (
        "one may insist"
    )


def test_names_of_older_versions(tmp_path: Path) -> None:
    expected = random_model("mobilenetv3_small", num_classes=3, padding="same")
    older = [one.replace("_bn", "/BatchNorm") for one in KERAS["mobilenetv3_small"].names(expected.graph)]
    model = models.mobilenetv3_small(weights=write(tmp_path / "net.h5", layers_of(expected, older)))
    same_arrays(model, expected)


def test_a_bias_before_a_norm_moves_its_mean(tmp_path: Path) -> None:
    """Keras's ResNet-50 has such biases, strides in the first convolution of a block, and an eps of its own."""
    expected = random_model("resnet50", num_classes=3, stride_at="1x1", input_shape=(32, 32, 3))
    layers = layers_of(expected, KERAS["resnet50"].names(expected.graph))
    rng = np.random.default_rng(1)
    for kind, _, arrays in layers:
        if kind == "Conv2D":
            arrays["bias"] = rng.uniform(-0.2, 0.2, arrays["kernel"].shape[-1]).astype(np.float32)
    model = models.resnet50(weights=write(tmp_path / "net.weights.h5", layers), input_shape=(32, 32, 3))
    strides = [model.graph.node(f"stage2.block0.conv{number}").op.stride for number in (1, 2)]
    assert strides == [2, 1]
    assert norms(model) == {1.001e-5}
    moved = expected.buffers()["stem.batchnorm1.running_mean"] - layers[0][2]["bias"]
    np.testing.assert_array_equal(model.buffers()["stem.batchnorm1.running_mean"], moved)
    np.testing.assert_array_equal(
        model.parameters()["stage3.block0.conv2.weight"], expected.parameters()["stage3.block0.conv2.weight"]
    )


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("file", FORMATS)
def test_unknown_names_by_class_and_order(tmp_path: Path, file: str, names: bool) -> None:
    expected = random_model("small_cnn", num_classes=4, input_shape=(16, 16, 3))
    count = sum(bool(node.parameters) for node in expected.graph.nodes.values())
    layers = layers_of(expected, [f"mine_{index}" for index in range(count)])
    model = models.small_cnn(input_shape=(16, 16, 3), weights=write(tmp_path / file, layers, 2e-3, names))
    same_arrays(model, expected)
    assert norms(model) == {1e-3 if file == "net.weights.h5" else 2e-3}, "Keras's own where the file does not tell"
    assert "by order and shape alone: check outputs" in model.provenance["weights"]["matched"]


def test_order_where_names_are_missing(tmp_path: Path) -> None:
    """Shortcut and third convolution of a bottleneck have one shape: Keras counts the shortcut first."""
    expected = random_model("resnet50", num_classes=2, stride_at="1x1", input_shape=(32, 32, 3))
    names = KERAS["resnet50"].names(expected.graph)
    layers = layers_of(expected, names)
    spot = {name: index for index, name in enumerate(names)}
    for block in (name[: -len("_0_conv")] for name in names if name.endswith("_0_conv")):
        for kind in ("conv", "bn"):
            first, second = spot[f"{block}_0_{kind}"], spot[f"{block}_3_{kind}"]
            low, high = min(first, second), max(first, second)
            layers[low], layers[high] = layers[first], layers[second]
    path = write(tmp_path / "net.weights.h5", layers, names=False)
    same_arrays(models.resnet50(weights=path, input_shape=(32, 32, 3)), expected)


@pytest.fixture
def layers() -> list[Layer]:
    return layers_of(random_model("lenet5", num_classes=3), ["a", "b", "c", "d", "e"])


def test_what_does_not_fit_is_named(tmp_path: Path, layers: list[Layer]) -> None:
    fifth = layers[4][2]
    cases = [
        (layers[:-1], r"expected 5 layers with weights as lenet5 has, got 4 \(a, b, c, ...\)"),
        ([*layers, ("Dense", "f", dict(fifth))], r"expected 5 layers .* got 6"),
        (
            [*layers[:4], ("Dense", "e", {"kernel": np.zeros((85, 3), np.float32), "bias": fifth["bias"]})],
            r"shape \(84",
        ),
        ([*layers[:4], ("Dense", "e", {"kernel": fifth["kernel"]})], r"expected e.bias for our dense3.bias"),
        ([*layers[:4], ("Dense", "d", dict(fifth))], r"expected every layer once, got 'd' twice"),
    ]
    for stored, message in cases:
        path = write(tmp_path / "net.keras", stored)
        with pytest.raises(ModelFileError, match=message):
            models.lenet5(num_classes=3, weights=path)
