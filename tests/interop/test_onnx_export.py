"""Models of ours as ONNX: every op, the zoo, and images in, run by onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import models
from fovea.errors import ModelFileError
from fovea.model import Model
from tests.op_samples import SAMPLES, Sample

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
exporting = pytest.importorskip("fovea.interop.onnx.export")
loading = pytest.importorskip("fovea.interop.onnx.load")
ort.set_default_logger_severity(4)

REFUSED = {
    "avgpool-dilation": "dilated average pooling",
    "pad-circular": "circular padding",
}
"""Op samples that ONNX has no operator for, by the beginning of their name."""
ELSEWHERE = ("lrn-even", "constant")
"""What onnxruntime does not compute, and a graph without inputs."""


def session(proto: Any) -> Any:
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def channels_first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim > 2 else array


def agree(model: Model, inputs: list[np.ndarray], tolerance: float = 1e-5) -> None:
    """onnxruntime on the export against our reference engine."""
    theirs = session(exporting.onnx_model(model))
    results: Any = model.compile("reference", len(inputs[0])).forward(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    feeds = {one.name: channels_first(array) for one, array in zip(theirs.get_inputs(), inputs, strict=True)}
    for ours, given in zip(results, theirs.run(None, feeds), strict=True):
        candidates = [given, np.moveaxis(given, 1, -1) if given.ndim > 2 else given]
        errors = [np.abs(one - ours).max() for one in candidates if one.shape == ours.shape]
        assert errors
        assert min(errors) <= tolerance * max(1.0, float(np.abs(ours).max()))


def exportable(sample: Sample) -> bool:
    return not sample.op.is_loss and not sample.id.startswith(ELSEWHERE)


@pytest.mark.parametrize("sample", [pytest.param(one, id=one.id) for one in SAMPLES if exportable(one)])
def test_op_samples(sample: Sample) -> None:
    model = Model(sample.graph())
    why = next((reason for start, reason in REFUSED.items() if sample.id.startswith(start)), None)
    if why is not None:
        with pytest.raises(ModelFileError, match=why):
            exporting.onnx_model(model)
        return
    agree(model, [np.asarray(one) for one in sample.inputs()], 1e-4)


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [("lenet5", 28, 1), ("resnet20", 32, 3), ("mobilenetv2", 64, 3), ("densenet121", 64, 3), ("googlenet", 64, 3),
     ("convnext_tiny", 64, 3), ("shufflenetv2", 64, 3), ("mobilenetv3_small", 64, 3), ("efficientnet_b0", 64, 3),
     ("squeezenet", 64, 3), ("alexnet", 96, 3)],
)  # fmt: skip
def test_zoo(name: str, side: int, channels: int) -> None:
    model = models.create(name, 7, (side, side, channels), seed=3)
    rng = np.random.default_rng(0)
    for path, array in model.store.buffers.items():  # statistics of a trained network, more or less
        array[...] = rng.uniform(0.5, 1.5, array.shape) if path.endswith("var") else rng.normal(0, 0.1, array.shape)
    agree(model, [rng.standard_normal((2, side, side, channels)).astype(np.float32)])


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2", "mlp"])
def test_there_and_back(tmp_path: Path, name: str) -> None:
    model = models.create(name, 5, (32, 32, 3), seed=1)
    exporting.export_onnx(model, tmp_path / "net.onnx")
    again = fovea.load(tmp_path / "net.onnx")
    x = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(again(x), model(x), atol=1e-5)
    assert not any(node.op.kind == "transpose" for node in again.graph.nodes.values())


def test_dense_layers_on_maps_come_back_with_biases_that_train() -> None:
    """ONNX writes them as a product and a sum; a sum with something else stays one."""
    x = fovea.Input((5, 4, 3))
    y = fovea.Dense(6)(fovea.GELU()(fovea.Dense(7)(x)))
    z = fovea.Dense(6, use_bias=False)(x)
    offset = fovea.Constant(np.arange(24.0).reshape(4, 6))()
    last = [fovea.Add()(z, offset), fovea.Add()(fovea.Dense(1)(y), z), z]
    model = Model(fovea.Graph(x, last), initializer=fovea.Initializer(overrides=(("*.bias", "ones"),)))
    again = loading.import_model("again", exporting.onnx_model(model)).model
    shapes = [array.shape for array in model.parameters().values()]
    assert [array.shape for array in again.parameters().values()] == shapes
    given = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    for theirs, ours in zip(again(given), model(given), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize("images", [False, True])
def test_axes_stay_where_no_layer_tells_their_order(images: bool) -> None:
    """Of a first layer that takes anything, and of outputs that lie in memory as no feature map does."""
    x = fovea.Input((5, 4, 3))
    y = fovea.PReLU()(x)
    last = [fovea.GroupNorm(1)(y), fovea.Dense(2)(y), fovea.Dense(6)(fovea.AdaptiveAvgPool(1)(y))]
    model = Model(fovea.Graph(x, last), preprocessing=fovea.Preprocessing(size=(5, 4)), task=fovea.tasks.Regression())
    again = loading.import_model("again", exporting.onnx_model(model, images=images)).model
    given = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    for theirs, ours in zip(again(given), model(given), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize(("interpolation", "antialias"), [("bilinear", True), ("bicubic", True), ("bilinear", False)])
@pytest.mark.parametrize(
    ("resize", "resize_to"), [("shorter-side", 20), ("shorter-side", None), ("stretch", None), ("letterbox", None)]
)
def test_images_of_any_size(interpolation: str, antialias: bool, resize: str, resize_to: int | None) -> None:
    """The network's input within one step of 255 of Pillow's, seen through a network that is the identity."""
    how = fovea.Preprocessing(
        size=(16, 16),
        resize=resize,
        resize_to=resize_to,
        interpolation=interpolation,
        antialias=antialias,
        mean=(0.1, 0.2, 0.3),
        std=(0.5,) * 3,
    )
    model = Model(fovea.ReLU(), (16, 16, 3), preprocessing=how, task=fovea.tasks.Regression())
    theirs = session(exporting.onnx_model(model, images=True))
    rng = np.random.default_rng(1)
    for height, width in ((31, 47), (48, 33), (17, 16), (16, 16), (25, 21)):
        coarse = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3))
        image = np.kron(coarse, np.ones((4, 4, 1)))[:height, :width].astype(np.uint8)
        (given,) = theirs.run(None, {"image": image[None]})
        ours = np.maximum(how.apply_pixels(how.apply_spatial([image])), 0)
        assert np.abs(given - ours).max() * 255 * 0.5 <= 1.01


def test_a_classifier_gives_probabilities_and_its_classes(tmp_path: Path) -> None:
    how = fovea.Preprocessing(size=(28, 28), channels=1)
    model = models.lenet5(classes=[f"Ä{i}" for i in range(10)], preprocessing=how)
    exporting.export_onnx(model, tmp_path / "net.onnx", images=True)
    theirs = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    (probabilities,) = theirs.run(None, {"image": image})
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    expected = model.predict(list(image))
    assert [f"Ä{i}" for i in probabilities.argmax(1)] == [one.label for one in expected]
    metadata = theirs.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"])[3] == "Ä3"
    assert json.loads(metadata["preprocessing"])["size"] == [28, 28]


@pytest.mark.parametrize("name", ["output", "image", "probabilities", "nothing", "sizes_2"])
def test_nodes_may_be_called_as_the_file_calls_its_own_values(name: str) -> None:
    """Outputs, inputs, constants, and what is written between nodes."""
    network = fovea.Sequential(
        {"conv": fovea.Conv(3, 1), name + "_": fovea.Resize(size=5, mode="bilinear")}, fovea.Dense(3),
        fovea.GlobalAvgPool(), {name: fovea.Dense(3)},
    )  # fmt: skip
    model = Model(network, (4, 4, 3), preprocessing=fovea.Preprocessing(size=(4, 4), channels=3))
    agree(model, [np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)])
    theirs = session(exporting.onnx_model(model, images=True))
    image = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    (found,) = theirs.run(["probabilities"], {"image": image})
    assert found[0].max() == pytest.approx(model.predict(image)[0].probability, abs=1e-5)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="expected closed input sizes"):
        exporting.onnx_model(models.resnet20(input_shape=(None, None, 3)))
    with pytest.raises(ModelFileError, match="knows its preprocessing"):
        exporting.onnx_model(models.lenet5(), images=True)
    how = fovea.Preprocessing(size=(28, 28), channels=1, interpolation="lanczos")
    with pytest.raises(ModelFileError, match="lanczos"):
        exporting.onnx_model(models.lenet5(preprocessing=how), images=True)
    how = fovea.Preprocessing(size=(28, 28), channels=1, interpolation="bicubic", antialias=False)
    with pytest.raises(ModelFileError, match="or bicubic with antialias, got"):
        exporting.onnx_model(models.lenet5(preprocessing=how), images=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFileError, match="expected to write the file"):
        exporting.export_onnx(models.lenet5(), tmp_path / "file" / "net.onnx")
