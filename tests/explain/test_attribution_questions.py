"""What can be asked: targets, layers, scores, images of any kind, several at once, on every engine; and what cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea import explain
from fovea.engines.registry import available_engines
from fovea.errors import FoveaError
from fovea.explain.gradients import _CACHED_PLANS, _plans
from fovea.explain.placing import centres_of
from fovea.graph.graph import Ref
from fovea.model import Model
from fovea.tasks.regress import Regression
from tests.explain.attribution_nets import lived_in, numbers, plain, residual
from tests.explain.small_networks import pictures, trained

QUICK: dict[str, dict[str, Any]] = {
    "rise": {"samples": 24, "cells": 4}, "smoothgrad": {"samples": 4}, "vargrad": {"samples": 4},
    "integrated_gradients": {"steps": 4, "tolerance": None}, "occlusion": {"window": 4, "stride": 2},
}  # fmt: skip
METHODS = list(explain.METHODS)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_every_engine(name: str, engine: str) -> None:
    """All engines agree with the reference; a batch is its images one by one; facts travel with the answer."""
    model, x = residual(), numbers(3, 16, 16, 3)
    method, options = explain.METHODS[name], QUICK.get(name, {})
    found = explain.attributions(model, x, name, [0, 4, 0], engine=engine, **options)
    expected = explain.attributions(model, x, name, [0, 4, 0], engine="reference", **options)
    for one, other, k in zip(found, expected, (0, 4, 0), strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=2e-4 * np.abs(other.values).max())
        assert one.values.shape == (16, 16)
        assert one.values.dtype == one.raw.dtype == np.float32
        assert one.image.shape == (16, 16, 3)
        assert (one.method, one.target, one.facts) == (name, k, method)
        assert (one.layer == "relu2") == method.needs_layer
        assert method.signed or one.values.min() >= 0
    alone = method(model, x[1], 4, engine=engine, **options)
    np.testing.assert_allclose(alone.values, found[1].values, atol=1e-5 * np.abs(alone.values).max())
    assert alone.score == pytest.approx(found[1].score, rel=1e-5)


def test_the_part_that_makes_the_class_lights_up() -> None:
    """A trained network, pictures whose patch is known: its pixels get more than others, by every fair method."""
    model, (images, targets) = trained(), pictures(12, seed=40)
    patches = []
    for image, target in zip(images, targets, strict=True):
        wanted = np.abs(image.astype(int) - 115).max(-1) if target == 2 else image[..., target].astype(int) - 140
        patches.append(wanted > 30)
    for name in ("grad_cam", "hires_cam", "layer_cam", "integrated_gradients", "deeplift", "occlusion"):
        found = explain.attributions(model, images, name, list(map(int, targets)), **QUICK.get(name, {}))
        inside = [
            one.values[patch].mean() > one.values[~patch].mean() for one, patch in zip(found, patches, strict=True)
        ]
        assert np.mean(inside) >= 0.8, name


def test_targets_by_number_name_default_and_place() -> None:
    model, (images, targets) = trained(), pictures(3, seed=2)
    default = explain.gradient(model, images[1])
    assert (default.name, default.target) == ("green", 1)
    for target in (1, "green", "Green", "1", np.int64(1)):
        np.testing.assert_array_equal(explain.gradient(model, images[1], target).values, default.values)
    (several,) = explain.attributions(model, images[1:2], "gradient", ["stripes"])
    assert several.name == "stripes"
    same = explain.gradient(model, images[1], ("dense1", 1))
    np.testing.assert_array_equal(same.values, default.values)
    assert (same.name, same.target) == ("dense1[1]", None)
    inner = explain.gradient(model, images[1], ("conv2", (3, 4, 5)))
    kept = model.forward(model.preprocessing.apply_pixels(images[1:2]), keep=["conv2"])["conv2"]
    assert inner.score == pytest.approx(float(kept[0, 3, 4, 5]), rel=1e-5, abs=1e-6)
    assert not inner.raw[11:].any(), "an element of a map sees its receptive field alone"
    assert [str(one) for one in targets] == ["0", "1", "2"]


def test_any_scalar_of_a_node_can_be_explained() -> None:
    """(node, function): the sum of squares of a map, whose gradient is given; of the outputs by a function alone."""

    def energy(outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (outputs**2).sum(tuple(range(1, outputs.ndim))), 2 * outputs

    model, x = residual(), numbers(2, 16, 16, 3)
    found = explain.gradient_of(model, x, ("relu2", energy), ["input1", "conv1"], keep=["relu2"])
    assert set(found.wrt) == {"input1", "conv1"}
    np.testing.assert_allclose(found.scores, (found.kept["relu2"] ** 2).sum((1, 2, 3)), rtol=1e-5)
    way = 0.01 * numbers(1, 16, 16, 3, seed=3)
    ends = [explain.gradient_of(model, x[:1] + s * way, ("relu2", energy)).scores[0] for s in (1, -1)]
    assert float((found.wrt["input1"][:1] * way).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2, rel=2e-2)
    one = explain.integrated_gradients(model, x[0], ("relu2", energy), tolerance=1e-3)
    assert one.name == "relu2: energy"
    assert float(one.values.sum()) == pytest.approx(one.score - float(_energy_of_zero(model)), rel=2e-3)
    assert explain.occlusion(model, x[0], energy, window=8).score == pytest.approx(float((model(x[:1]) ** 2).sum()))


def _energy_of_zero(model: Model) -> float:
    return float((model.forward(np.zeros((1, 16, 16, 3), np.float32), keep=["relu2"])["relu2"] ** 2).sum())


def test_layers_are_found_by_shape() -> None:
    cases = {
        "resnet20": "add", "lenet5": "relu2", "mobilenetv2": "head.relu61", "squeezenet": "head.relu1",
        "densenet121": "relu", "vgg11": "relu",
    }  # fmt: skip
    for name, ending in cases.items():
        model = fovea.models.create(name, 7)
        shape = tuple(size or 64 for size in model.graph.input_shapes[0])
        graph = model.graph.at(shape)
        layer = explain.default_layer(graph, Ref(graph.outputs[0].node))
        assert layer is not None
        kind = graph.node(layer).op.kind
        assert kind.startswith("relu") or kind == ending, (name, layer)
        following = [n for n in graph.nodes.values() if any(ref.node == layer for ref in n.inputs)]
        kinds = {n.op.kind for n in following}
        assert kinds <= {"globalavgpool", "maxpool", "flatten", "adaptiveavgpool"}, (name, layer, kinds)
    assert explain.default_method(fovea.models.mlp()).name == "integrated_gradients"
    assert explain.default_method(fovea.models.lenet5()).name == "grad_cam"
    x = fovea.Input((32, 32, 3))
    deep = fovea.ReLU()(fovea.Conv(8, 3, stride=2, padding=1)(fovea.ReLU()(fovea.Conv(4, 3, stride=2, padding=1)(x))))
    wide = fovea.Conv(6, 1)(fovea.Resize(scale=2)(deep))
    detector = Model(fovea.Graph(x, wide), seed=0)
    assert explain.default_layer(detector.graph, detector.graph.outputs[0]) == "relu2"
    found = explain.grad_cam(detector, numbers(32, 32, 3), (detector.graph.outputs[0].node, (5, 6, 1)))
    assert (found.layer, found.raw.shape) == ("relu2", (8, 8))
    flat = plain()
    assert explain.default_layer(flat.graph, Ref("dense1")) is None


def test_images_of_any_preprocessing(tmp_path: Path) -> None:
    """Open sizes, blue first, grey, and none at all: shown as the network sees them, explained at their size."""
    net = fovea.Sequential(fovea.Conv(6, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(3))
    model = lived_in(Model(net, input_shape=(None, None, 3), seed=0))
    image = np.random.default_rng(0).integers(0, 255, (14, 22, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "picture.png")
    for order in ("rgb", "bgr"):
        model.preprocessing = fovea.Preprocessing(size=None, resize="none", order=order, mean=(0.1, 0.2, 0.3))
        found = explain.gradient_x_input(model, tmp_path / "picture.png", 0)
        np.testing.assert_array_equal(found.image, image)
        assert found.values.shape == (14, 22)
        shown = model.preprocessing.apply_pixels(image[None])
        slopes = explain.gradient_of(model, shown, 0).wrt["input1"]
        np.testing.assert_allclose(found.raw, (shown * slopes)[0], atol=1e-7)
    np.testing.assert_array_equal(found.values, explain.gradient_x_input(model, image, 0).values)
    small = lived_in(
        Model(net, input_shape=(10, 10, 1), seed=0, preprocessing=fovea.Preprocessing((1,) and "image", (10, 10), 1))
    )
    assert explain.grad_cam(small, tmp_path / "picture.png").image.shape == (10, 10, 1)
    bare = lived_in(Model(net, input_shape=(10, 10, 5), seed=0))
    assert explain.gradient(bare, numbers(10, 10, 5), 1).image.shape == (10, 10, 1)


def test_new_weights_give_new_maps() -> None:
    """Plans, gates and other weights are kept between calls, and renewed when the model's numbers change."""
    model, x = residual(), numbers(1, 16, 16, 3)[0]
    for name in METHODS:
        options = QUICK.get(name, {})
        before = explain.METHODS[name](model, x, 1, **options)
        kept = {path: array.copy() for path, array in model.parameters().items()}
        for array in model.parameters().values():
            array *= np.random.default_rng(0).uniform(0.2, 1.8, array.shape).astype(np.float32)
        model.store.touch()
        after = explain.METHODS[name](model, x, 1, **options)
        fresh = residual()
        fresh.store.load(model.parameters())
        expected = explain.METHODS[name](fresh, x, 1, **options)
        np.testing.assert_allclose(after.values, expected.values, atol=1e-5 * max(1e-6, np.abs(expected.values).max()))
        assert not np.allclose(before.values, after.values, atol=1e-3 * np.abs(before.values).max()), name
        model.store.load(kept)
    assert len(_plans(model).plans) <= _CACHED_PLANS


