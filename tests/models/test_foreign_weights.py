"""Weights of other libraries in our networks: the same outputs as the networks that they come from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import fovea
from bench import pretrained
from fovea import models
from fovea.errors import ModelFileError
from fovea.models.foreign import Foreign
from fovea.models.foreign_names import SCHEMES
from tests.models.torchvision_peers import torchvision_models

torch = pytest.importorskip("torch")
WEIGHTS, DATA = os.environ.get("FOVEA_WEIGHTS"), os.environ.get("FOVEA_DATA")
needs_files = pytest.mark.skipif(not WEIGHTS or not DATA, reason="needs FOVEA_WEIGHTS and FOVEA_DATA")

PEERS = {
    "resnet18": ("resnet18", {}, 64),
    "resnet50": ("resnet50", {}, 64),
    "mobilenetv2": ("mobilenet_v2", {}, 64),
    "vgg11": ("vgg11", {}, 64),
    "alexnet": ("alexnet", {}, 96),
    "squeezenet": ("squeezenet1_0", {}, 64),
    "densenet121": ("densenet121", {}, 64),
    "googlenet": ("googlenet", {"aux_logits": True, "init_weights": False}, 64),
    "mobilenetv3_large": ("mobilenet_v3_large", {}, 64),
    "mobilenetv3_small": ("mobilenet_v3_small", {}, 64),
    "efficientnet_b0": ("efficientnet_b0", {}, 64),
    "convnext_tiny": ("convnext_tiny", {}, 64),
    "shufflenetv2": ("shufflenet_v2_x1_0", {}, 64),
}


def peer(name: str, classes: int = 7) -> Any:
    """torchvision's network with random weights and statistics, ready for inference."""
    theirs, options, _ = PEERS[name]
    torch.manual_seed(0)
    network = getattr(torchvision_models(), theirs)(num_classes=classes, **options)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def compare(model: fovea.Model, network: Any, size: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy()
    np.testing.assert_allclose(model(x), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "pth") for name in PEERS),
        *((name, "safetensors") for name in ("resnet18", "densenet121", "mobilenetv2")),
    ],
)
def test_names_of_torchvision(tmp_path: Path, name: str, kind: str) -> None:
    network = peer(name)
    path = tmp_path / f"net.{kind}"
    if kind == "pth":
        torch.save({"state_dict": network.state_dict(), "epoch": 3}, path)
    else:  # keys in alphabetical order
        safetensors.numpy.save_file({key: value.numpy() for key, value in network.state_dict().items()}, path)
    side = PEERS[name][2]
    model = models.create(name, input_shape=(side, side, 3), weights=path)  # the file tells the number of classes
    assert model.graph.output_shapes == ((7,),)
    layers = sum(bool(node.parameters) for node in model.graph.nodes.values())
    told = model.provenance["weights"]
    assert told["file"] == path.name
    assert told["matched"].startswith(f"{layers} layers by the names of torchvision")
    compare(model, network, side)


def assign(model: fovea.Model, tensors: dict[str, Any]) -> None:
    Foreign.of_torch("net.pth", tensors).match(model.name, model.graph).assign(model)


def test_unknown_names_by_order() -> None:
    network = peer("resnet18")
    theirs = {key: value.numpy() for key, value in network.state_dict().items()}
    renamed = {
        f"encoder.m{key.rpartition('.')[0].replace('.', '_')}.{key.rpartition('.')[2]}": theirs[key] for key in theirs
    }
    model = models.resnet18(num_classes=7, input_shape=(64, 64, 3))
    assign(model, renamed)
    compare(model, network, 64)


def as_torchvision(model: fovea.Model) -> dict[str, np.ndarray]:
    """The model's numbers as torchvision would store them."""
    stored = {}
    nodes = [node for node in model.graph.nodes.values() if node.parameters]
    for node, name in zip(nodes, SCHEMES[model.name][0].names(model.graph), strict=True):
        for path in (*node.parameters, *node.buffers):
            array = model.store.tensors()[path]
            stored[f"{name}.{path.rpartition('.')[2]}"] = (
                np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array
            )
    return stored


