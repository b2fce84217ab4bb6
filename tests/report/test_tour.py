"""The tour of a network: one page that loads nothing, with what was asked for and a word on what is missing."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea.cli import main
from fovea.errors import ConfigError, DataError
from fovea.model import Model
from fovea.report.tour import looks, reasons, trusted, write
from fovea.report.tour.visit import Visit, evenly
from tests.conftest import ROOT
from tests.detect.square_finder import finder, painted
from tests.explain.small_networks import NAMES, pictures, trained


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "STEPS", 3)
    monkeypatch.setattr(reasons, "STEPS", 3)
    for name, number in (("_DEPTHS", 1), ("_STEPS", 4), ("_SAMPLES", 1)):
        monkeypatch.setattr(trusted, name, number)


def data(n: int = 60) -> fovea.data.dataset.Dataset:
    images, targets = pictures(n, seed=3)
    return fovea.from_arrays((images, targets), classes=NAMES)


class Page(HTMLParser):
    """Anchors, text and addresses of a page; every element that opens must close."""

    EMPTY = frozenset({"meta", "link", "img", "br", "path", "use"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "h2":
            self.anchors.append(str(found.get("id")))
        self.sources += [str(found[name]) for name in ("src", "href") if name in found]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def checked(path: Path) -> tuple[Page, str]:
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert len(set(page.anchors)) == len(page.anchors)
    for source in page.sources:
        assert source.startswith(("#", "data:")), source[:60]
    assert not re.search(r"url\((?!#)|@import|<script|https?://", html)
    for link in page.sources:
        if link.startswith("#") and not link.startswith(("#growth", "#channels-", "#depth")):
            assert link[1:] in page.anchors
    return page, html


EVERYTHING = [
    "answers", "network", "filters", "maps", "channels", "classes", "why", "attacks", "memory", "dead", "alike",
    "probes", "made",
]  # fmt: skip


def test_everything_is_there_with_pictures_and_data(tmp_path: Path) -> None:
    images = pictures(2, seed=5)[0]
    page, html = checked(write(trained(), tmp_path / "tour.html", list(images), data(36)))
    assert page.anchors == EVERYTHING
    assert "Left out" not in html
    assert html.count("relu1") > 3
    assert "picture 1" in html
    assert html.count("how far to trust them") == 2
    assert "follows the weights" in html
    assert html.count("<img") > 100
    assert "prefers-color-scheme: dark" in html


def test_without_pictures_and_data_it_says_so(tmp_path: Path) -> None:
    page, html = checked(write(trained(), tmp_path / "tour.html"))
    assert page.anchors == ["network", "filters", "channels", "classes", "made"]
    assert "no pictures were given" in html
    assert "no data were given" in html


def test_data_without_classes(tmp_path: Path) -> None:
    _, html = checked(write(trained(), tmp_path / "t.html", data=data(24), labelled=False))
    assert "the data have no classes" in html
    assert 'class="swatch' not in html


def test_little_time_leaves_out_and_says_what(tmp_path: Path) -> None:
    images = list(pictures(1, seed=5)[0])
    page, html = checked(write(trained(), tmp_path / "t.html", images, data(24), seconds=1e-6))
    assert {"network", "filters", "maps", "dead"} <= set(page.anchors)
    assert "classes" not in page.anchors
    assert "images made for classes: about" in html
    assert "images made for relu2: about" in html
    assert "trust numbers for picture 1: about" in html


def test_classes_have_colours_of_their_own_in_the_plane() -> None:
    """A rule of higher weight that sets a border's colour would make all frames one colour."""
    css = (ROOT / "src/fovea/report/style.css").read_text()
    (rule,) = re.findall(r"\.plane div \{([^}]*)\}", css)
    assert not re.search(r"border(-color)?:", rule)
    assert ".s0 { border-color:" in css


def test_pictures_go_through_preprocessing_once(tmp_path: Path) -> None:
    """A model that enlarges before it cuts: what is said of a picture is what predict says of it."""
    known = fovea.Preprocessing(size=(16, 16), resize_to=24, mean=(0.45,) * 3, std=(0.15,) * 3)
    model = Model.from_store(trained().graph, trained().store, NAMES, known)
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), dtype=np.uint8)
    path = write(model, tmp_path / "t.html", list(images))
    _, html = checked(path)
    for one in model.predict(list(images)):
        share = f"{one.to_dict()['probability']:.1%}".replace("%", " %")
        assert html.count(share) >= 2  # under the picture, and before the attack


