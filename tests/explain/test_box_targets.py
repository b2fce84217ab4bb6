"""A found box as what is explained: the cell that found it, other boxes, pictures, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea import explain
from fovea.cli import main
from fovea.errors import ConfigError
from fovea.report.attribution import picture
from fovea.tasks.metrics import sigmoid
from tests.detect.square_finder import finder, painted
from tests.interop.test_onnx_boxes import photo, random_detector

SQUARES = [(8, 8, 16, 16, 0), (40, 24, 48, 32, 1), (16, 48, 24, 56, 1)]


def test_only_the_cell_of_the_box_counts() -> None:
    """The hand-made detector looks at one cell for each box: nothing else may have a share."""
    model, image = finder(open_size=False), painted(64, 64, SQUARES)
    for number, one in enumerate(fovea.detect(model, image)[0].objects, 1):
        found = explain.gradient_x_input(model, image, explain.Box(number))
        x1, y1, x2, y2 = (round(side) for side in one.box)
        assert found.box == one.box
        assert found.name == f"{one.label}, box {number} of 3"
        inside = np.zeros((64, 64), bool)
        inside[y1:y2, x1:x2] = True
        assert (found.values[inside] > 0).all()
        assert (found.values[~inside] == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_the_logit_of_the_box(seed: int) -> None:
    """On boxes of three strides, through random weights."""
    model, image = random_detector(seed), photo(seed, 96, 96)
    objects = fovea.detect(model, image)[0].objects
    nodes = set()
    for number in range(1, min(40, len(objects)) + 1):
        found = explain.gradient(model, image, explain.Box(number))
        assert sigmoid(np.array([found.score]))[0] == pytest.approx(objects[number - 1].score, abs=1e-6)
        np.testing.assert_allclose(found.box or (), objects[number - 1].box, atol=1e-4)
        assert found.target == objects[number - 1].index
        nodes.add(round(float((found.values != 0).mean()), 2))
    assert len(nodes) > 1  # boxes of different strides look at parts of different size


def test_the_gradient_is_that_of_the_kind_of_score() -> None:
    model, image = random_detector(0), photo(0, 96, 96)
    logit = explain.gradient(model, image, score="logit")
    p = sigmoid(np.array([logit.score]))[0]
    for kind, slope, value in (("probability", p * (1 - p), p), ("log-probability", 1 - p, np.log(p))):
        found = explain.gradient(model, image, score=kind)
        np.testing.assert_allclose(found.raw, logit.raw * slope, atol=1e-6)
        assert found.score == pytest.approx(value, abs=1e-5)
        assert found.name.startswith(f"{kind} of ")
    assert logit.raw.any()


@pytest.mark.parametrize("name", list(explain.METHODS))
def test_every_method_explains_a_box(name: str) -> None:
    model, image = random_detector(1), photo(1, 96, 96)
    found = explain.METHODS[name](model, image)
    assert found.values.shape == (96, 96)
    assert np.isfinite(found.values).all()
    assert found.values.any()
    assert found.box is not None
    assert picture(found)[:4] == b"\x89PNG"


def test_the_default_looks_where_the_branches_part() -> None:
    model, image = random_detector(1), photo(1, 96, 96)
    assert explain.default_method(model).name == "layer_cam"
    graph, strides = model.graph, {8: 12, 16: 6, 32: 3}
    seen = set()
    for number in range(1, 60):
        found = explain.layer_cam(model, image, explain.Box(number))
        assert graph.node(str(found.layer)).op.kind == "relu"  # what both convolutions of a level look at
        seen.add(graph.shape(str(found.layer))[0])
        assert found.raw.shape == graph.shape(str(found.layer))[:2]
    assert seen <= set(strides.values())
    assert len(seen) > 1


def test_classes_and_wrong_boxes() -> None:
    model, image = finder(open_size=False), painted(64, 64, SQUARES)
    assert explain.gradient(model, image, "blue").name == "blue, box 1 of 2"
    assert explain.gradient(model, image, explain.Box(2, "blue")).name == "blue, box 2 of 2"
    assert explain.gradient(model, image, 0).name == "red, box 1 of 1"
    with pytest.raises(ConfigError, match="expected a box from 1 to 3, got 4; 1 is the surest"):
        explain.gradient(model, image, explain.Box(4))
    with pytest.raises(ConfigError, match="expected a box from 1 to 3, got 0"):
        explain.gradient(model, image, explain.Box(0))
    with pytest.raises(ConfigError, match="expected a box of class red that the network finds"):
        explain.gradient(model, painted(64, 64, SQUARES[1:]), "red")
    with pytest.raises(ConfigError, match="got none in this image"):
        explain.gradient(model, painted(64, 64, []))
    with pytest.raises(ConfigError, match="expected the name of one class, got 'green'"):
        explain.gradient(model, image, "green")
    with pytest.raises(ConfigError, match="expected score as logit"):
        explain.gradient(model, image, score="loss")


def test_trust_asks_random_networks_about_the_same_cell() -> None:
    """They find no box, or others; the explained box says where the object is, unless told."""
    model, image = finder(open_size=False), painted(64, 64, SQUARES)
    found = explain.trust(model, image, "gradient_x_input", explain.Box(2), depths=2, samples=2)
    assert found.attribution.name.endswith("box 2 of 3")
    assert len(found.maps) == 2  # it has one layer
    assert found.method.localisation is not None
    assert (found.method.localisation.pointing, found.method.localisation.mass) == (1, 1)
    beside = explain.trust(model, image, "gradient_x_input", explain.Box(2), depths=1, samples=2, boxes=[[0, 0, 6, 6]])
    assert beside.method.localisation is not None
    assert beside.method.localisation.mass == 0
    whole = explain.gradient(model, image, explain.Box(1), score="probability")
    assert whole.score == pytest.approx(sigmoid(np.array([explain.gradient(model, image).score]))[0])


def test_maps_of_one_position_are_compared_where_it_looks() -> None:
    """Outside of nine pixels the gradient of a first-layer element is 0 in every network: that is no likeness."""
    net = fovea.Sequential(fovea.Conv(4, 3, padding="same"), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2))
    model = fovea.Model(net, (16, 16, 3), seed=0)
    x = np.random.default_rng(0).standard_normal((16, 16, 3)).astype(np.float32)
    found = explain.trust(model, x, "gradient_x_input", ("conv1", (5, 6, 1)), depths=4, draws=4, samples=1)
    outside = found.maps.copy()
    outside[:, 4:7, 5:8] = 0
    assert not outside.any()
    assert found.depths[-1].endswith("conv1")
    assert abs(found.method.similarity["spearman_abs"][-1]) < 0.6  # over the whole image it would be above 0.9


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    finder(open_size=False).save("finder.safetensors")
    fovea.models.small_cnn(2, (8, 8, 3)).save("classifier.safetensors")
    Image.fromarray(painted(64, 64, SQUARES)).save("squares.png")

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["explain", *words])
        out, err = capsys.readouterr()
        return code, out, err

    code, out, _ = run("finder.safetensors", "squares.png", "--box", "2", "--method", "gradient", "-o", "why.png")
    assert code == 0
    assert "box 2 of 3" in out
    with Image.open("why.png") as drawn:
        yellow = np.asarray(drawn.convert("RGB")).astype(int)
    assert (np.abs(yellow - (255, 212, 0)).max(axis=-1) < 12).sum() > 50  # the box
    code, out, _ = run("finder.safetensors", "squares.png", "--method", "gradient", "--target", "blue", "--json")
    record: Any = json.loads(out)["explained"][0]
    assert code == 0
    assert record["name"] == "blue, box 1 of 2"
    assert len(record["box"]) == 4
    for words, said in (
        (("finder.safetensors", "squares.png", "--box", "9"), "expected a box from 1 to 3, got 9"),
        (("finder.safetensors", "squares.png", "--trust", "--box", "9"), "expected a box from 1 to 3, got 9"),
        (("finder.safetensors", "squares.png", "--trust", "--box", "1,2"), "got '1,2'; give four numbers"),
        (("finder.safetensors", "squares.png", "--box", "1,2,3,4"), "expected the number of a found box, got 1,2,3,4"),
        (("classifier.safetensors", "squares.png", "--box", "1"), "expected a detector"),
    ):
        code, _, err = run(*words)
        assert code == 2
        assert said in err
        assert len(err.splitlines()) == 1
