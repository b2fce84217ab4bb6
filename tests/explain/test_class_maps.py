"""Fully convolutional networks: equal to the original at its own size, and to sliding windows at any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea import models
from fovea.cli import main
from fovea.errors import DataError, FoveaError
from fovea.model import Model

ENGINES = ("reference", "native")


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def lived_in(model: Model) -> Model:
    """Statistics and biases as training leaves them, more or less: no zeros that would hide a mistake."""
    rng = np.random.default_rng(5)
    for path, array in model.store.tensors().items():
        if path.endswith("var"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif path.endswith(("mean", "bias")):
            array[...] = rng.normal(0, 0.1, array.shape)
    return model


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [("lenet5", 28, 1), ("vgg_small", 16, 3), ("resnet20", 32, 3), ("squeezenet", 64, 3), ("mobilenetv2", 64, 3),
     ("shufflenetv2", 64, 3), ("mobilenetv3_small", 64, 3), ("convnext_tiny", 64, 3), ("alexnet", 224, 3)],
)  # fmt: skip
def test_equal_at_the_size_of_training(name: str, side: int, channels: int) -> None:
    model = lived_in(models.create(name, 7, (side, side, channels), seed=3))
    x = numbers(2, side, side, channels)
    expected = model(x)
    dense = fovea.fully_convolutional(model)
    assert dense.graph.input_shapes == ((None, None, channels),)
    maps = dense(x)
    assert maps.shape == (2, 1, 1, 7)
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(maps[:, 0, 0], expected, atol=tolerance)
    assert dense(numbers(1, side + 64, side + 32, channels)).ndim == 4
    assert {path.rpartition(".")[0] for path in dense.parameters()} == {
        path.rpartition(".")[0] for path in model.parameters()
    }


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2", "squeezenet"])
def test_without_pooling_the_mean_of_the_map_is_the_output(name: str) -> None:
    model = lived_in(models.create(name, 7, (64, 64, 3), seed=3))
    maps = fovea.fully_convolutional(model, pooling="none")(numbers(2, 64, 64, 3))
    assert maps.shape[1] > 1
    expected = model(numbers(2, 64, 64, 3))
    np.testing.assert_allclose(maps.mean((1, 2)), expected, atol=1e-5 * np.abs(expected).max())


def unpadded(*head: Any) -> Model:
    """Layers without padding, jump 4, with small whole numbers as weights: float32 computes them exactly."""
    body = (fovea.Conv(4, 5), fovea.ReLU(), fovea.MaxPool(2), fovea.Conv(6, 3, stride=2), fovea.ReLU())
    model = Model(fovea.Sequential(*body, *head), (18, 22, 2))
    rng = np.random.default_rng(2)
    for array in model.parameters().values():
        array[...] = rng.integers(-2, 3, array.shape)
    return model


HEADS = {
    "flatten": (fovea.Flatten(), fovea.Dense(8), fovea.ReLU(), fovea.Dropout(0.5), fovea.Dense(3)),
    "reshape": (fovea.Reshape((-1,)), fovea.ReLU(), fovea.Dense(3), fovea.Softmax(axis=1)),
    "bins": (fovea.AdaptiveAvgPool((1, 2)), fovea.Flatten(), fovea.Dense(4), fovea.Dense(3)),
    "mean": (fovea.GlobalAvgPool(), fovea.LayerNorm(), fovea.Dense(3), fovea.BatchNorm()),
    "maximum": (fovea.GlobalMaxPool(keepdims=True), fovea.Conv(3, 1), fovea.Flatten(), fovea.PReLU()),
    "pooling": (fovea.AvgPool((3, 4)), fovea.Flatten(), fovea.Dense(3)),
    "reduce": (fovea.Reduce((1, 2)), fovea.Dense(3)),
    "map": (fovea.Conv(3, 1), fovea.GlobalAvgPool()),
    "two": (
        fovea.Parallel(fovea.GlobalAvgPool(), fovea.GlobalMaxPool(), join=fovea.Concat(axis=1)),
        fovea.Dense(3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("engine", ENGINES)
def test_equal_to_sliding_windows(head: str, engine: str) -> None:
    """At every position what the original says of the window there, which moves by the jump of the network."""
    model = unpadded(*HEADS[head])
    image = np.random.default_rng(3).integers(-3, 4, (1, 27, 35, 2)).astype(np.float32)
    plan = fovea.fully_convolutional(model).compile(engine, 1, input_shape=image.shape[1:])
    maps = np.asarray(plan.forward(image))[0]
    assert maps.shape == (3, 4, 3)
    windows = np.concatenate([image[:, 4 * i : 4 * i + 18, 4 * j : 4 * j + 22] for i in range(3) for j in range(4)])
    expected = np.asarray(model.compile(engine, 12).forward(windows)).reshape(maps.shape)
    if head == "flatten":  # whole numbers all the way
        np.testing.assert_array_equal(maps, expected)
    np.testing.assert_allclose(maps, expected, atol=2e-6 * np.abs(expected).max())


def test_signals_and_volumes() -> None:
    signal = Model(fovea.Sequential(fovea.Conv(4, 3), fovea.Flatten(), fovea.Dense(2)), (10, 1))
    assert fovea.fully_convolutional(signal)(numbers(1, 14, 1)).shape == (1, 5, 2)
    volume = Model(fovea.Sequential(fovea.Conv(4, 3), fovea.Flatten(), fovea.Dense(2)), (6, 5, 4, 1))
    x = numbers(2, 6, 5, 4, 1)
    np.testing.assert_allclose(fovea.fully_convolutional(volume)(x).reshape(2, 2), volume(x), atol=1e-5)


def test_it_trains_as_the_original_does() -> None:
    model = models.lenet5(seed=1)
    dense = fovea.fully_convolutional(model)
    x, targets = numbers(4, 28, 28, 1), np.array([3, 1, 4, 1])
    options: Any = {"training": True, "loss": fovea.SoftmaxCrossEntropy(), "optimizer": fovea.SGD(momentum=0.9)}
    first = model.compile("native", 4, **options).train_step(x, targets, lr=0.1, step=0)
    second = dense.compile("native", 4, input_shape=(28, 28, 1), **options).train_step(
        x, targets.reshape(4, 1, 1), lr=0.1, step=0
    )
    assert second.loss == pytest.approx(first.loss, rel=1e-5)
    for path, array in model.parameters().items():
        changed = dense.parameters()[path].reshape(array.shape)
        np.testing.assert_allclose(changed, array, atol=1e-6, err_msg=path)


def test_an_imported_network_and_the_way_out(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    from fovea.interop.onnx.export import export_onnx

    model = lived_in(models.lenet5(seed=1))
    imported = fovea.load(export_onnx(model, tmp_path / "net.onnx"))
    x = numbers(1, 36, 60, 1)
    expected = fovea.fully_convolutional(model)(x)
    np.testing.assert_allclose(fovea.fully_convolutional(imported)(x), expected, atol=1e-5)
    closed = fovea.fully_convolutional(imported, (36, 60, 1))
    session = ort.InferenceSession(export_onnx(closed, tmp_path / "maps.onnx"), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {session.get_inputs()[0].name: np.moveaxis(x, -1, 1)})
    np.testing.assert_allclose(np.moveaxis(theirs, 1, -1), expected, atol=1e-5)


def test_resizing_inside_follows_the_input() -> None:
    def network(x: Any) -> Any:
        up = fovea.Resize(size=(8, 8))(fovea.MaxPool(2)(x))
        return fovea.Dense(2)(fovea.Flatten()(fovea.Concat()(x, up)))

    model = Model(network, (8, 8, 3))
    dense = fovea.fully_convolutional(model)
    x = numbers(1, 12, 16, 3)
    assert dense(x).shape == (1, 5, 9, 2)
    np.testing.assert_allclose(dense(x)[:, 4, 8], model(x[:, 4:, 8:]), atol=1e-5)


def test_a_file_and_a_prediction(tmp_path: Path) -> None:
    how = fovea.Preprocessing(size=(28, 28), channels=1)
    model = models.lenet5(classes=[f"d{i}" for i in range(10)], preprocessing=how, seed=2)
    dense = fovea.load(fovea.fully_convolutional(model).save(tmp_path / "maps.safetensors"))
    assert dense.preprocessing == fovea.Preprocessing(size=None, channels=1, resize_to=28)
    small = np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8)
    assert dict(dense.predict(small)[0].top) == pytest.approx(dict(model.predict(small)[0].top), abs=1e-5)
    large = np.random.default_rng(0).integers(0, 256, (28, 56, 1), np.uint8)
    logits = dense.logits(large[None])
    assert logits.shape == (1, 1, 8, 10)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    label, probability = dense.predict(large)[0].top[0]
    assert probability == pytest.approx(shares.mean((1, 2)).max(), abs=1e-5)
    assert label == f"d{shares.mean((1, 2)).argmax()}"


def test_a_model_of_open_size_is_exported_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    how = fovea.Preprocessing(size=(28, 28), channels=1)
    dense = fovea.fully_convolutional(models.lenet5(preprocessing=how, seed=2))
    words = ["export", str(dense.save(tmp_path / "maps.safetensors")), "-o", str(tmp_path / "maps.onnx"), "--images"]
    assert main(words) == 2
    assert "--input-shape" in capsys.readouterr().err
    assert main([*words, "--input-shape", "36,60,1"]) == 0
    session = ort.InferenceSession(tmp_path / "maps.onnx", providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (1, 36, 60, 1), np.uint8)
    (shares,) = session.run(None, {"image": image})
    expected = np.exp(dense.logits(image))
    np.testing.assert_allclose(np.moveaxis(shares, 1, -1), expected / expected.sum(-1, keepdims=True), atol=1e-5)
    assert main([*words, "--input-shape", "36,60,3"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_cannot_slide_is_named() -> None:
    def named(*layers: Any, shape: Any = (8, 8, 3)) -> Model:
        return Model(fovea.Sequential(*layers), shape)

    cases: list[tuple[Any, str]] = [
        (named(fovea.Flatten(), fovea.BatchNorm(), fovea.Dense(2)), r"\[batchnorm1\] expected layers that slide"),
        (named(fovea.Transpose((0, 2, 1, 3)), fovea.Flatten(), fovea.Dense(2)), r"\[transpose1\] expected layers"),
        (named(fovea.AdaptiveAvgPool(3), fovea.Flatten(), fovea.Dense(2)), r"equal bins, got a map of \(8, 8\)"),
        (named(fovea.AdaptiveAvgPool(4), fovea.Conv(2, 3), fovea.Flatten(), fovea.Dense(2)), r"\[conv1\] expected lay"),
        (named(fovea.Reduce((1, 2), "sum"), fovea.Dense(2)), "sees the whole image in another way"),
        (named(fovea.Slice((0,), (4,), (1,)), fovea.Flatten(), fovea.Dense(2)), r"\[slice1\]"),
        (named(fovea.Dense(2), shape=(8,)), "one input N,"),
        (models.resnet20(input_shape=(None, None, 3)), "the size that the network was trained for"),
    ]
    for model, message in cases:
        with pytest.raises(FoveaError, match=message):
            fovea.fully_convolutional(model)
    with pytest.raises(FoveaError, match="pooling as window or none"):
        fovea.fully_convolutional(models.lenet5(), pooling="mean")
    with pytest.raises(FoveaError, match="2 sizes and 1 channels"):
        fovea.fully_convolutional(models.lenet5(), (32, 32, 3))


def test_open_sizes_need_the_size_of_training_once() -> None:
    model = models.resnet20(input_shape=(None, None, 3), seed=1)
    dense = fovea.fully_convolutional(model, trained_size=(32, 32))
    np.testing.assert_allclose(dense(numbers(1, 32, 32, 3))[:, 0, 0], model(numbers(1, 32, 32, 3)), atol=1e-5)


def bright() -> Model:
    """Class "light" is the brightness of the middle of a window of 16x16, "dark" that it is not there."""
    how = fovea.Preprocessing(size=(16, 16), channels=1)
    net = fovea.Sequential(fovea.AvgPool(4), fovea.Conv(4, 1), fovea.Flatten(), fovea.Dense(2))
    model = Model(net, (16, 16, 1), ["dark", "bright light"], preprocessing=how)
    for array in model.parameters().values():
        array[...] = 0
    model.parameters()["conv1.weight"][...] = 1
    model.parameters()["dense1.weight"].reshape(4, 4, 4, 2)[1:3, 1:3, :, 1] = 1
    model.parameters()["dense1.bias"][...] = [6, 0]
    return model


def spot() -> np.ndarray:
    image = np.zeros((64, 96, 1), np.uint8)
    image[40:48, 64:72] = 255
    return image


def test_a_map_shows_where() -> None:
    found = fovea.class_map(bright(), spot(), size=64)
    assert found.probabilities.shape == (13, 21, 2)
    assert found.window == (16, 16)
    assert found.ranked(1)[0] == (1, pytest.approx(1 / (1 + np.exp(6 - 16)), abs=1e-4), (44.0, 68.0))
    heat = found.heat(found.index("light"))
    assert heat.shape == (64, 96)
    assert np.unravel_index(heat.argmax(), heat.shape) in {(43, 67), (43, 68), (44, 67), (44, 68)}
    opened = fovea.class_map(bright(), Image.fromarray(spot()[..., 0]), size=64)
    np.testing.assert_array_equal(opened.probabilities, found.probabilities)
    with pytest.raises(DataError, match="expected one image, got 2"):
        fovea.class_map(bright(), [spot(), spot()])
    larger = fovea.class_map(bright(), np.repeat(np.repeat(spot(), 2, 0), 2, 1), size=64)
    assert larger.peak(1)[1] == (88.0, 136.0)  # in pixels of the image, whatever the network's scale
    assert larger.window == (32, 32)


def test_classes_by_name() -> None:
    names = ["tench, Tinca tinca", "tabby, tabby cat", "tiger cat", "cougar, puma", "bus", "minibus"]
    shares = np.zeros((1, 1, 6), np.float32)
    found = fovea.explain.ClassMap(spot(), shares, tuple(names), np.zeros(1), np.zeros(1), (1, 1))
    assert [found.index(one) for one in ("tench", "Tabby Cat", "tiger", "puma", "bus", "5")] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(FoveaError, match="it fits tabby, tabby cat; tiger cat"):
        found.index("cat")
    with pytest.raises(FoveaError, match="expected a class from 0 to 5, got 6"):
        found.index("6")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(bright().save(tmp_path / "bright.safetensors"))
    Image.fromarray(spot()[..., 0]).save(tmp_path / "spot.png")
    words = ["classmap", model, str(tmp_path / "spot.png"), "-o", str(tmp_path / "map.png"), "--size", "64"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "bright light  (at x 68, y 44)" in out
    assert "map.npy (13x21x2)" in out
    assert np.load(tmp_path / "map.npy").shape == (13, 21, 2)
    with Image.open(tmp_path / "map.png") as picture:
        assert min(picture.size) > 200
    assert main([*words, "--class", "dark", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["shown"]["label"] == "dark"
    assert answer["top"][0]["label"] == "bright light"
    for extra, message in (
        (["--class", "medium"], "expected the name of one class, got 'medium'; names are dark; bright light"),
        (["--size", "8"], "expected size as pixels from 16 on, got 8"),
        (["--pooling", "sum"], "expected pooling as window or none"),
        (["--top-k", "0"], "expected at least 1, got 0"),
        (["-o", str(tmp_path / "map.jpg")], "ends in .png"),
    ):
        assert main([*words, *extra]) == 2
        assert message in capsys.readouterr().err


def test_an_attribution_is_printed_without_its_arrays() -> None:
    shown = repr(fovea.explain.gradient(bright(), spot()[:16, :16]))
    assert "method='gradient'" in shown
    assert "array(" not in shown
