"""The sections of a detector's report, from boxes made by hand."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea import report
from fovea.cli import main
from fovea.data import boxes
from fovea.report.detection import detection, headline
from fovea.report.page import page
from fovea.tasks.detect.coco import measure
from tests.detect.scenes import scene
from tests.interop.test_onnx_boxes import random_detector
from tests.report.test_report import HOSTILE, Page, sections

CLASSES = ["ant", HOSTILE, "cat"]


def facts(found: Any, targets: Any, **more: Any) -> Any:
    """What ``fovea.report.facts.Facts`` offers to the sections."""
    rng = np.random.default_rng(0)
    inputs = np.full((len(found), 320, 320, 3), 114, np.uint8)
    inputs[:, 40:280] = rng.integers(0, 100, (len(found), 240, 320, 3))
    model = SimpleNamespace(
        task=SimpleNamespace(score_threshold=0.25), classes=CLASSES, preprocessing=SimpleNamespace(fill=114)
    )
    own = {
        "detail": measure(found, targets, CLASSES, True), "outputs": found, "targets": targets, "inputs": inputs,
        "split": SimpleNamespace(ids=[f"{i}.jpg" for i in range(len(found))]), "model": model,
        "looked_at": "validation", "absent": "",
    }  # fmt: skip
    return SimpleNamespace(**{**own, **more})


def bodies(given: Any) -> dict[str, str]:
    parts = detection(given)
    Page(page("A title", "", parts, ""))
    return {part.anchor: part.body for part in parts}


def test_every_section_is_whole_and_names_are_text() -> None:
    targets, found = scene(0)
    shown = bodies(facts(found, targets))
    assert list(shown) == ["precision", "confusion", "classes", "mistakes"]
    assert all("Not shown" not in body for body in shown.values())
    assert all("<script" not in body for body in shown.values())
    assert shown["precision"].count("<svg") == 2
    assert shown["confusion"].count("<tr>") >= 5
    assert "nothing there" in shown["confusion"]
    assert "missed" in shown["confusion"]


def test_worst_images_come_first_without_the_letterbox() -> None:
    rows = [boxes.rows_of([[20, 60, 80, 120], [100, 60, 160, 120]], [0, 2])] * 3
    found = np.full((3, 4, 6), -1, np.float32)
    found[0, :2] = [[20, 60, 80, 120, 0.9, 0], [100, 60, 160, 120, 0.8, 2]]  # all right
    found[1, :1] = [[20, 60, 80, 120, 0.9, 0]]  # one missed
    found[2, :2] = [[20, 60, 80, 120, 0.9, 2], [200, 200, 240, 240, 0.8, 0]]  # another class, nothing there, one missed
    body = bodies(facts(found, boxes.padded(rows)))["mistakes"]
    assert "1 of 3 validation images" in body
    assert re.findall(r"(\d right, \d wrong, \d missed)<br><small>(\d).jpg", body) == [
        ("0 right, 2 wrong, 2 missed", "2"), ("1 right, 0 wrong, 1 missed", "1"),
    ]  # fmt: skip
    data = re.findall(r"base64,([^\"]+)", body)
    picture = Image.open(io.BytesIO(base64.b64decode(data[0])))
    assert picture.size == (480, 360)


def test_a_detector_without_a_mistake_and_one_without_data() -> None:
    rows = [boxes.rows_of([[20, 60, 80, 120]], [0])] * 2
    found = np.full((2, 1, 6), -1, np.float32)
    found[:, 0] = [20, 60, 80, 120, 0.9, 0]
    assert "None: every object of all 2" in bodies(facts(found, boxes.padded(rows)))["mistakes"]
    lacking = bodies(facts(found, boxes.padded(rows), outputs=None, inputs=None, detail={}, absent="the disk is gone"))
    assert all("Not shown: the disk is gone" in body for body in lacking.values())


def test_headline() -> None:
    assert headline({"map": 0.61234, "map50": 0.9}, "test", "72 images") == [
        ("test mAP@[.50:.95]", "0.612", "72 images"), ("test mAP@.50", "0.900", "72 images"),
    ]  # fmt: skip


def test_a_run_of_a_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained for an epoch: the page is whole, and the test result stands beside that of validation."""
    rng = np.random.default_rng(0)
    images, rows = rng.integers(0, 90, (16, 96, 96, 3), dtype=np.uint8), []
    for image in images:
        x, y = rng.integers(0, 64, 2)
        image[y : y + 24, x : x + 30] = (250, 60, 40)
        rows.append([[x, y, x + 30, y + 24, 0]])
    data = fovea.from_arrays((images, rows), task="detection", classes=["brick"], val_fraction=0.25)
    model = random_detector(0, side=96, classes=1)
    model.classes = ("brick",)
    run = fovea.train(
        model, data, epochs=2, batch_size=4, out=tmp_path / "run", augment="none", lr=1e-4, engine="native",
        report=False,
    )  # fmt: skip
    html = report.write(run, data).read_text(encoding="utf-8")
    Page(html)
    assert sections(html) == [
        "learning", "precision", "confusion", "classes", "mistakes", "filters", "maps", "network", "data",
        "configuration", "reproduce",
    ]  # fmt: skip
    assert "Not shown" not in html
    assert "Objects of 1 class in images" in html
    assert "mAP@[.50:.95]" in html
    assert run.model.task.kind == "detection"
    result = fovea.evaluate(run, data, "val")
    assert set(result) >= {"map", "map50", "per_class", "confusion", "voc_map50", "pr"}
    json.dumps(result, allow_nan=False)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run")]) == 2  # trained from arrays: nobody can open them again
