"""`fovea explain --trust`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea as library
from tests.interop.test_onnx_boxes import photo, random_detector

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a picture, which is where commands run."""
    known = library.Preprocessing(size=(12, 12))
    model = library.models.small_cnn(2, (12, 12, 3), classes=["cat", "dog"], seed=2)
    model.preprocessing = known
    model.save(tmp_path / "net.safetensors")
    pixels = np.random.default_rng(4).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_map_is_measured_beside_baselines(fovea: Run, world: Path) -> None:
    words = ["explain", "net.safetensors", "photo.png", "--method", "guided-backprop", "--trust"]
    code, out, err = fovea(*words, "--box", "4,4,20,20", "--box", "0,0,2,2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("guided backpropagation: ")
    assert "follow the weights: while they become random from the top down" in out
    assert "known of this method: it changes little when weights are random" in out
    rows = [line.split("  ")[0] for line in lines[3:8]]
    assert rows == ["map", "guided backpropagation", "edges of the image", "random CAM", "blob in the middle"]
    assert "mass inside" in lines[3]
    names = {path.name for path in world.iterdir()} - {"net.safetensors", "photo.png"}
    stem = "photo-guided-backprop"
    assert names == {f"{stem}.png", f"{stem}.npy", f"{stem}-trust.png"}


def test_several_methods_and_json(fovea: Run, world: Path) -> None:
    words = ["explain", "net.safetensors", "photo.png", "--method", "gradient,hires-cam", "--trust", "--target", "dog"]
    code, out, _ = fovea(*words, "--json", "-o", "x.png")
    found = json.loads(out)
    assert (code, [one["method"] for one in found["trust"]]) == (0, ["gradient", "hires_cam"])
    assert all(one["name"] == "dog" and len(one["measures"]) == 4 for one in found["trust"])
    assert found["files"][:3] == ["x-gradient.png", "x-gradient.npy", "x-gradient-trust.png"]
    assert all((world / name).exists() for name in found["files"])


def test_all_methods_share_their_baselines(fovea: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fovea.explain.trusting import report

    measured: list[str] = []
    measure = report._Bench.measure

    def counted(self: report._Bench, explainer: report.Explainer, question: report.Question) -> object:
        measured.append(explainer.name)
        return measure(self, explainer, question)

    monkeypatch.setattr(report._Bench, "measure", counted)
    words = ["explain", "net.safetensors", "photo.png", "--trust", "--json"]
    code, out, err = fovea(*words, "--method", "all", "--layer", "stage1.relu1", "--baseline", "black")
    assert code == 0, err
    found = {one["method"]: one for one in json.loads(out)["trust"]}
    assert len(found) > 10
    assert [measured.count(name) for name in ("edges", "random_cam", "blob")] == [2, 2, 2], "that layer and the default"
    for name, options in (("gradient", []), ("grad_cam", ["--layer", "stage1.relu1"])):
        (alone,) = json.loads(fovea(*words, *options, "--method", name)[1])["trust"]
        assert found[name] == alone


def test_a_found_box_by_its_number_and_corners(fovea: Run, world: Path) -> None:
    random_detector(0).save(world / "detector.safetensors")
    Image.fromarray(photo(0, 96, 96)).save("scene.png")
    words = ["explain", "detector.safetensors", "scene.png", "--trust", "--method", "gradient", "--json"]
    code, out, err = fovea(*words, "--box", "2", "--box", "10,10,40,40")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)["trust"]
    assert ", box 2 of " in found["name"]
    assert found["measures"][0]["localisation"]["area"] == pytest.approx(30 * 30 / 96**2)
    code, out, err = fovea(*words, "--box", "2", "--box", "3")
    assert (code, out) == (2, "")
    assert "expected the number of a found box, got 2 and 3" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--box", "1,2,3,4"], "give 1, or add --trust for corners"),
        (["--trust", "--box", "1,2,3"], "expected X1,Y1,X2,Y2"),
        (["--trust", "--box", "30,30,40,40"], "expected a box inside of what the network sees"),
        (["--trust", "--method", "gradients"], "did you mean gradient"),
        (["--trust", "--target", "cow"], "names are cat; dog"),
    ],
)
def test_mistakes_are_told_in_one_line(fovea: Run, world: Path, words: list[str], message: str) -> None:
    code, out, err = fovea("explain", "net.safetensors", "photo.png", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(world.glob("photo-*"))