def test_other_kinds_and_tasks(tmp_path: Path) -> None:
    signals = np.random.default_rng(0).standard_normal((12, 64, 1)).astype(np.float32)
    model = Model(
        fovea.Sequential(fovea.Conv(4, 5, padding=2), fovea.ReLU(), fovea.MaxPool(2), fovea.Conv(6, 3), fovea.ReLU(),
                         fovea.GlobalAvgPool(), fovea.Dense(2)), (64, 1), ["low", "high"],
        preprocessing=fovea.Preprocessing(kind="signal", size=(64,), channels=1, scale=1.0), seed=2,
    )  # fmt: skip
    waves = fovea.from_arrays((signals, np.arange(12) % 2), classes=["low", "high"], kind="signal")
    page, _ = checked(write(model, tmp_path / "s.html", list(signals[:1]), waves))
    assert {"answers", "maps", "channels", "classes", "dead"} <= set(page.anchors)
    assert not {"why", "attacks"} & set(page.anchors)
    regression = Model(
        fovea.Sequential(fovea.Conv(4, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(1)), (16, 16, 3),
        preprocessing=trained().preprocessing, task=fovea.tasks.regress.Regression(), seed=2,
    )  # fmt: skip
    page, _ = checked(write(regression, tmp_path / "r.html", list(pictures(1)[0])))
    assert {"answers", "channels"} <= set(page.anchors)
    assert "classes" not in page.anchors


def test_outputs_that_no_task_reads_leave_out_the_answers_alone(tmp_path: Path) -> None:
    """Two outputs, and a map of classes."""
    x = fovea.Input((16, 16, 3))
    seen = fovea.ReLU()(fovea.Conv(4, 3)(x))
    pooled = fovea.GlobalAvgPool()(seen)
    for outputs, why in (
        ([fovea.Dense(2)(pooled), fovea.Dense(3)(pooled)], "answers: a task of classification has one output"),
        ([fovea.Conv(3, 1)(seen)], "answers: expected outputs N,C, got shape"),
    ):
        model = Model(fovea.Graph(x, outputs), preprocessing=trained().preprocessing, seed=0)
        page, html = checked(write(model, tmp_path / "t.html", list(pictures(1)[0])))
        assert {"answers", "network", "maps", "channels"} <= set(page.anchors)
        assert why in html


def test_an_int8_network_is_shown_without_gradients(tmp_path: Path) -> None:
    quantized = fovea.quantize(trained(), data(60))
    page, html = checked(write(quantized, tmp_path / "q.html", list(pictures(1)[0]), data(24)))
    assert "quantised to int8 and has no gradients" in html
    assert {"why", "channels", "dead"} <= set(page.anchors)
    assert "classes" not in page.anchors


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    trained().save("net.safetensors")
    for number, image in enumerate(pictures(9, seed=2)[0]):
        (tmp_path / "flat").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "flat" / f"{number}.png")
    words = ["explain", "net.safetensors", "flat/0.png", "flat/1.png", "--data", "flat"]
    assert main([*words, "--report", "tour.html"]) == 0
    assert capsys.readouterr().out.startswith("wrote tour.html (")
    checked(tmp_path / "tour.html")
    for wrong, answer in (
        (["--report", "tour.pdf"], "[--report] expected a file that ends in .html, got tour.pdf"),
        (["--report", "t.html", "--seconds", "0"], "[--seconds] expected seconds above 0, got 0.0"),
        (["--seconds", "5"], "[--data] expected --report PAGE.html beside it"),
        (["nothing.png", "--report", "t.html"], "[nothing.png] expected a file, found none"),
    ):
        assert main([*words, *wrong]) == 2
        assert answer in capsys.readouterr().err


def test_mistakes_in_python(tmp_path: Path) -> None:
    bare = Model.from_store(trained().graph, trained().store)
    with pytest.raises(DataError, match=r"\[report\] expected a model that knows its preprocessing"):
        write(bare, tmp_path / "t.html")
    with pytest.raises(ConfigError, match=r"ends in \.html"):
        write(trained(), tmp_path / "t.txt")


def test_evenly() -> None:
    assert evenly(0, 5) == []
    assert evenly(3, 5) == [0, 1, 2]
    assert evenly(100, 3) == [0, 50, 99]


def test_stops_are_maps_along_the_depth() -> None:
    def stops(model: Any) -> list[str]:
        known = model.preprocessing
        return Visit(model, known, [], np.zeros((0, *known.sample_shape), np.uint8), (), None, False, 10).stops

    assert stops(trained()) == ["relu1", "relu2"]  # what is pooled is looked at before
    large = fovea.models.mobilenetv2(preprocessing=fovea.Preprocessing(size=(224, 224)))
    assert len(stops(large)) == 5


def test_a_detector_explains_its_boxes(tmp_path: Path) -> None:
    """Boxes on the pictures; maps and trust of those where something was found, with the box as the object."""
    model = finder(open_size=False)
    images = [painted(64, 64, [(8, 8, 16, 16, 0), (40, 24, 48, 32, 1)]), painted(64, 64, [])]
    page, html = checked(write(model, tmp_path / "t.html", images))
    assert {"answers", "why"} <= set(page.anchors)
    assert "1 red  1 blue" in html
    assert "nothing found" in html
    assert "Which pixels count for the class of the surest box" in html
    assert html.count("how far to trust them") == 1
    assert "mass inside" in html
    assert "open MACs" not in html
    (shown, _) = answers_of(html)
    assert (np.abs(shown.astype(int) - (230, 159, 0)).max(axis=-1) < 30).sum() > 50  # a red square's box


def answers_of(html: str) -> list[Any]:
    """The pictures under "Pictures and answers" as arrays."""
    section = html[html.index('id="answers"') : html.index('id="network"')]
    found = re.findall(r'src="data:image/[a-z]+;base64,([^"]+)"', section)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in found]
