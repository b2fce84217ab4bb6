"""ONNX files in all their forms: resizing, older opsets, other element types, weights in a second file; and our own
files read again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import models
from fovea.errors import ModelFileError
from fovea.tasks import Classification, Regression

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
helper = onnx.helper
nets = pytest.importorskip("tests.interop.onnx_nets")
exporting = pytest.importorskip("fovea.interop.onnx.export")
loading = pytest.importorskip("fovea.interop.onnx.load")
compare, conv, network, normal = nets.compare, nets.conv, nets.network, nets.normal
ort.set_default_logger_severity(4)

COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDING = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def resizing(target: dict[str, Any], opset: int = 17, **attributes: Any) -> Any:
    names = ["x", "", "", "sizes"] if "sizes" in target else ["x", "", "scales"]
    return network(
        [helper.make_node("Resize", names, ["y"], **attributes)], {"x": ["n", 3, 5, 6]}, ["y"], target, opset
    )


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_resizing(coordinates: str) -> None:
    """Nearest by every rule, linear and cubic: to sizes, and by scales that are no whole numbers."""
    sizes, scales = {"sizes": np.array([1, 3, 8, 4])}, {"scales": np.array([1, 1, 1.6, 0.7], np.float32)}
    modes: list[dict[str, Any]] = [{"mode": "linear"}, {"mode": "cubic"}, {"mode": "cubic", "cubic_coeff_a": -0.5}]
    modes += [{"mode": "nearest", "nearest_mode": rounding} for rounding in ROUNDING]
    targets = [sizes] if coordinates == "align_corners" else [sizes, scales]
    for mode, target in itertools.product(modes, targets):
        model = resizing(target, coordinate_transformation_mode=coordinates, **mode)
        assert compare(model).transposes == ()


def test_resizing_by_a_scale_leaves_sizes_open() -> None:
    node = helper.make_node("Resize", ["x", "", "scales"], ["a"], mode="linear")
    scales = {"scales": np.array([1, 1, 2, 2], np.float32), "w": normal(4, 3, 1, 1)}
    model = network([node, conv("a", "y", "w")], {"x": ["n", 3, "h", "w"]}, ["y"], scales)
    imported = loading.import_model("net.onnx", model)
    assert imported.model(normal(1, 3, 4, 3)).shape == (1, 6, 8, 4)


@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "linear", "antialias": 1},
        {"mode": "cubic", "exclude_outside": 1},
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ],
)
def test_resizing_that_is_not_there_is_named(attributes: dict[str, Any]) -> None:
    model = resizing({"scales": np.array([1, 1, 0.7, 0.7], np.float32)}, 18, **attributes)
    with pytest.raises(ModelFileError, match="node 'y', operator Resize of opset 18"):
        loading.import_model("net.onnx", model)


OLD: list[tuple[int, list[Any], dict[str, Any]]] = [
    (7, [helper.make_node("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 3.0])], {}),
    (9, [helper.make_node("Upsample", ["x", "s"], ["y"], mode="linear")], {"s": np.array([1, 1, 2, 2], np.float32)}),
    (10, [helper.make_node("Resize", ["x", "s"], ["y"])], {"s": np.array([1, 1, 1.5, 0.5], np.float32)}),
    (9, [helper.make_node("Slice", ["x"], ["y"], starts=[1, 0], ends=[9, -1], axes=[2, 3])], {}),
    (10, [helper.make_node("Pad", ["x"], ["y"], pads=[0, 0, 1, 0, 0, 0, 0, 2], value=3.0)], {}),
    (8, [helper.make_node("Clip", ["x"], ["y"], min=-0.5, max=0.25)], {}),
    (11, [helper.make_node("Softmax", ["x"], ["y"])], {}),
    (11, [helper.make_node("LogSoftmax", ["x"], ["y"], axis=3)], {}),
    (11, [helper.make_node("Split", ["x"], ["a", "y"], axis=1, split=[1, 2])], {}),
    (11, [helper.make_node("ReduceSum", ["x"], ["y"], axes=[2, 3])], {}),
    (11, [helper.make_node("Unsqueeze", ["x"], ["u"], axes=[2]), helper.make_node("Squeeze", ["u"], ["y"], axes=[2])],
     {}),
    (9, [helper.make_node("Dropout", ["x"], ["y"], ratio=0.3)], {}),
    (9, [helper.make_node("Expand", ["g", "t"], ["y"]), ], {"t": np.array([1, 3, 5, 6])}),
]  # fmt: skip


@pytest.mark.parametrize(("opset", "nodes", "weights"), OLD)
def test_older_opsets(opset: int, nodes: list[Any], weights: dict[str, Any]) -> None:
    if "g" in nodes[0].input:
        nodes = [helper.make_node("GlobalMaxPool", ["x"], ["g"]), *nodes]
    model = network(nodes, {"x": ["n", 3, 5, 6]}, ["y"], weights, opset)
    model.ir_version = 4 if opset < 11 else 6
    assert compare(model).transposes == ()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floating_point_weights_become_float32(dtype: Any) -> None:
    weight = normal(4, 3, 3, 3).astype(dtype)
    model = network([conv("x", "y", "w")], {"x": ["n", 3, 5, 6]}, ["y"], {"w": weight})
    (held,) = loading.import_model("net.onnx", model).model.parameters().values()
    assert held.dtype == np.float32
    np.testing.assert_array_equal(held, np.moveaxis(weight, (0, 1), (-1, -2)).astype(np.float32))


def test_weights_in_a_second_file(tmp_path: Path) -> None:
    weights = {"w": normal(4, 3, 3, 3), "v": normal(4, 4, 1, 1), "none": np.zeros((0, 2), np.float32)}
    model = network([conv("x", "a", "w"), conv("a", "y", "v")], {"x": ["n", 3, 5, 6]}, ["y"], weights)
    onnx.save(model, tmp_path / "whole.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    x = normal(2, 5, 6, 3)
    expected = fovea.load(tmp_path / "whole.onnx")(x)
    np.testing.assert_array_equal(fovea.load(tmp_path / "net.onnx")(x), expected)
    (tmp_path / "net.bin").write_bytes((tmp_path / "net.bin").read_bytes()[:-4])
    with pytest.raises(ModelFileError, match=r"net\.bin does not hold 64 bytes"):
        fovea.load(tmp_path / "net.onnx")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ModelFileError, match=r"found no such file; keep both together"):
        fovea.load(tmp_path / "net.onnx")


def small(task: Any, classes: list[str] | None) -> fovea.Model:
    how = fovea.Preprocessing(size=(12, 14), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), order="bgr")
    body = [fovea.Conv(4, 3), fovea.BatchNorm(), fovea.ReLU(), fovea.Flatten(), fovea.Dense(3)]
    return fovea.Model(fovea.Sequential(*body), (12, 14, 3), classes, preprocessing=how, task=task, seed=4)


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("task", [Classification(2.5), Regression(30.0, 12.0)])
def test_our_own_files_are_read_again(tmp_path: Path, images: bool, task: Any) -> None:
    """Network, preprocessing, class names and task; with images inside the network within is taken."""
    model = small(task, ["ä", "b", "c"] if isinstance(task, Classification) else None)
    exporting.export_onnx(model, tmp_path / "net.onnx", images)
    again = fovea.load(tmp_path / "net.onnx")
    assert (again.classes, again.preprocessing, again.task) == (model.classes, model.preprocessing, model.task)
    assert [node.op.kind for node in again.graph.nodes.values()] == [
        "input",
        "conv",
        "batchnorm",
        "relu",
        "reshape",
        "dense",
    ]
    assert [name for name in again.parameters() if name in model.parameters()] == list(model.parameters())
    x = normal(2, 12, 14, 3)
    np.testing.assert_allclose(again(x), model(x), rtol=1e-5, atol=1e-5)


def test_what_images_give_is_what_the_task_reads(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 12, 14, 3), np.uint8)
    for task, name in ((Classification(2.5), "probabilities"), (Regression(30.0, 12.0), "values")):
        model = small(task, None)
        theirs = ort.InferenceSession(exporting.onnx_model(model, images=True).SerializeToString())
        (given,) = theirs.run([name], {"image": image})
        for row, prediction in zip(given, model.predict(list(image), top_k=3), strict=True):
            told: Any = prediction
            ours = sorted(p for _, p in told.top) if name == "probabilities" else list(told.values)
            np.testing.assert_allclose(sorted(row) if name == "probabilities" else row, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet20", "shufflenetv2"])
def test_exports_of_the_zoo_are_read_again(tmp_path: Path, name: str) -> None:
    model = models.create(name, 7, (32, 32, 3), seed=3)
    exporting.export_onnx(model, tmp_path / "net.onnx")
    imported = loading.load_onnx(tmp_path / "net.onnx")
    assert imported.transposes == ()
    x = normal(2, 32, 32, 3)
    expected = model(x)
    np.testing.assert_allclose(imported.model(x), expected, atol=1e-4 * np.abs(expected).max())


def test_damaged_metadata_and_too_many_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = exporting.onnx_model(small(Classification(), ["a", "b", "c"]))
    for entry in proto.metadata_props:
        entry.value = '["a"]' if entry.key == "classes" else entry.value
    with pytest.raises(ModelFileError, match="class names"):
        loading.import_model("net.onnx", proto)
    monkeypatch.setattr(exporting, "LARGEST", 1000)
    with pytest.raises(ModelFileError, match=r"expected weights below .* save a model file instead"):
        exporting.export_onnx(small(Classification(), None), tmp_path / "net.onnx")
