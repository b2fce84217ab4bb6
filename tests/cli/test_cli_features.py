"""`fovea explain` modes about what a network has learned: what they print, write and refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea as library
from fovea.tasks import Regression
from tests.data.boxes_on_disk import shots, voc
from tests.explain.small_networks import pictures, trained
from tests.interop.test_onnx_boxes import random_detector

Answer = tuple[int, str, str]
Run = Callable[..., Answer]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trained model, a picture, a folder of classes and one of pictures alone: commands run there."""
    trained().save(tmp_path / "net.safetensors")
    images, targets = pictures(18, seed=21)
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        for place in (tmp_path / "data" / ["red", "green", "stripes"][target], tmp_path / "flat"):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.png")
    Image.fromarray(images[0]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(path: Path) -> tuple[int, int]:
    with Image.open(path) as drawn:
        return drawn.size


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All words of every figure that is written, as one text each."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    said: list[str] = []
    save = Figure.savefig

    def recorded(figure: Figure, *args: object, **options: object) -> None:
        said.append(" ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split()))
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", recorded)
    return said


def test_maps_and_filters(fovea: Run, world: Path, drawn: list[str]) -> None:
    code, out, _ = fovea("explain", "net.safetensors", "photo.png", "--maps", "relu1", "--json")
    found = json.loads(out)
    assert (code, found["shape"]) == (0, [16, 16, 8])
    assert np.load(world / "photo-relu1.npy").shape == (16, 16, 8)
    assert opened(world / "photo-relu1.png")[0] > 300
    wide = library.Model(library.Sequential(library.Conv(70, 3), library.Conv(9, 3)), (8, 8, 3), seed=0)
    wide.save("wide.safetensors")
    for layer, words in (("conv1", "The first 64 of 70; the array"), ("conv2", "The first 8 of 9; the array")):
        assert (fovea("explain", "wide.safetensors", "--filters", layer)[0], words in drawn[-1]) == (0, True)
    code, out, _ = fovea("explain", "net.safetensors", "--filters", "first")
    assert code == 0
    assert out.startswith("conv1: 8 x 3 x 3 x 3. Each filter in the colours of the input")
    assert np.load(world / "net-conv1-filters.npy").shape == (8, 3, 3, 3)
    code, out, _ = fovea("explain", "net.safetensors", "--filters", "conv2", "-o", "deep.png")
    assert "no pictures of the input" in out
    assert (world / "deep.png").exists()


def test_channels(fovea: Run, world: Path) -> None:
    code, out, _ = fovea("explain", "net.safetensors", "--channels", "data")
    assert code == 0
    assert out.splitlines()[0].split()[:4] == ["layer", "op", "channels", "dead"]
    code, out, _ = fovea("explain", "net.safetensors", "--channels", "flat", "--layer", "relu1", "--json")
    found = json.loads(out)
    assert found["samples"] == 18
    assert [one["layer"] for one in found["layers"]] == ["relu1"]
    assert found["layers"][0]["channels"] == 8


def test_exciting(fovea: Run, world: Path) -> None:
    words = [
        "explain",
        "net.safetensors",
        "--exciting",
        "conv2",
        "--data",
        "flat",
        "--channel",
        3,
        "--top-k",
        2,
        "--json",
    ]
    code, out, _ = fovea(*words)
    found = json.loads(out)
    assert code == 0
    (channel,) = found["channels"]
    assert [len(channel["patches"]), channel["channel"]] == [2, 3]
    patch = channel["patches"][0]
    assert 0 <= patch["low"][0] < patch["high"][0] <= 16
    assert opened(world / "net-conv2-exciting.png")[0] > 200
    code, out, _ = fovea(*words[:6], "-o", "all.png")
    assert code == 0
    assert len([line for line in out.splitlines() if line.startswith("channel ")]) == 7


@pytest.mark.parametrize("data", ["data", "flat"])
def test_embedding(fovea: Run, world: Path, data: str) -> None:
    code, out, _ = fovea("explain", "net.safetensors", "--embedding", "pca", "--data", data, "-o", "plane.png")
    assert code == 0
    assert "of the variance in the plane" in out
    points = np.load(world / "plane.npy")
    assert points.shape == (18 if data == "flat" else 16, 2)


def test_embeddings_of_boxes_have_no_colours_and_need_a_layer(fovea: Run, world: Path) -> None:
    model = random_detector(0)
    model.save("detector.safetensors")
    voc(world / "set", {"train": shots(6, 61, "t"), "val": shots(3, 62, "v")})
    words = ["explain", "detector.safetensors", "--embedding", "pca", "--data", "set"]
    code, out, err = fovea(*words, "--layer", "conv3", "--json")
    assert (code, json.loads(out)["samples"]) == (0, 6), err
    code, out, err = fovea(*words)
    assert (code, out) == (2, "")
    assert "[--layer] expected a NODE whose codes are shown, got none" in err


def test_probes(fovea: Run, world: Path, drawn: list[str]) -> None:
    words = ["explain", "net.safetensors", "--probes", "data"]
    code, out, err = fovea(*words, "--json", "--engine", "reference", "--seed", 3)
    assert code == 0, err
    record = json.loads(out)
    data = library.dataset("data").prepared(trained().preprocessing)
    found = library.features.probe_depths(trained(), data, seed=3, engine="reference")
    assert record == {**found.to_dict(), "files": ["net-probes.png"]}
    assert (record["train"], record["val"]) == (len(data.train), len(data.val or ()))
    assert opened(world / "net-probes.png")[0] > 400
    assert f"{record['train']} training samples, held out in {record['folds']} folds" in drawn[-1]
    code, out, _ = fovea(*words, "-o", "depths.png", "--engine", "reference", "--seed", 3)
    lines = out.splitlines()
    assert (code, (world / "depths.png").exists()) == (0, True)
    assert lines[0].split() == ["layer", "numbers", "held", "out", "spread", "validation"]
    for line, one in zip(lines[1:], record["layers"], strict=False):
        shares = [f"{one[key]:.1%}" for key in ("accuracy", "spread", "val")]
        assert line.split() == [one["layer"], str(one["size"]), *shares]
    assert f"best on held-out folds: {record['best']}" in out


def test_probes_need_a_classifier_and_samples_of_every_class(fovea: Run, world: Path) -> None:
    random_detector(0).save("detector.safetensors")
    net = library.Sequential(library.Conv(3, 3), library.GlobalAvgPool(), library.Dense(3))
    library.Model(net, (16, 16, 3), seed=0).save("plain.safetensors")
    voc(world / "set", {"train": shots(6, 61, "t"), "val": shots(3, 62, "v")})
    known = trained().preprocessing
    library.Model(net, (16, 16, 3), preprocessing=known, task=Regression(), seed=0).save("values.safetensors")
    x = np.zeros((8, 16, 16, 3), np.uint8)
    np.savez("values.npz", x=x, y=np.linspace(0, 1, 8, dtype=np.float32))
    np.savez("few.npz", x=x, y=np.array([0, 0, 0, 0, 0, 0, 0, 1]))
    for model, data, answer in (
        ("detector", "data", "[--probes] expected a network that classifies, got one for detection"),
        ("values", "data", "[--probes] expected a network that classifies, got one for regression"),
        ("plain", "data", "expected a model that knows its preprocessing, got one without"),
        ("net", "set", "[--probes] expected data with classes, got detection from set"),
        ("net", "values.npz", "[--probes] expected data with classes, got regression from values"),
        ("net", "flat", "[--probes] expected data with classes, got pictures alone in flat"),
        ("net", "few.npz", "[--probes] expected two training samples of every class or more, got "),
        ("net", "nothing", "[nothing] is no file, folder or known data set"),
    ):
        code, out, err = fovea("explain", f"{model}.safetensors", "--probes", data)
        assert (code, out, len(err.splitlines())) == (2, "", 1), (data, err)
        assert answer in err


def test_visualise(fovea: Run, world: Path) -> None:
    code, out, _ = fovea(
        "explain", "net.safetensors", "--visualise", "relu2", "--channel", 4, "--count", 2, "--steps", 6
    )
    assert code == 0
    assert out.count("relu2 channel 4: ") == 2
    assert (world / "net-relu2-4.png").exists()
    words = ["explain", "net.safetensors", "--visualise", "class", "--target", "red", "--steps", 6, "--json"]
    code, out, _ = fovea(*words)
    (image,) = json.loads(out)["images"]
    assert image["name"] == "red"
    assert image["value"] > image["start"]
    code, out, _ = fovea("explain", "net.safetensors", "--visualise", "conv1", "--neuron", "--at", "2,3", "--steps", 2)
    assert code == 0
    assert out.count(" at 2,3: ") == 8


def test_what_never_changes_is_said_so_and_sheets_hold_whole_rows(fovea: Run, world: Path, drawn: list[str]) -> None:
    model = copy.deepcopy(trained())  # other tests see the original
    weight = model.parameters()["conv1.weight"].copy()
    weight[..., 4] = 0
    model.store.load({"conv1.weight": weight})
    model.save("silent.safetensors")
    code, out, _ = fovea("explain", "silent.safetensors", "--visualise", "conv1", "--count", 9, "--steps", 1)
    assert (code, len({line.split(":")[0] for line in out.splitlines()[:-1]})) == (0, 7)  # 7 channels of 9 are 63 tiles
    code, out, _ = fovea("explain", "silent.safetensors", "--visualise", "conv1", "--steps", 1, "--json")
    assert [one["depends"] for one in json.loads(out)["images"]] == [channel != 4 for channel in range(8)]
    assert "conv1 channel 4 never changes: noise" in drawn[-1]
    words = ["explain", "net.safetensors", "--exciting", "relu1", "--data", "flat", "--json"]
    assert len(json.loads(fovea(*words, "--top-k", 30)[1])["channels"]) == 2  # of 30 tiles each
    code, out, _ = fovea(*words, "--top-k", 70)
    assert (code, len(json.loads(out)["channels"])) == (0, 1)
    assert "The 64 strongest of 70 are drawn" in drawn[-1]


def test_signals_are_drawn_as_lines(fovea: Run, world: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[int] = []
    monkeypatch.setattr("matplotlib.axes.Axes.plot", lambda self, value, **_: lines.append(len(value)))
    net = library.Sequential(library.Conv(3, 5), library.ReLU(), library.GlobalAvgPool(), library.Dense(2))
    known = library.Preprocessing(kind="signal", size=(40,), channels=1, scale=1.0)
    library.Model(net, (40, 1), preprocessing=known, seed=0).save("sound.safetensors")
    assert fovea("explain", "sound.safetensors", "--visualise", "conv1", "--steps", 1)[0] == 0
    assert lines == [40] * 3
    np.savez(
        "sounds.npz", x=np.random.default_rng(0).standard_normal((6, 40, 1)).astype(np.float32), y=np.arange(6) % 2
    )
    code, _, err = fovea("explain", "sound.safetensors", "--exciting", "conv1", "--data", "sounds.npz", "--top-k", 2)
    assert (code, lines[3:]) == (0, [5] * 6), err


def test_dream_and_invert(fovea: Run, world: Path) -> None:
    code, out, _ = fovea("explain", "net.safetensors", "photo.png", "--dream", "conv2", "--steps", 2)
    assert code == 0
    assert opened(world / "photo-dream-conv2.png") == (32, 32)
    code, out, _ = fovea("explain", "net.safetensors", "photo.png", "--invert", "conv1", "--steps", 4, "--json")
    assert code == 0
    assert 0 < json.loads(out)["error"] < 2


def test_adversarial(fovea: Run, world: Path) -> None:
    words = ["explain", "net.safetensors", "photo.png", "--adversarial", "pgd", "--epsilon", "32/255", "--json"]
    code, out, _ = fovea(*words, "--target", "stripes")
    found = json.loads(out)
    assert code == 0
    assert found["epsilon"] == pytest.approx(32 / 255)
    assert found["after"]["label"] == "stripes"
    before, after = (
        np.asarray(Image.open(world / name)).astype(int) for name in ("photo.png", "photo-pgd-changed.png")
    )
    assert np.abs(before - after).max() <= 32
    code, out, _ = fovea("explain", "net.safetensors", "--adversarial", "fooling", "--target", 1, "--steps", 60)
    assert code == 0
    assert "after:  green" in out


def test_a_name_goes_before_a_number(fovea: Run, world: Path) -> None:
    """Classes that are called as other classes are numbered: every mode takes the name."""
    model = trained()
    library.Model.from_store(model.graph, model.store, ("2", "0", "1"), model.preprocessing).save("named.safetensors")
    words = ["explain", "named.safetensors", "photo.png", "--json", "--target", "0"]
    assert json.loads(fovea(*words)[1])["explained"][0]["target"] == 1
    found = json.loads(fovea(*words, "--adversarial", "pgd", "--epsilon", "64/255")[1])
    assert found["after"]["label"] == "0"
    code, out, _ = fovea(
        "explain", "named.safetensors", "--visualise", "class", "--target", "2", "--steps", 1, "--json"
    )
    assert (code, json.loads(out)["images"][0]["name"]) == (0, "2")


WRONG = [
    ("--maps conv9", "expected one IMAGE behind MODEL, got none"),
    ("photo.png --maps conv9", "near names: conv2, conv1"),
    ("photo.png flat/1.png --maps conv1", "expected one IMAGE behind MODEL, got 2"),
    ("--filters relu1", "[relu1] expected a convolution, got relu"),
    ("--visualise conv1 --channel 8", "[conv1] expected channels from 0 to 7, got 8"),
    ("--visualise class", "[--target] expected a class beside --visualise class, got none"),
    ("--visualise class --target blue", "expected the name of one class, got 'blue'; names are red; green; stripes"),
    ("--visualise conv1 --neuron --at 3;4", "[--at] expected a position such as 3,4"),
    ("--exciting conv1", "[--data] expected a data set beside --exciting, got none"),
    ("--exciting conv1 --data nothing", "[nothing] is no file, folder or known data set"),
    ("--embedding umap --data flat", "[embedding] expected pca or tsne, got 'umap'"),
    ("photo.png --adversarial pgd --epsilon 4", "[adversarial] expected epsilon from 1/255 to 1, got 4.0"),
    ("photo.png --adversarial pgd --epsilon x", "[--epsilon] expected a share such as 4/255 or 0.016, got 'x'"),
    ("photo.png --adversarial deepfool", "[--adversarial] expected fgsm, pgd or fooling, got 'deepfool'"),
    ("--adversarial fooling", "[--target] expected the class that noise is to become, got none"),
    ("--neuron", "[--neuron] expected --visualise beside it, got none"),
    ("photo.png --top-k 3", "[--top-k] expected --exciting NODE beside it"),
    ("photo.png --steps 3", "[--steps] expected --visualise beside it"),
    ("photo.png --seconds 3", "[--seconds] expected --report PAGE.html beside it"),
    ("photo.png --maps conv1 --filters first", "[explain] expected one of --maps and --filters, got both; ask one"),
    ("photo.png --maps conv1 --layer conv2", "[--layer] expected it without --maps, which does not read it"),
    ("photo.png --maps conv1 --backward", "[--backward] expected --arithmetic NODE beside it, got --maps, which"),
    ("--filters first --engine native", "[--engine] expected it without --filters, which does not read it"),
    ("photo.png --data flat", "[--data] expected --report PAGE.html beside it, got none; leave it out"),
    ("photo.png --top-k 9", "[--top-k] expected --exciting NODE beside it, got none"),
    ("photo.png --seed 3", "[grad_cam] expected its own options, got 'seed'"),
    ("photo.png --arithmetic conv1 --weight 0,0,0,0", "[--weight] expected --backward beside it, got --arithmetic"),
    ("--visualise conv1 --at 3,4", "[--at] expected --neuron beside it, got --visualise alone"),
    ("--visualise conv1 --target red", "[--target] expected --visualise class beside it, got conv1"),
    ("--visualise class --target red --channel 3", "[--channel] expected a layer beside it, got --visualise class"),
    ("--adversarial fooling --target red --epsilon 9/255", "[--epsilon] expected fgsm or pgd beside it, got fooling"),
    ("--channels net.safetensors", "holds net.safetensors, no layout that is known"),
    ("photo.png --probes data", "[--probes] expected no IMAGE beside it, got 1; leave it out"),
    ("photo.png flat/1.png --filters first", "[--filters] expected no IMAGE beside it, got 2; leave them out"),
    ("--probes data --layer conv1", "[--layer] expected it without --probes, which does not read it"),
    ("--probes data -o x.svg", "[--out] expected a file that ends in .png, got x.svg"),
    ("--visualise conv1 -o x.jpg", "[--out] expected a file that ends in .png, got x.jpg"),
]  # fmt: skip


def test_every_option_belongs_to_a_mode() -> None:
    import typer

    from fovea.cli.app import app
    from fovea.cli.explain import words

    command = typer.main.get_command(app).commands["explain"]  # type: ignore[attr-defined]
    options = {max(one.opts, key=len) for one in command.params if one.opts[0].startswith("-")} - {"--help"}
    read = {option for _, options in words._MODES.values() for option in options}
    assert options == (read | {*words._MODES, *words._EVERYWHERE}) - {""}


def test_methods_that_draw_take_the_seed(fovea: Run, world: Path) -> None:
    command = ["explain", "net.safetensors", "photo.png", "--method", "smoothgrad,gradient", "--json", "--seed"]
    first, again, other = (json.loads(fovea(*command, seed)[1])["explained"] for seed in (3, 3, 4))
    assert first == again
    assert first[0]["sum"] != other[0]["sum"]
    assert first[1] == other[1]


def test_names_with_slashes_make_no_folders(fovea: Run, world: Path) -> None:
    net = library.Sequential({"a/b": library.Conv(2, 3), "pool": library.GlobalAvgPool(), "head": library.Dense(2)})
    library.Model(net, (16, 16, 3), preprocessing=trained().preprocessing, seed=0).save("slashed.safetensors")
    code, _, _ = fovea("explain", "slashed.safetensors", "photo.png", "--maps", "a/b")
    assert (code, (world / "photo-a-b.png").exists()) == (0, True)


@pytest.mark.parametrize(("words", "answer"), WRONG)
def test_mistakes_are_told_in_one_line(fovea: Run, world: Path, words: str, answer: str) -> None:
    code, out, err = fovea("explain", "net.safetensors", *words.split())
    assert (code, out) == (2, "")
    assert answer in err
    assert len(err.splitlines()) == 1
