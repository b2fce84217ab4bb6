"""Models of the zoo as users make them: arguments, weights, starting values, and errors of one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import models
from fovea.engines.registry import get_engine
from fovea.errors import ConfigError, FoveaError, ModelFileError, ShapeError
from fovea.model import Model

FIT_ON_A_CPU_TEST = [
    name for name in models.names("classification") if models.architecture(name).parameters < 5_000_000
]


def run(model: Model, x: np.ndarray) -> np.ndarray:
    """The first forward pass of a training, by the textbook engine, which is always there."""
    plan = get_engine("reference").compile(
        model.graph, model.store, batch_size=len(x), input_shape=x.shape[1:], training=True
    )
    return np.asarray(plan.forward(x))


@pytest.mark.parametrize("name", FIT_ON_A_CPU_TEST)
def test_every_small_model_computes_finite_logits(name: str) -> None:
    shape: tuple[Any, ...] = models.architecture(name).input_shape
    if shape[0] == 224:
        shape = (64, 64, 3)  # enough for all, and quick
    model = models.create(name, 3, shape, seed=1)
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    logits = run(model, x)
    assert logits.shape == (4, 3)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() > 1e-3  # starting values that neither vanish ...
    assert np.abs(logits).max() < 100  # ... nor explode


def test_the_record_says_what_the_model_is() -> None:
    record = models.lenet5
    assert (record.name, record.num_classes, record.input_shape, record.options) == ("lenet5", 10, (28, 28, 1), ())
    assert models.resnet20.options == ("shortcut",)
    for name in models.names():
        record = models.architecture(name)
        assert re.search(r"\b(19|20)\d\d\b|course notes", record.source), name
        assert record.description.endswith((".", ":")) or len(record.description) > 20, name
        assert getattr(models, name) is record


def test_the_seed_decides_the_starting_values() -> None:
    first, again, other = (models.lenet5(seed=seed).parameters() for seed in (3, 3, 4))
    assert all(np.array_equal(first[path], again[path]) for path in first)
    assert not np.array_equal(first["conv1.weight"], other["conv1.weight"])
    assert first["conv1.bias"].any() == np.False_


def test_resnets_start_by_the_fan_out_rule() -> None:
    weight = models.resnet20(seed=0).parameters()["stage3.block1.conv1.weight"]
    assert weight.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)


def test_another_initializer_may_be_asked_for() -> None:
    zero = fovea.graph.initialize.Initializer("kaiming_fan_out", zero_gamma=True)
    store = models.resnet20(initializer=zero).parameters()
    assert not store["stage1.block0.batchnorm2.weight"].any()
    assert store["stage1.block0.batchnorm1.weight"].all()


def test_class_names_give_the_number_of_classes() -> None:
    model = models.lenet5(classes=["cat", "dog"])
    assert model.classes == ("cat", "dog")
    assert model.graph.output_shapes == ((2,),)
    assert model.name == "lenet5"


def test_the_pad_shortcut_keeps_every_second_pixel_between_zeros() -> None:
    # A block whose convolutions are zero computes relu(shortcut): the shortcut can be read off its output.
    model = models.resnet20(seed=0)
    for path, array in model.store.parameters.items():
        if path.startswith("stage2.block0.conv"):
            array[...] = 0
    x = np.random.default_rng(1).normal(size=(1, 32, 32, 3)).astype(np.float32)
    plan = get_engine("reference").compile(
        model.graph, model.store, batch_size=1, keep=("stage1.block2.relu2", "stage2.block0.relu2")
    )
    plan.forward(x)
    before, after = plan.kept["stage1.block2.relu2"], plan.kept["stage2.block0.relu2"]
    assert after.shape == (1, 16, 16, 32)
    assert np.array_equal(after[..., 8:24], before[:, ::2, ::2])
    assert not after[..., :8].any()
    assert not after[..., 24:].any()


def test_weights_come_back_from_a_model_file(tmp_path: Path) -> None:
    model = models.small_cnn(num_classes=3, input_shape=(8, 8, 1), seed=5)
    model.store.buffers["stage1.batchnorm1.running_mean"][...] = 7
    path = model.save(tmp_path / "m.safetensors")
    again = models.small_cnn(num_classes=3, input_shape=(8, 8, 1), seed=6, weights=path)
    for name, array in model.store.tensors().items():
        assert np.array_equal(again.store.tensors()[name], array), name
    assert models.small_cnn(weights=path).graph.nodes == model.graph.nodes, "the file tells classes and input size"


def test_everything_that_a_model_file_knows_comes_with_its_weights(tmp_path: Path) -> None:
    how = fovea.Preprocessing(size=(8, 8), channels=1, resize_to=10, mean=0.4)
    task = fovea.tasks.Classification(temperature=1.5)
    model = models.small_cnn(classes=["a", "b"], input_shape=(8, 8, 1), preprocessing=how, task=task)
    path = model.save(tmp_path / "m.safetensors")
    again = models.small_cnn(weights=path)
    assert (again.classes, again.preprocessing, again.task) == (("a", "b"), how, task)
    other = models.small_cnn(num_classes=3, weights=path, seed=9)
    assert (other.classes, other.preprocessing, other.task) == (None, how, fovea.tasks.Classification())
    kept = models.small_cnn(3, (8, 8, 1), seed=9).parameters()["head.dense1.weight"]
    assert np.array_equal(other.parameters()["head.dense1.weight"], kept), "the head of another size starts fresh"
    assert np.array_equal(other.parameters()["stage1.conv1.weight"], model.parameters()["stage1.conv1.weight"])
    given = models.small_cnn(weights=path, preprocessing=how.spatial_half(), classes=["x", "y"])
    assert (given.classes, given.preprocessing) == (("x", "y"), how.spatial_half())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: models.small_cnn(3, (8, 8, 3), weights=path), r"conv1.weight with shape \(3, 3, 3, 32\)"),
        (lambda path: models.lenet5(weights=path), "the file holds another architecture"),
        (lambda path: models.small_cnn(3, (28, 28, 1), weights=path), "the file holds another architecture"),
    ],
)
def test_weights_of_another_architecture_are_refused(make: Any, message: str, tmp_path: Path) -> None:
    path = models.small_cnn(num_classes=3, input_shape=(8, 8, 1)).save(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=message):
        make(path)


def test_more_weights_than_the_model_has_are_refused(tmp_path: Path) -> None:
    path = models.mlp(10, (4, 4, 1), hidden=(8, 10)).save(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"dense3\.weight.* besides"):
        models.mlp(10, (4, 4, 1), hidden=(8,), weights=path)


@pytest.mark.parametrize(
    ("file", "what"),
    [("r.onnx", "an ONNX file"), ("r.tflite", "TensorFlow Lite"), ("r.npz", "NumPy")],
)
def test_other_formats_are_refused_by_name(file: str, what: str) -> None:
    with pytest.raises(ModelFileError, match=what):
        models.lenet5(weights=file)


def test_a_missing_file_is_said_so() -> None:
    with pytest.raises(ModelFileError, match="nowhere"):
        models.lenet5(weights="nowhere.safetensors")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: models.lenet5(num_classes=0), ConfigError, "num_classes as an integer of at least 1, got 0"),
        (lambda: models.lenet5(num_classes=2.5), ConfigError, "num_classes as an integer"),
        (lambda: models.lenet5(num_classes=3, classes=["a", "b"]), ConfigError, "num_classes=2 for 2 class names"),
        (lambda: models.vgg16(input_shape=(16, 16, 3)), ShapeError, r"usually \(224, 224, 3\), got \(16, 16, 3\)"),
        (lambda: models.lenet5(input_shape=(8, 8, 1)), ShapeError, r"\[lenet5\] .* at conv2"),
        (lambda: models.lenet5(input_shape=(28, 28)), ShapeError, "with 3 entries"),
        (lambda: models.lenet5(input_shape=28), ShapeError, "with 3 entries"),
        (lambda: models.lenet5(input_shape=(28, 0, 1)), ShapeError, "positive integers"),
        (lambda: models.lenet5(input_shape=(None, None, 1)), ShapeError, "closed sizes"),
        (lambda: models.conv3d(input_shape=(24, 24, 1)), ShapeError, "with 4 entries"),
        (lambda: models.resnet20(shortcut="none"), ConfigError, '"pad" or "projection"'),
        (lambda: models.resnet20(width=2), ConfigError, "got width; its options are shortcut"),
        (lambda: models.lenet5(width=2), ConfigError, "it has no options"),
        (lambda: models.mlp(hidden=(0,)), ConfigError, "hidden as positive integers"),
        (lambda: models.vgg11.graph(dropout=1.5), FoveaError, "rate"),
        (lambda: models.create("resnet19"), ConfigError, "near names: .*resnet"),
        (lambda: models.create("MobileNet-v2"), ConfigError, "mobilenetv2"),
        (lambda: models.create("zzz"), ConfigError, "alexnet, conv1d"),
        (lambda: models.default_for("text", (8,), 1), ConfigError, "image, signal, volume or clip"),
    ],
)
def test_mistakes_get_one_line(make: Any, error: type[FoveaError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "shape", "samples", "name"),
    [
        ("image", (28, 28, 1), 60_000, "small_cnn"),
        ("image", (8, 8, 1), 1_437, "small_cnn"),
        ("image", (32, 32, 3), 50_000, "resnet20"),
        ("image", (32, 32, 3), 2_000, "small_cnn"),
        ("image", (128, 128, 3), 50_000, "small_cnn"),
        ("image", (None, None, 3), 50_000, "small_cnn"),
        ("signal", (8000, 1), 2_500, "conv1d"),
        ("volume", (24, 24, 24, 1), 500, "conv3d"),
        ("clip", (16, 64, 64, 3), 500, "conv3d"),
    ],
)
def test_a_default_for_every_kind_of_data(kind: str, shape: tuple[int | None, ...], samples: int, name: str) -> None:
    assert models.default_for(kind, shape, samples) == name
    assert models.architecture(name).graph(2, shape).output_shapes == ((2,),)
