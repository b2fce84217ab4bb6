"""Images made by a network: they excite it more than any picture does, repeat, and tell mistakes in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea
from fovea.errors import ConfigError, DataError, EngineError, FoveaError, GraphError
from fovea.explain import activations, deep_dream, exciting, fooling, invert, maximise
from fovea.explain.visualise.climbed import given_to
from fovea.explain.visualise.objectives import LEAK
from fovea.explain.visualise.part import part_of
from fovea.graph.graph import Ref
from fovea.model import Model
from tests.explain.small_networks import SIDE, pictures, trained


def test_the_network_tells_the_classes_apart() -> None:
    images, targets = pictures(48, seed=7)
    assert (trained().logits(images).argmax(axis=1) == targets).mean() > 0.95


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_a_class_image_beats_every_picture(engine: str) -> None:
    model, (images, _) = trained(), pictures(96, seed=3)
    made = maximise(model, target=["red", 2], steps=48, engine=engine)
    assert made.names == ("red", "stripes")
    assert made.images.shape == (2, SIDE, SIDE, 3)
    natural = model.logits(images).max(axis=0)
    reached = model.logits(made.images)
    assert reached[0, 0] > natural[0] + 1
    assert reached[1, 2] > natural[2] + 1
    np.testing.assert_allclose(reached[[0, 1], [0, 2]], made.values, atol=0.3)  # rounding to bytes costs little
    assert (made.values > made.start + 1).all()


def test_channels_and_neurons_beat_every_patch() -> None:
    """A channel answers more strongly over all positions than to any picture; one position beats any maximum."""
    model, (images, _) = trained(), pictures(96, seed=3)
    channels = [int(c) for c in np.argsort(-activations(model, images, "relu2")["relu2"].max(axis=(0, 1, 2)))[:3]]
    before = activations(model, images, "batchnorm2")["batchnorm2"]
    made = maximise(model, "relu2", channels, steps=48)
    assert made.node == "batchnorm2"
    assert made.names[0] == f"relu2 channel {channels[0]}"
    natural = np.where(before > 0, before, LEAK * before).mean(axis=(1, 2)).max(axis=0)
    assert (made.values > natural[channels] + 0.2).all()
    single = maximise(model, "relu2", channels, neuron="centre", steps=48)
    assert (single.values > exciting(model, images, "relu2", channels)["relu2"].values[:, 0]).all()
    assert single.names[0] == f"relu2 channel {channels[0]} at 4,4"


def test_repeats_and_does_not_depend_on_the_company() -> None:
    model = trained()
    one = maximise(model, "conv2", [0, 1, 2], steps=8, seed=5)
    again = maximise(model, "conv2", [0, 1, 2], steps=8, seed=5)
    np.testing.assert_array_equal(one.images, again.images)
    other = maximise(model, "conv2", [0, 1, 2], steps=8, seed=6)
    assert (one.images != other.images).any()


def test_diverse_images_differ_more() -> None:
    model = trained()

    def alike(images: np.ndarray) -> float:
        outputs = activations(model, images, "conv2")["conv2"].reshape(len(images), -1, 12)
        gram = np.matmul(outputs.transpose(0, 2, 1), outputs).reshape(len(images), -1)
        unit = gram / np.linalg.norm(gram, axis=1, keepdims=True)
        return float((unit @ unit.T)[np.triu_indices(len(images), 1)].mean())

    together = maximise(model, "conv2", 3, count=3, steps=24)
    assert together.names == ("conv2 channel 3",) * 3
    apart = maximise(model, "conv2", [3, 3, 3], steps=24)
    assert alike(together.images) < alike(apart.images)


def test_without_movement_the_same_image_scores_higher_only_in_place() -> None:
    """An image made without movement rests on exact positions: moved by a pixel it loses more than the other does."""
    model = trained()
    kept = {}
    for movement in (0.0, 1.0):
        made = maximise(model, target="stripes", steps=32, movement=movement)
        shifted = np.roll(made.images, (1, 1), axis=(1, 2))
        kept[movement] = float(model.logits(shifted)[0, 2] / model.logits(made.images)[0, 2])
    assert kept[1.0] > kept[0.0] - 0.05


def test_signals_and_volumes() -> None:
    signal = Model(
        fovea.Sequential(fovea.Conv(4, 5, padding=2), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2)), (64, 1),
        preprocessing=fovea.Preprocessing(kind="signal", size=(64,), channels=1, scale=1.0), seed=2,
    )  # fmt: skip
    made = maximise(signal, "relu1", [0, 2], steps=16)
    assert made.images.shape == (2, 64, 1)
    assert made.images.dtype == np.float32
    np.testing.assert_allclose((made.images**2).mean(axis=(1, 2)), 1, rtol=1e-5)
    assert (made.values > made.start).all()
    volume = Model(
        fovea.Sequential(fovea.Conv(3, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2)), (8, 9, 7, 1),
        preprocessing=fovea.Preprocessing("volume", (8, 9, 7), 1, per_sample=True, scale=1.0), seed=2,
    )  # fmt: skip
    assert maximise(volume, target=1, steps=8).images.shape == (1, 8, 9, 7, 1)


def test_what_an_activation_is_given() -> None:
    """A rectifier, and the mean over a rectified map, are climbed before the rectifier; others as they are."""
    layers = (fovea.Conv(4, 3), fovea.ReLU(), fovea.SiLU(), fovea.Conv(3, 1), fovea.ReLU(), fovea.GlobalAvgPool())
    net = fovea.Sequential(*layers)
    graph = Model(net, (8, 8, 3)).graph
    assert given_to(graph, "relu1").node == "conv1"
    assert given_to(graph, "silu1").node == "silu1"
    assert given_to(graph, "globalavgpool1").node == "conv2"
    pooled = fovea.Sequential(fovea.Conv(4, 3), fovea.ReLU(), fovea.MaxPool(2), fovea.AvgPool(2))
    other = Model(pooled, (16, 16, 3), seed=0).graph
    assert given_to(other, "maxpool1").node == "conv1"
    assert given_to(other, "maxpool1", everywhere=False).node == "maxpool1"  # a neuron of it has other positions
    assert given_to(other, "avgpool1").node == "avgpool1"  # what it pools is no rectifier


def test_early_layers_get_small_images() -> None:
    known = fovea.Preprocessing(size=(224, 224))
    model = fovea.models.mobilenetv2(num_classes=3, preprocessing=known, seed=0)
    made = maximise(model, "stem.conv1" if "stem.conv1" in model.graph.nodes else "conv1", 0, steps=1)
    assert made.images.shape == (1, 96, 96, 3)


def test_a_channel_without_weights_is_told() -> None:
    known = fovea.Preprocessing(size=(12, 12))
    model = Model(fovea.Sequential(fovea.Conv(3, 3), fovea.ReLU()), (12, 12, 3), preprocessing=known, seed=1)
    model.parameters()["conv1.weight"][..., 1] = 0
    made = maximise(model, "relu1", [0, 1], steps=4)
    assert made.depends.tolist() == [True, False]
    assert made.values[1] == made.start[1] == 0
    with pytest.raises(ConfigError, match=r"got relu1 channel 1, whose gradient is zero everywhere; choose another"):
        maximise(model, "relu1", 1, steps=4)


def test_deep_dream_strengthens_the_layer() -> None:
    model, (images, _) = trained(), pictures(3, seed=9)
    dream = deep_dream(model, images[1], "relu2", octaves=2, steps=6, size=32)
    assert dream.octaves == ((23, 23), (32, 32))
    assert dream.image.shape == dream.dreamed.shape == (32, 32, 3)
    assert model.preprocessing is not None
    part = part_of(model, Ref("relu2"), "test", size=(32, 32))
    before, after = (
        float((part.outputs(model.preprocessing.apply_pixels(one[None])) ** 2).sum())
        for one in (dream.image, dream.dreamed)
    )
    assert after > 2 * before
    one = deep_dream(model, images[1], "relu2", 3, octaves=1, steps=4, size=32)
    assert (one.dreamed != dream.dreamed).any()


def test_deep_dream_does_not_strengthen_what_a_rectifier_cuts() -> None:
    """One channel sees brightness, another is silent far below 0: the image gets brighter, not the silence deeper."""
    net = fovea.Sequential(fovea.Conv(2, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2))
    model = Model(net, (16, 16, 3), preprocessing=fovea.Preprocessing(size=(16, 16)), seed=0)
    model.store.load({"conv1.weight": np.ones((3, 3, 3, 2), np.float32), "conv1.bias": np.float32([0, -100])})
    image = np.full((16, 16, 3), 100, np.uint8)
    assert deep_dream(model, image, "relu1", octaves=1, steps=4, size=16).dreamed.mean() > 102


def test_networks_of_any_size_get_the_usual_one() -> None:
    net = fovea.Sequential(fovea.Conv(2, 3), fovea.Tanh(), fovea.GlobalAvgPool(), fovea.Dense(2))
    model = Model(net, (None, None, 3), preprocessing=fovea.Preprocessing(), seed=0)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert deep_dream(model, image, "conv1", octaves=1, steps=1).dreamed.shape == (448, 672, 3)
    assert maximise(model, target=0, steps=1).images.shape == (1, 224, 224, 3)
    assert fooling(model, 1, steps=1).images.shape == (1, 224, 224, 3)
    assert maximise(model, "tanh1", 0, neuron=(20, 3), size=32, steps=1).names == ("tanh1 channel 0 at 20,3",)
    with pytest.raises(ConfigError, match=r"expected a position inside of 30x30, or centre, got \(30, 3\); give one"):
        maximise(model, "tanh1", 0, neuron=(30, 3), size=32, steps=1)
    with pytest.raises(ConfigError, match=r"expected a size that the network's layers allow, got \(8, 8\)"):
        maximise(Model(fovea.Sequential(fovea.Conv(2, 9), fovea.GlobalAvgPool()), (16, 16, 3),
                       preprocessing=fovea.Preprocessing(size=(16, 16)), seed=0), "conv1", 0, size=8)  # fmt: skip


def test_an_inversion_has_the_code_of_its_image() -> None:
    model, (images, _) = trained(), pictures(2, seed=5)
    found = invert(model, images, "conv1", steps=96)
    assert found.inverted.shape == images.shape
    assert (found.errors < 0.35).all()  # noise: natural images leave less
    code = activations(model, images, "conv1")["conv1"]
    again = activations(model, found.inverted, "conv1")["conv1"]
    for row in range(2):
        error = np.linalg.norm(again[row] - code[row]) / np.linalg.norm(code[row])
        assert found.errors[row] == pytest.approx(error, rel=1e-4)
    smooth = invert(model, images, "conv1", steps=48, smoothness=30.0)

    def rough(pictures: np.ndarray) -> float:
        return float(np.abs(np.diff(pictures.astype(int), axis=1)).mean())

    assert rough(smooth.inverted) < rough(found.inverted)


MISTAKES: list[tuple[Any, type[FoveaError], str]] = [
    (lambda m: maximise(m, "conv3", 0), GraphError, r"expected the name of a node, got 'conv3'; near names: conv2"),
    (lambda m: maximise(m, "conv1", 8), ConfigError, r"\[conv1\] expected channels from 0 to 7, got 8; choose"),
    (lambda m: maximise(m, "conv1", True), ConfigError, r"expected channels from 0 to 7, got True"),
    (lambda m: maximise(m, "conv1", []), ConfigError, r"expected channels from 0 to 7, got None"),
    (lambda m: maximise(m, "conv1"), ConfigError, r"expected a layer with channels, or a target"),
    (lambda m: maximise(m, "conv1", 0, target="red"), ConfigError, r"give one of both"),
    (lambda m: maximise(m, "conv1", 0, neuron=(16, 0)), ConfigError, r"inside of 16x16, or centre, got \(16, 0\)"),
    (lambda m: maximise(m, target="blue"), ConfigError, r"\[visualise\] expected the name of one class, got 'blue'"),
    (lambda m: maximise(m, target=3), ConfigError, r"\[classes\] expected channels from 0 to 2|classes from 0 to 2"),
    (lambda m: maximise(m, "conv1", 0, steps=0), ConfigError, r"steps as an integer from 1"),
    (lambda m: maximise(m, "conv1", 0, size=4), ConfigError, r"expected size as one or 2 integers from 8, got 4"),
    (lambda m: maximise(m, "conv1", 0, movement=-1), ConfigError, r"movement as a number from 0 to 4, got -1"),
    (lambda m: deep_dream(m, pictures(1)[0], "conv1", octaves=0), ConfigError, r"octaves as an integer from 1 to 12"),
    (lambda m: deep_dream(m, pictures(2)[0], "conv1"), DataError, r"\[dream\] expected one image, got 2"),
    (lambda m: invert(m, pictures(1)[0], "input1"), GraphError, r"\[input1\] expected a layer, got an input"),
    (lambda m: invert(m, "nothing.png", "conv1"), DataError, r"nothing.png"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_are_told_in_one_line(number: int) -> None:
    call, kind, words = MISTAKES[number]
    with pytest.raises(kind, match=words) as caught:
        call(trained())
    assert "\n" not in str(caught.value)


def test_models_that_cannot_be_climbed() -> None:
    images, targets = pictures(32)
    model = trained()
    quantized = fovea.quantize(model, fovea.from_arrays((images, targets), classes=["red", "green", "stripes"]))
    with pytest.raises(EngineError, match="got one quantised to int8; give the model that it was made from"):
        maximise(quantized, "conv1", 0)
    bare = Model.from_store(model.graph, model.store)
    with pytest.raises(DataError, match="expected a model that knows its preprocessing"):
        maximise(bare, "conv1", 0)
    with pytest.raises(ConfigError, match="expected a Model, got str"):
        maximise("model.safetensors", "conv1", 0)  # type: ignore[arg-type]
