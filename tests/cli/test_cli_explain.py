"""`fovea explain MODEL IMAGE`: pictures, arrays, words and JSON; every method by name; mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea as library
from fovea import explain
from fovea.report.attribution import picture
from fovea.report.overlay import WARNING, scale
from tests.explain.attribution_nets import plain
from tests.explain.small_networks import pictures, trained

Answer = tuple[int, str, str]
Run = Callable[..., Answer]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trained model and a photograph of another size: commands run there."""
    trained().save(tmp_path / "net.safetensors")
    Image.fromarray(pictures(2, seed=5)[0][1]).resize((40, 30)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as drawn:
        return np.asarray(drawn.convert("RGB"))


def test_by_default_grad_cam_of_the_first_class(fovea: Run, world: Path) -> None:
    code, out, err = fovea("explain", "net.safetensors", "photo.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("Grad-CAM at relu2: green ")
    assert out.splitlines()[-1] == "wrote photo-grad-cam.png and photo-grad-cam.npy"
    drawn, values = opened(world / "photo-grad-cam.png"), np.load(world / "photo-grad-cam.npy")
    assert values.shape == (16, 16)
    assert drawn.shape[1] > 600
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 500, "an image, a map, words"


def test_what_is_asked_for_is_what_is_written(fovea: Run, world: Path) -> None:
    words = ["--method", "integrated-gradients", "--target", "stripes", "--score", "probability", "--baseline", "black"]
    code, out, _ = fovea("explain", "net.safetensors", "photo.png", *words, "-o", "new/map.png", "--json")
    (record,) = json.loads(out)["explained"]
    own = explain.integrated_gradients(trained(), "photo.png", "stripes", score="probability", baseline="black")
    assert code == 0
    np.testing.assert_allclose(np.load(world / "new" / "map.npy"), own.values, atol=1e-7)
    assert record["method"] == "integrated_gradients"
    assert record["name"] == "probability of stripes"
    assert record["score"] == pytest.approx(own.score)
    assert record["sum"] == pytest.approx(float(own.values.sum()), abs=1e-6)
    assert record["notes"][0].startswith("completeness: the values add up to")
    assert record["layer"] is None
    code, out, _ = fovea(
        "explain", "net.safetensors", "photo.png", "--method", "grad_cam", "--layer", "relu1", "--json"
    )
    assert json.loads(out)["explained"][0]["layer"] == "relu1"


def test_several_methods_stand_beside_each_other(fovea: Run, world: Path) -> None:
    code, out, _ = fovea("explain", "net.safetensors", "photo.png", "--method", "grad-cam,gradient,guided-backprop")
    assert code == 0
    assert "shows edges, not reasons" in out
    assert out.splitlines()[-1] == "wrote photo-methods.png and 3 arrays beside it"
    assert {path.name for path in world.glob("photo-methods*.npy")} == {
        "photo-methods-grad-cam.npy", "photo-methods-gradient.npy", "photo-methods-guided-backprop.npy",
    }  # fmt: skip
    assert opened(world / "photo-methods.png").shape[1] > 1200


def test_every_method_of_the_list_is_named_in_help_or_error(fovea: Run, world: Path) -> None:
    code, out, _ = fovea("explain", "net.safetensors", "photo.png", "--method", "all", "--json")
    assert code == 0
    assert [one["method"] for one in json.loads(out)["explained"]] == list(explain.METHODS)
    assert json.loads(out)["left_out"] == {}
    _, _, err = fovea("explain", "net.safetensors", "photo.png", "--method", "magic")
    assert all(name in err for name in explain.METHODS)


def test_all_methods_that_fit_a_network(fovea: Run, world: Path) -> None:
    """Of an int8 network, and of one with layer norm, what cannot explain it is left out and named, once a reason."""
    model = trained()
    library.quantize(model, model.preprocessing.apply_pixels(pictures(64)[0])).save("small.safetensors")
    code, out, err = fovea("explain", "small.safetensors", "photo.png", "--method", "all")
    assert (code, err) == (0, "")
    assert [line.split(":")[0].split(" at ")[0] for line in out.splitlines()[:3]] == ["Score-CAM", "occlusion", "RISE"]
    (line,) = (line for line in out.splitlines() if line.startswith("left out"))
    assert "guided Grad-CAM: expected a network with gradients, got one quantised to int8" in line
    normed = plain(library.Conv(4, 3), library.LayerNorm(), library.GELU())
    normed.preprocessing = library.Preprocessing(size=(8, 8))
    normed.save("normed.safetensors")
    code, out, _ = fovea("explain", "normed.safetensors", "photo.png", "--method", "all", "--json")
    found = json.loads(out)
    assert len(found["explained"]) + len(found["left_out"]) == len(explain.METHODS)
    assert found["left_out"]["DeepLIFT (rescale)"].startswith("DeepLIFT has no rule for layernorm")
    code, out, err = fovea("explain", "normed.safetensors", "photo.png", "--method", "all", "--layer", "flatten1")
    assert (code, out) == (2, "")
    assert "expected a layer with space on the way to the score, got flatten1" in err
    words = ["explain", "normed.safetensors", "photo.png", "--method", "gradient", "--target"]
    code, out, _ = fovea(*words, "conv1:1,2,3", "--json")
    assert json.loads(out)["explained"][0]["name"] == "conv1[1,2,3]"
    code, _, err = fovea(*words, "conv1:9,9,9")
    assert (code, "expected the index of one element of conv1" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.safetensors", "gone.png"], "[gone.png] expected a file, found none"),
        (["net.safetensors"], "expected one IMAGE behind MODEL, got none"),
        (["net.safetensors", "net.safetensors"], "is not an image of a known format"),
        (["net.safetensors", "photo.png", "--target", "gren"], "names are green"),
        (["net.safetensors", "photo.png", "--target", "9"], "expected a class from 0 to 2, got 9"),
        (["net.safetensors", "photo.png", "--layer", "rel2"], "near names: relu2"),
        (["net.safetensors", "photo.png", "--layer", "dense1"], "expected a layer with space"),
        (["net.safetensors", "photo.png", "--method", "gradient", "--baseline", "blur"], "expected its own options"),
        (["net.safetensors", "photo.png", "--engine", "warp"], "expected one of native, reference"),
        (["net.safetensors", "photo.png", "-o", "map.jpg"], "expected a file that ends in .png"),
        (["net.safetensors", "photo.png", "--score", "odds"], "expected score as logit"),
        (["gone.safetensors", "photo.png"], "expected a model file, found none"),
    ],
)
def test_mistakes(fovea: Run, world: Path, words: list[str], message: str) -> None:
    code, out, err = fovea("explain", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err


def test_pictures_say_what_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words that are drawn: method, layer, class, notes; and the warning on methods that fail the test."""
    from matplotlib.figure import Figure

    said: list[str] = []
    draw = Figure.savefig

    def recorded(figure: Figure, *args: object, **options: object) -> None:
        from matplotlib.text import Text

        said.extend(text.get_text() for text in figure.findobj(Text))
        draw(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", recorded)
    model, (images, _) = trained(), pictures(2, seed=5)
    picture(explain.grad_cam(model, images[1]))
    assert any(words.startswith("Grad-CAM at relu2\ngreen: ") for words in said)
    assert not any(WARNING in words for words in said)
    picture(explain.guided_backprop(model, images[1]))
    assert any(WARNING in words for words in said)
    picture(explain.integrated_gradients(model, images[1]))
    assert any("completeness" in words for words in said)


def test_scales_are_symmetric_for_signed_maps() -> None:
    values = np.linspace(-1, 3, 1000).reshape(20, 50)
    low, high = scale(values, signed=True)
    assert low == -high
    assert 2.9 < high <= 3
    assert scale(np.abs(values), signed=False)[0] == 0
    assert scale(values + 100, signed=False)[0] > 98
    assert scale(np.zeros((4, 4)), signed=True) == (-1.0, 1.0)
    assert scale(np.zeros((4, 4)), signed=False) == (0.0, 1.0)
