"""The report: whole, well formed, self-contained, safe against hostile names, and honest about what it lacks."""

from __future__ import annotations

import re
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

import fovea
from fovea import report
from fovea.data import from_arrays
from fovea.report import figures
from fovea.run import REPORT_FILE, Run

VOID = {"br", "img", "link", "meta"}
CLASSIFICATION = ["learning", "confusion", "classes", "calibration", "abstention", "mistakes"]
COMMON = ["filters", "maps", "network", "data", "configuration", "reproduce"]
HOSTILE = '<script>alert(1)</script>" onload="x'


class Page(HTMLParser):
    """Collects ids and what the page would load; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and value:
                self.loads.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag, (tag, self._open)


def arrays(kind: str, count: int = 24) -> tuple[Any, Any]:
    """Inputs and targets of a kind; two classes, or values."""
    rng = np.random.default_rng(11)
    shapes = {"image": (12, 12, 3), "signal": (300, 1), "volume": (6, 6, 6, 1), "clip": (3, 8, 8, 1)}
    targets = rng.integers(0, 2, count)
    level = targets.reshape(-1, *[1] * len(shapes[kind]))
    inputs = rng.normal(100 + 60 * level, 30, (count, *shapes[kind]))
    if kind in ("image", "clip"):
        return np.clip(inputs, 0, 255).astype(np.uint8), targets
    return inputs.astype(np.float32), targets


def trained(out: Path, kind: str = "image", task: str = "classification", **options: Any) -> tuple[Run, Any]:
    """A run of one epoch and its data."""
    inputs, targets = arrays(kind)
    names = options.pop("classes", ["low", "high"])
    if task == "regression":
        data = from_arrays((inputs, targets.astype(np.float32) * 2.5), kind=kind, task=task, val_fraction=0.25)
    else:
        data = from_arrays((inputs, targets), kind=kind, classes=names, val_fraction=0.25)
    zoo = {"image": fovea.models.small_cnn, "signal": fovea.models.conv1d}.get(kind, fovea.models.conv3d)
    model = options.pop("model", None) or zoo(data.num_classes, data.input_shape)
    return fovea.train(model, data, epochs=2, batch_size=6, out=out, engine="reference", report=False, **options), data


def sections(html: str) -> list[str]:
    return re.findall(r'<h2 id="(\w+)">', html)


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("image", "classification"),
        ("signal", "classification"),
        ("volume", "classification"),
        ("clip", "classification"),
        ("image", "regression"),
    ],
)
def test_every_kind_gives_a_whole_page(tmp_path: Path, kind: str, task: str) -> None:
    run, data = trained(tmp_path / "run", kind, task)
    path = report.write(run, data)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    own = CLASSIFICATION if task == "classification" else ["learning", "values", "mistakes"]
    assert path == tmp_path / "run" / REPORT_FILE
    assert sections(html) == own + COMMON
    assert "Not shown" not in html
    assert {"svg", "img", "table"} <= page.tags
    assert len(page.ids) == len(set(page.ids))
    assert html.count("<svg") >= 3


def test_it_loads_nothing(tmp_path: Path) -> None:
    run, data = trained(tmp_path / "run")
    html = report.write(run, data).read_text(encoding="utf-8")
    page = Page(html)
    assert [address for address in page.loads if not address.startswith(("#", "data:"))] == []
    assert [address for address in re.findall(r"url\(([^)]*)\)", html) if not address.startswith("#")] == []
    assert "http:" not in html
    assert "https:" not in html
    assert page.tags.isdisjoint({"script", "iframe", "object", "embed"})
    anchors = {address[1:] for address in page.loads if address.startswith("#")}
    assert anchors <= set(page.ids)


def test_names_from_outside_are_text(tmp_path: Path) -> None:
    """Class names and file names come from folders that anybody can have made."""
    run, data = trained(tmp_path / "run", classes=[HOSTILE, "plain & simple"])
    html = report.write(run, data).read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "plain &amp; simple" in html
    Page(html)


def test_without_data_the_rest_is_there(tmp_path: Path) -> None:
    run, _ = trained(tmp_path / "run")
    html = report.write(run).read_text(encoding="utf-8")  # trained from arrays: nobody can open them again
    assert sections(html) == CLASSIFICATION + COMMON
    assert html.count("Not shown: ") == 2  # mistakes and feature maps need samples
    assert "trained from arrays" in html
    Page(html)


def test_the_data_of_a_recorded_run_are_opened_again(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x_train=arrays("image")[0], y_train=arrays("image")[1])
    data = fovea.dataset(tmp_path / "data.npz", val_fraction=0.25)
    model = fovea.models.small_cnn(data.num_classes, data.input_shape)
    record = {"data": str(tmp_path / "data.npz"), "options": {"val_fraction": 0.25}, "command": "fovea train data.npz"}
    run = fovea.train(
        model, data, epochs=1, batch_size=6, out=tmp_path / "run", engine="reference", record=record, report=False
    )
    html = report.write(Run(run.path)).read_text(encoding="utf-8")
    assert "Not shown" not in html
    assert "fovea train data.npz" in html


def test_an_unfinished_run_has_a_report_too(tmp_path: Path) -> None:
    def stop(line: dict[str, Any]) -> bool:
        if line["event"] == "epoch":
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", callbacks=[stop])
    run = Run(tmp_path / "run")
    assert not run.finished
    html = report.write(run).read_text(encoding="utf-8")
    assert sections(html) == CLASSIFICATION + COMMON
    assert "has not ended yet" in html
    Page(html)


def test_networks_without_convolution_and_open_sizes(tmp_path: Path) -> None:
    mlp = fovea.Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(6), fovea.ReLU(), fovea.Dense(2)), (12, 12, 3))
    run, data = trained(tmp_path / "mlp", model=mlp)
    html = report.write(run, data).read_text(encoding="utf-8")
    assert "dense1.weight, 432 x 6" in html
    open_size = fovea.Model(
        fovea.Sequential(fovea.Conv(4, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2)), (None, None, 3)
    )
    run, data = trained(tmp_path / "open", model=open_size)
    assert "? x ? x 4" in report.write(run, data).read_text(encoding="utf-8")


def test_many_classes_become_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    inputs, targets = rng.integers(0, 255, (120, 8, 8, 1), np.uint8), np.arange(120) % 60
    data = from_arrays((inputs, targets), val_fraction=0.5)
    model = fovea.models.mlp(60, data.input_shape, hidden=(8,))
    run = fovea.train(model, data, epochs=1, batch_size=20, out=tmp_path / "run", engine="reference", report=False)
    html = report.write(run, data).read_text(encoding="utf-8")
    assert 'class="matrix"' in html
    assert "60 classes" in html
    Page(html)


def test_the_test_split_is_not_read(tmp_path: Path) -> None:
    inputs, targets = arrays("image")
    data = from_arrays((inputs, targets), test=(inputs[:4], targets[:4]), val_fraction=0.25)
    model = fovea.models.small_cnn(2, data.input_shape)
    run = fovea.train(model, data, epochs=1, batch_size=6, out=tmp_path / "run", engine="reference", report=False)
    report.write(run, data)
    assert data.split("test")._loaded is None


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, data = trained(tmp_path / "run")
    before = report.write(run, data).read_bytes()

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fovea.report.build._put", broken)
    with pytest.raises(OSError, match="No space"):
        report.write(run, data)
    assert run.report_path.read_bytes() == before
    assert [path.name for path in run.path.iterdir() if path.suffix == ".tmp"] == []


def settings() -> dict[str, Any]:
    """matplotlib's global settings; asking for the backend alone would import pyplot."""
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


def test_figures_leave_no_state_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it is an error now
    before = settings()
    run, data = trained(tmp_path / "run")
    report.write(run, data)
    assert settings() == before


def test_figures_take_names_in_any_script() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's own font lacks the letters, a browser's has them
        assert "猫" in figures.bars("bars", "samples", ["猫", "Hündin"], [3, 4])


def test_shares_close_to_one_are_written_out() -> None:
    drawn = figures.coverage("coverage", np.linspace(0, 1, 9), np.ones(9), [(1.0, 1.0)])
    assert ">100.0" in drawn
    assert "1e2" not in drawn
