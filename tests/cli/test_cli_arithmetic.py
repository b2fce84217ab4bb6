"""`fovea explain --arithmetic`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea as library
from fovea.cli.explain.arithmetic_text import arithmetic_text
from fovea.explain import layer_arithmetic
from fovea.report.arithmetic import arithmetic_picture

Answer = tuple[int, str, str]
Run = Callable[..., Answer]


def network() -> library.Model:
    """A network of every kind of layer that is drawn in a way of its own."""
    net = library.Sequential(
        library.Conv(4, 3, padding=1), library.BatchNorm(), library.ReLU(), library.MaxPool(2),
        library.Residual(library.Conv(4, 7, padding=3)), library.ConvTranspose(3, 2, stride=2),
        library.AvgPool(2), library.Flatten(), library.Dense(3),
    )  # fmt: skip
    known = library.Preprocessing(size=(12, 12), channels=3)
    return library.Model(net, input_shape=(12, 12, 3), classes=["cat", "dog", "owl"], preprocessing=known, seed=2)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a picture, which is where commands run."""
    network().save(tmp_path / "net.safetensors")
    pixels = np.random.default_rng(4).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_numbers_are_printed_and_drawn(fovea: Run, world: Path) -> None:
    words = ["explain", "net.safetensors", "photo.png", "--arithmetic", "conv1", "--at", "11,0", "--channel", 2]
    code, out, err = fovea(*words)
    assert (code, err) == (0, "")
    assert "conv1[11, 0, 2]\n  = b[2] + sum over m, k of X[i + m - 1, k] F[m, k, 2]" in out
    assert "height: floor((12 + 1 + 1 - 3) / 1) + 1 = 12" in out
    assert "(0)" in out  # padding at the corner
    assert "engine has" in out
    assert "DOES NOT" not in out
    assert out.endswith("wrote photo-arithmetic-conv1.png\n")
    with Image.open(world / "photo-arithmetic-conv1.png") as drawn:
        assert drawn.width > 500


def test_json_is_the_structure(fovea: Run, world: Path) -> None:
    words = ["explain", "net.safetensors", "photo.png", "--arithmetic", "residual1.conv1", "--backward", "--json"]
    code, out, _ = fovea(*words, "--target", "owl", "--weight", "3,3,1,2", "-o", "x.png")
    found = json.loads(out)
    assert (code, found["agrees"], found["label"], found["files"]) == (0, True, "owl", ["x.png"])
    quantities = [one["quantity"] for one in found["calculations"]]
    assert quantities == ["grad_input", "grad_weight", "grad_bias"]
    assert found["calculations"][1]["index"] == [3, 3, 1, 2]
    total = sum(term["product"] for term in found["calculations"][0]["terms"])
    assert total == pytest.approx(found["calculations"][0]["total"])


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    "layer",
    ["batchnorm1", "relu1", "maxpool1", "residual1.conv1", "residual1.add1", "convtranspose1", "avgpool1", "flatten1",
     "dense1"],
)  # fmt: skip
def test_every_kind_is_written_and_drawn(layer: str, backward: bool) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (20, 20, 3), np.uint8)
    found = layer_arithmetic(network(), pixels, layer, backward=backward, training=layer == "batchnorm1")
    text = arithmetic_text(found)
    assert text.count("engine has") == len(found.calculations) + backward
    assert "DOES NOT" not in text
    assert arithmetic_picture(found).startswith(b"\x89PNG")


@pytest.mark.parametrize(("shape", "at"), [((9, 2), (4,)), ((4, 5, 6, 2), (1, 2, 3))])
def test_signals_and_volumes_are_drawn(shape: tuple[int, ...], at: tuple[int, ...]) -> None:
    net = library.Sequential(library.Conv(3, 3, padding=1), library.GlobalAvgPool(), library.Dense(2))
    model = library.Model(net, input_shape=shape, seed=1)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = layer_arithmetic(model, x, "conv1", at, 1)
    assert "F, the weight" in arithmetic_text(found)
    assert arithmetic_picture(found).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arithmetic", "conv1", "--at", "12,0"], "(height 0 to 11, width 0 to 11), got 12,0"),
        (["--arithmetic", "conv1", "--at", "a,0"], "expected integers from 0 on"),
        (["--arithmetic", "conv1", "--channel", "4"], "from 0 to 3, got 4"),
        (["--arithmetic", "conv7"], "near names: conv1"),
        (["--arithmetic", "conv1", "--backward", "--weight", "0,0"], "from 0,0,0,0 to 2,2,2,3, got 0,0"),
        (["--arithmetic", "conv1", "--backward", "--target", "cow"], "names are"),
        (["--at", "1,2"], "expected --arithmetic NODE beside it"),
        (["--batch-statistics"], "expected --arithmetic NODE beside it"),
        (["--arithmetic", "conv1", "-o", "x.jpg"], "ends in .png"),
    ],
)
def test_mistakes_are_told_in_one_line(fovea: Run, world: Path, words: list[str], message: str) -> None:
    code, out, err = fovea("explain", "net.safetensors", "photo.png", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(world.glob("photo-*"))


def test_grids_of_a_volume_are_slices_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pooling has one channel, whose grids are slices; a convolution has grids of channels and slices."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    said: list[str] = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *_, **__: said.extend(one.get_text() for one in self.findobj(Text))
    )
    net = library.Sequential(library.Conv(2, 2), library.MaxPool(2))
    model = library.Model(net, input_shape=(5, 5, 5, 2), seed=0)
    x = np.random.default_rng(0).standard_normal((5, 5, 5, 2)).astype(np.float32)
    for layer, drawn in (("maxpool1", r"X, from conv1, slice \d"), ("conv1", r"X, from input1, channel \d, slice \d")):
        said.clear()
        arithmetic_picture(layer_arithmetic(model, x, layer, (1, 1, 1), 1))
        titles = [" ".join(text.split()) for text in said if "X, from" in text]
        assert len(titles) == len(set(titles)) > 1
        assert all(re.fullmatch(drawn, title) for title in titles)