@pytest.mark.parametrize("wrapped", ["module.", "_orig_mod.", "model.backbone."])
def test_names_inside_of_what_trainers_wrap_around_networks(wrapped: str) -> None:
    trained = models.resnet20(num_classes=3, seed=4)
    model = models.resnet20(num_classes=3)
    tensors = {
        wrapped + name: array for name, array in reversed(as_torchvision(trained).items())
    }  # in no order of ours
    assign(model, tensors)
    for path, array in model.store.tensors().items():
        np.testing.assert_array_equal(array, trained.store.tensors()[path])


def test_bfloat16_of_safetensors(tmp_path: Path) -> None:
    numbers = as_torchvision(models.resnet20(num_classes=3, seed=4))
    bits = {name: np.ascontiguousarray(array).view(np.uint32) >> 16 for name, array in numbers.items()}
    header, place = {}, 0
    for name, array in bits.items():
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": [place, place + 2 * array.size]}
        place += 2 * array.size
    text = json.dumps(header).encode()
    content = [len(text).to_bytes(8, "little"), text, *(array.astype("<u2").tobytes() for array in bits.values())]
    (tmp_path / "net.safetensors").write_bytes(b"".join(content))
    read = as_torchvision(models.resnet20(weights=tmp_path / "net.safetensors"))
    for name, array in bits.items():
        np.testing.assert_array_equal(read[name], (array << 16).view(np.float32))


def test_timm_names_of_mobilenetv2() -> None:
    network = peer("mobilenetv2")
    theirs = {key: value.numpy() for key, value in network.state_dict().items()}
    model, expected = models.mobilenetv2(num_classes=7), models.mobilenetv2(num_classes=7)
    assign(expected, theirs)
    first, second = (scheme.names(model.graph) for scheme in SCHEMES["mobilenetv2"][:2])
    pairs = dict(zip(first, second, strict=True))
    assign(model, {f"{pairs[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in theirs.items()})
    for path, array in model.store.tensors().items():
        np.testing.assert_array_equal(array, expected.store.tensors()[path])
    assert {"conv_stem", "bn1", "blocks.0.0.conv_dw", "blocks.0.0.conv_pw", "blocks.6.0.conv_pwl"} < set(second)


def changed(tensors: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {key: (value if key == name else array) for key, array in tensors.items()}


def test_what_does_not_fit_is_named() -> None:
    good = {key: value.numpy() for key, value in peer("resnet18").state_dict().items()}
    model = models.resnet18(num_classes=7)
    before = {path: array.copy() for path, array in model.store.tensors().items()}
    without_norm = {key: array for key, array in good.items() if not key.startswith("bn1.")}
    cases = [
        (without_norm, r"expected 41 layers with weights as resnet18 has, got 40 \(conv1"),
        (
            changed(good, "fc.weight", np.zeros((9, 512), np.float32)),
            r"head.dense1.weight with shape \(512, 7\), got fc",
        ),
        ({**good, "extra.weight": np.zeros(3)}, r"got extra besides"),
        ({key: array for key, array in good.items() if key != "fc.bias"}, r"expected fc.bias for our head.dense1.bias"),
        ({**good, "conv1.bias": np.zeros(64)}, r"got conv1.bias besides; build the network as the file's"),
    ]
    for tensors, message in cases:
        with pytest.raises(ModelFileError, match=message):
            assign(model, tensors)
    for path, array in model.store.tensors().items():
        np.testing.assert_array_equal(array, before[path])


@needs_files
@pytest.mark.parametrize("name", pretrained.NETWORKS)
def test_published_weights_on_real_pictures(tmp_path: Path, name: str) -> None:
    """As many right, within two, as plain NumPy found; resnet20 on all test images of CIFAR-10."""
    found = list(pretrained.counts(name, tmp_path))
    assert {(name, what) for what, *_ in found} == {key for key in pretrained.EXPECTED if key[0] == name}
    for what, _, first, five in found:
        wanted, wanted_five = pretrained.EXPECTED[name, what]
        assert abs(first - wanted) <= pretrained.WITHIN, what
        assert not wanted_five or abs(five - wanted_five) <= pretrained.WITHIN, what


@needs_files
@pytest.mark.parametrize("name", pretrained.NETWORKS)
def test_exports_see_photographs_as_we_do(tmp_path: Path, name: str) -> None:
    """onnxruntime on `export --images`: every byte within one step, the same first class on every photograph."""
    pytest.importorskip("onnxruntime")
    found = pretrained.compared(name, pretrained.photographs())
    assert found["apart"] <= 1
    assert found["other"] == []
    assert found["pictures"] > 20
