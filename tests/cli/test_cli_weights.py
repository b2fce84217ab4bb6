"""`fovea import` of weights, and `fovea models` as the place that says which there are."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import fovea as package
from fovea import models
from fovea.errors import ConfigError, ModelFileError
from tests.tiny_data import images

Answer = tuple[int, str, str]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """SqueezeNet for three classes under torchvision's names."""
    from fovea.models.foreign_names import SCHEMES

    model = models.squeezenet(num_classes=3, seed=2)
    names = SCHEMES["squeezenet"][0].names(model.graph)
    tensors = {}
    for node, name in zip([node for node in model.graph.nodes.values() if node.parameters], names, strict=True):
        tensors[f"{name}.weight"] = np.moveaxis(model.parameters()[f"{node.name}.weight"], (-1, -2), (0, 1)).copy()
        tensors[f"{name}.bias"] = model.parameters()[f"{node.name}.bias"]
    safetensors.numpy.save_file(tensors, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_import_of_weights(fovea: Callable[..., Answer], checkpoint: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("n02219486 ant\nbee\ncat\n")  # some lists name WordNet's sets too
    words = ["--preprocess", "caffe", "--labels", labels, "--network", "squeezenet", "--option", "head_padding=1"]
    code, out, err = fovea("import", checkpoint, "-o", tmp_path / "out.safetensors", *words)
    assert code == 0, err
    assert "squeezenet: 26 layers by the names of torchvision" in out
    model = package.load(tmp_path / "out.safetensors")
    assert model.classes == ("ant", "bee", "cat")
    assert model.graph.node("head.conv1").op.padding == 1
    assert model.preprocessing is not None
    assert (model.preprocessing.order, model.preprocessing.mean[0], model.preprocessing.scale) == ("bgr", 103.939, 1.0)
    expected = models.squeezenet(num_classes=3, seed=2).parameters()["stem.conv1.weight"]
    np.testing.assert_array_equal(model.parameters()["stem.conv1.weight"], expected)


@pytest.mark.parametrize(
    ("option", "instead"),
    [("num_classes=10", "the weights tell it"), ("classes=3", "--labels"), ("input_shape=32", "--input-shape")],
)
def test_an_option_is_the_networks_own(
    fovea: Callable[..., Answer], checkpoint: Path, tmp_path: Path, option: str, instead: str
) -> None:
    words = ["import", checkpoint, "--network", "squeezenet", "--option", option, "-o", tmp_path / "out.safetensors"]
    code, _, err = fovea(*words)
    assert code == 2
    assert err.startswith("[--option] expected an option of the network itself, got ")
    assert instead in err


def test_weights_that_are_not_there(fovea: Callable[..., Answer], tmp_path: Path) -> None:
    code, _, err = fovea("import", tmp_path / "no.safetensors", "-o", tmp_path / "out.safetensors")
    assert code == 2
    assert "found none at" in err


@pytest.mark.parametrize("classes", [3, "cat"])
def test_class_names_of_a_network_are_a_list(classes: object) -> None:
    with pytest.raises(ConfigError, match=r"\[lenet5\] expected classes as a list of names, got"):
        models.lenet5(classes=classes)


def test_load_takes_weights_of_a_known_network(checkpoint: Path, tmp_path: Path) -> None:
    model = package.load(checkpoint)
    assert (model.name, model.graph.output_shapes) == ("squeezenet", ((3,),))
    unknown = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a.weight": np.zeros((2, 2), np.float32)}, unknown)
    with pytest.raises(ModelFileError, match=r"have the names of no network that is known; give it") as caught:
        package.load(unknown)
    assert "\n" not in str(caught.value)


def test_names_of_layers_tell_the_network(fovea: Callable[..., Answer], checkpoint: Path, tmp_path: Path) -> None:
    code, out, err = fovea("import", checkpoint, "-o", tmp_path / "out.safetensors")
    assert code == 0, err
    assert "squeezenet: 26 layers" in out
    assert "see --preprocess" in out


def test_options_go_on_top_of_what_the_file_says(fovea: Callable[..., Answer], tmp_path: Path) -> None:
    """An export of ours knows its preprocessing: what no option names stays."""
    pytest.importorskip("onnx")
    how = package.Preprocessing(size=(32, 32), resize_to=40, scale=1.0, order="bgr", mean=(9.0,) * 3, std=(4.0,) * 3)
    models.resnet20(preprocessing=how).save(tmp_path / "own.safetensors")
    assert fovea("export", tmp_path / "own.safetensors", "-o", tmp_path / "net.onnx")[0] == 0
    for words, changes in (
        (["--mean", "1,2,3"], {"mean": (1.0, 2.0, 3.0)}),
        (["--resize", "stretch"], {"resize": "stretch", "resize_to": None}),
        (["--size", "32"], {}),
    ):
        code, _, err = fovea("import", tmp_path / "net.onnx", "-o", tmp_path / "again.safetensors", *words)
        assert code == 0, err
        assert package.load(tmp_path / "again.safetensors").preprocessing == dataclasses.replace(how, **changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["FILE", "--network", "resnet18"], "expected 41 layers with weights as resnet18 has, got 26"),
        (["FILE", "--network", "resnet81"], "expected the name of a model, got 'resnet81'"),
        (["FILE", "--option", "padding"], "expected KEY=VALUE such as padding=same, got 'padding'"),
        (["FILE", "--option", "width=2"], "got width; its options are dropout, head_padding"),
        (["FILE", "--size", "100"], "expected 224,224, the only size of this network, got 100"),
        (["FILE", "--preprocess", "keras"], "expected one of imagenet, tf, caffe, got 'keras'"),
        (["OTHER"], "have the names of no network that is known; give it: fovea import --network"),
        (["NOTE"], "expected a file of ONNX, PyTorch, Keras or safetensors"),
        (["OWN"], "expected a file of another system"),
        (["torchvision"], "expected the name of a network for torchvision"),
        (["torchvision", "--network", "lenet5"], "got none for this network"),
        (["nothing.pth"], "nothing.pth"),
        (["net.tflite", "--network", "lenet5"], "TensorFlow Lite"),
        (["net.onnx", "--network", "lenet5"], "got an ONNX file; leave it out"),
    ],
)
def test_mistakes(
    fovea: Callable[..., Answer], checkpoint: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    other, own = tmp_path / "other.safetensors", tmp_path / "own.safetensors"
    safetensors.numpy.save_file({"a.weight": np.zeros((2, 2), np.float32)}, other)
    models.lenet5().save(own)
    note = tmp_path / "note.txt"
    note.write_text("hello")
    files = {"FILE": checkpoint, "OTHER": other, "OWN": own, "NOTE": note}
    code, out, err = fovea("import", *(files.get(word, word) for word in words), "-o", tmp_path / "out.safetensors")
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not out
    assert not (tmp_path / "out.safetensors").exists()


def test_models_says_where_weights_come_from(fovea: Callable[..., Answer]) -> None:
    code, out, _ = fovea("models", "--json")
    listed = {one["name"]: one for one in json.loads(out)}
    assert code == 0
    assert set(listed) == set(models.names())
    assert listed["resnet18"]["macs"] == 1_814_073_344
    assert listed["resnet50"]["weights"][0]["top1"] == 80.858
    assert listed["vgg_small"]["weights"] == []
    kept = listed["lenet5"]["weights"][0]
    assert (kept["weights"], kept["samples"], kept["licence"]) == ("mnist", 10_000, "Apache-2.0")
    assert Path(kept["card"]).exists()
    table = fovea("models")[1].splitlines()
    assert table[0].split()[:5] == ["name", "input", "parameters", "MACs", "top-1"]
    assert next(line for line in table if line.startswith("resnet18 ")).split()[1:6] == [
        "224x224x3", "11,689,512", "1.81", "G", "69.8",
    ]  # fmt: skip


def test_one_network_in_detail(fovea: Callable[..., Answer]) -> None:
    code, out, _ = fovea("models", "mobilenetv2")
    assert code == 0
    assert "norm='batch', padding=1" in out
    assert "torchvision, timm, Keras Applications" in out
    assert "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth" in out
    assert json.loads(fovea("models", "resnet50", "--json")[1])["options"] == {"stride_at": "3x3"}
    assert "none that fovea downloads" in fovea("models", "vgg_small")[1]
    out = fovea("models", "lenet5")[1]
    assert re.search(r'weights     "mnist" \(MODEL: lenet5:mnist\): top-1 99\.\d\d % of 10,000 test images', out)
    assert "$ fovea train mnist --model lenet5" in out


def test_a_model_may_be_a_network_and_its_weights(fovea: Callable[..., Answer], tmp_path: Path) -> None:
    picture = tmp_path / "digit.png"
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 13:16] = 255
    Image.fromarray(pixels).save(picture)
    code, out, err = fovea("predict", "lenet5:mnist", picture, "--json")
    assert code == 0, err
    assert json.loads(out)[0]["label"] == "1"
    assert fovea("summary", "lenet5:mnist")[1].splitlines()[-1] == fovea("summary", "lenet5")[1].splitlines()[-1]
    code, _, err = fovea("predict", "lenet5:cifar", picture)
    assert code == 2
    assert err.startswith("[lenet5] expected a file of weights, or mnist, got 'cifar', which is none")
    assert len(err.splitlines()) == 1


def test_training_continues_from_weights_that_come_with_fovea(fovea: Callable[..., Answer], tmp_path: Path) -> None:
    data = images(tmp_path / "data", per_class=6, side=32)
    words = ("--model", "resnet20:cifar10", "--epochs", "1", "--out", tmp_path / "run", "--engine", "reference")
    code, _, err = fovea("train", data, *words)
    assert code == 0, err
    assert "resnet20: continues from the weights cifar10; fresh: head.dense1, since the file has 10 outputs" in err
    assert package.load(tmp_path / "run").classes == ("green", "red")
    code, out, err = fovea("models", "resnet5")
    assert (code, out) == (2, "")
    assert "near names" in err