@pytest.mark.parametrize("name", METHODS)
def test_many_images_go_through_in_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images, two at a time, are the five at once; and however many pieces, there is one plan for each purpose."""
    model, x = residual(), numbers(5, 16, 16, 3)
    options = QUICK.get(name, {})
    whole = explain.attributions(model, x, name, [0, 1, 2, 3, 4], **options)
    monkeypatch.setattr("fovea.explain.gradients._MOST_SAMPLES", 2)
    other = residual()
    parts = explain.attributions(other, x, name, [0, 1, 2, 3, 4], **options)
    for one, part in zip(whole, parts, strict=True):
        np.testing.assert_allclose(part.values, one.values, atol=1e-4 * np.abs(one.values).max())
        assert part.score == pytest.approx(one.score, rel=1e-4)
    purposes = [(key[0], key[1], key[2], *key[4:]) for key in _plans(other).plans]
    assert len(set(purposes)) == len(purposes)


def test_values_are_explained_where_there_are_no_probabilities() -> None:
    net = fovea.Sequential(fovea.Conv(4, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2))
    model, x = Model(net, input_shape=(8, 8, 3), task=Regression(), seed=0), numbers(1, 8, 8, 3)
    for name in ("occlusion", "rise", "score_cam", "gradient"):
        found = explain.METHODS[name](model, x[0], 1, **QUICK.get(name, {}))
        assert (found.name, found.score) == ("output 1", pytest.approx(float(model(x)[0, 1]), rel=1e-5))
    assert explain.trust(model, x[0], "occlusion", samples=1, steps=2, depths=1).attribution.name.startswith("output")


def test_networks_of_several_inputs_and_open_sizes_have_a_default_method() -> None:
    image, facts = fovea.Input((8, 8, 3)), fovea.Input((4,))
    both = fovea.Concat()(fovea.GlobalAvgPool()(fovea.Conv(2, 3)(image)), facts)
    model = Model(fovea.Graph([image, facts], fovea.Dense(2)(both)), seed=0)
    with pytest.raises(FoveaError, match="expected a network with one input N,H,W,C"):
        explain.default_method(model)(model, numbers(8, 8, 3))
    net = fovea.Sequential(fovea.Conv(2, 99), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2))
    assert explain.default_method(Model(net, input_shape=(None, None, 3), seed=0)).name == "grad_cam"


def test_without_padding_positions_lie_in_the_middle_of_what_they_see() -> None:
    """Strides leave 15 of 62 pixels at the end, none of 63: what a position of the last map sees is what is lit."""
    for side, rest in ((62, 15), (63, 0)):
        net = [fovea.Conv(1, 3, stride=2, use_bias=False) for _ in range(4)]
        model = plain(*net, side=side)
        ones = {path: np.ones_like(array) for path, array in model.store.parameters.items() if "conv" in path}
        model.store.load(ones)
        graph = model.graph.at((side, side, 3))
        rows, columns = centres_of(graph, "conv4")
        x = numbers(1, side, side, 3)
        for position in range(len(rows)):
            seen = explain.gradient_of(model, x, ("conv4", (position, 0, 0))).wrt["input1"][0].any((1, 2))
            assert rows[position] == (np.flatnonzero(seen) + 0.5).mean()
        assert side - (rows[-1] + 15.5) == rest
        np.testing.assert_array_equal(rows, columns)


def test_int8_networks_are_explained_without_gradients() -> None:
    model, (images, _) = trained(), pictures(2, seed=3)
    assert model.preprocessing is not None
    small = fovea.quantize(model, model.preprocessing.apply_pixels(pictures(64)[0]))
    for name in ("occlusion", "rise"):
        one = explain.METHODS[name](small, images[0], 0, **QUICK[name])
        other = explain.METHODS[name](model, images[0], 0, **QUICK[name])
        np.testing.assert_allclose(one.values, other.values, atol=0.2 * np.abs(other.values).max() + 0.02)
    with pytest.raises(FoveaError, match="expected a network with gradients, got one quantised to int8"):
        explain.grad_cam(small, images[0])
    assert explain.default_method(small).name == "occlusion"


MISTAKES = [
    (lambda m, x: explain.gradient(m, x, 3), "expected a class from 0 to 2 or its name, got 3"),
    (lambda m, x: explain.gradient(m, x, "7"), "expected a class from 0 to 2, got 7"),
    (lambda m, x: explain.gradient(m, x, "stripe"), "got 'stripe'; names are stripes"),
    (lambda m, x: explain.gradient(m, x, True), "got True"),
    (lambda m, x: explain.gradient(m, x, 0, score="odds"), "expected score as logit, probability, log-probability"),
    (lambda m, x: explain.gradient(m, x, 0, "relu1"), "expected no layer, got 'relu1'"),
    (lambda m, x: explain.gradient(m, x, 0, steps=3), "expected its own options, got 'steps'; it has: none"),
    (lambda m, x: explain.occlusion(m, x, 0, window=99), "expected an integer from 1 to 16 pixels, got 99"),
    (lambda m, x: explain.occlusion(m, x, 0, window=4, stride=5), "expected an integer from 1 to 4 pixels, got 5"),
    (lambda m, x: explain.occlusion(m, x, 0, baseline="pink"), "expected zero, black, blur or an array, got 'pink'"),
    (lambda m, x: explain.occlusion(m, x, 0, baseline=np.zeros((2, 2, 3))), "expected network input .16, 16, 3."),
    (lambda m, x: explain.grad_cam(m, x, 0, "relu9"), "expected the name of a node, got 'relu9'; near names: relu"),
    (lambda m, x: explain.grad_cam(m, x, 0, "dense1"), "expected a layer with space on the way to the score"),
    (lambda m, x: explain.attributions(m, [x], "gradcam"), "got 'gradcam'; did you mean grad_cam"),
    (lambda m, x: explain.attributions(m, [x, x], "gradient", [0]), "expected a target for each of 2 samples, got 1"),
    (lambda m, x: explain.attributions(m, [x, x], "gradient", [0, ("conv1", (0, 0, 0))]), "targets of one node"),
    (lambda m, x: explain.attributions(m, [], "gradient"), "expected at least one sample, got none"),
    (lambda m, x: explain.gradient(m, "nothing.png"), "expected a file, found none"),
    (lambda m, x: explain.gradient(m, x.astype(np.float32)), "expected a uint8 image"),
    (lambda m, x: explain.gradient("net", x), "expected a Model, got str"),
    (lambda m, x: explain.gradient(m, x, ("conv1", (99, 0, 0))), "expected the index of one element of conv1"),
    (lambda m, x: explain.smoothgrad(m, x, samples=0), "expected an integer of at least 1, got 0"),
    (lambda m, x: explain.smoothgrad(m, x, noise=-1), "expected a share of the range"),
    (lambda m, x: explain.rise(m, x, keep=1.0), "expected a probability between 0 and 1, got 1.0"),
    (lambda m, x: explain.integrated_gradients(m, x, steps=0), "expected an integer from 1 to 2048, got 0"),
    (
        lambda m, x: explain.integrated_gradients(m, x, tolerance="1%"),
        "expected a gap such as 0.001, or None, got '1%'",
    ),
    (lambda m, x: explain.lrp_epsilon(m, x, epsilon=-1), "expected a number of at least 0, got -1"),
    (lambda m, x: explain.gradient_of(m, x[None], 0), "expected float32 network input N,.spatial,C, got uint8"),
    (lambda m, x: explain.gradient_of(m, numbers(0, 16, 16, 3), 0), "got float32 .0, 16, 16, 3."),
    (
        lambda m, x: explain.gradient(plain(), "some.png"),
        "knows its preprocessing for the file some.png, got one without",
    ),
    (lambda m, x: explain.gradient_of(m, numbers(1, 16, 16, 3), 0, ["conv9"]), "near names: conv"),
    (lambda m, x: explain.gradient_of(m, numbers(1, 16, 16, 3), ("conv1", (0, 0, 0)), ["conv2"]), "a layer that conv1"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_mistakes_get_one_line(mistake: Any, message: str) -> None:
    with pytest.raises(FoveaError, match=message) as caught:
        mistake(trained(), pictures(1)[0][0])
    assert "\n" not in str(caught.value)


def test_networks_that_a_method_does_not_fit_are_refused_by_name() -> None:
    x = numbers(1, 8, 8, 3)[0]
    with pytest.raises(
        FoveaError, match=r"\[layernorm1\] DeepLIFT has no rule for layernorm; use integrated_gradients"
    ):
        explain.deeplift(plain(fovea.Conv(4, 3), fovea.LayerNorm()), x, 0)
    with pytest.raises(FoveaError, match=r"\[lrn1\] LRP has no rule for lrn"):
        explain.lrp_epsilon(plain(fovea.Conv(4, 3), fovea.LRN()), x, 0)
    with pytest.raises(
        FoveaError, match="expected a network with ReLU or ReLU6, whose backward rule it alters, got silu"
    ):
        explain.guided_backprop(plain(fovea.Conv(4, 3), fovea.SiLU()), x, 0)
    with pytest.raises(FoveaError, match="got none with space; choose a method without a layer"):
        explain.grad_cam(plain(), x, 0)
    mixed = explain.guided_backprop(plain(fovea.Conv(4, 3), fovea.ReLU(), fovea.Conv(4, 3), fovea.LeakyReLU()), x, 0)
    assert mixed.notes == ("activations without a rule of this method keep their own derivative: leakyrelu",)
    two = fovea.Input((8, 8, 3))
    model = Model(fovea.Graph(two, [fovea.Flatten()(two), fovea.Conv(2, 3)(two)]), seed=0)
    with pytest.raises(FoveaError, match="expected a network with outputs N,classes, got"):
        explain.gradient(model, x)
    assert explain.gradient(model, x, ("conv1", (1, 1, 0))).name == "conv1[1,1,0]"
    facts = Model(fovea.Sequential(fovea.Dense(2)), input_shape=(4,), seed=0)
    with pytest.raises(FoveaError, match="expected a network with one input N,H,W,C, or N,T,C or N,D,H,W,C, got"):
        explain.gradient(facts, numbers(4))
    assert explain.gradient_of(facts, numbers(2, 4), 1).wrt["input1"].shape == (2, 4)
