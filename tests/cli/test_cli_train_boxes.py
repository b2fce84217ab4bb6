"""`fovea train` on images with boxes: the detector it makes, the options it takes, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fovea as library
from tests.data.boxes_on_disk import shots, voc

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return voc(tmp_path / "set", {"train": shots(4, 1, "t"), "val": shots(2, 2, "v")})


def test_a_detector_is_made_and_trained_as_suits_it(fovea: Run, folder: Path, tmp_path: Path) -> None:
    code, out, err = fovea("train", folder, "--epochs", 1, "--size", 64, "--out", tmp_path / "run")
    assert code == 0, err
    assert f"fovea detect {tmp_path / 'run'} FILE" in out
    assert "boxes of 3 classes" in err
    assert "detector_nano (chosen by the data; another: --model)" in err
    config = json.loads((tmp_path / "run/config.json").read_text())["train"]
    assert config["optimizer"]["kind"] == "adamw"
    assert config["ema"] == 0.998
    assert config["warmup_epochs"] == 0.1
    model = library.load(tmp_path / "run")
    assert model.classes == ("ant", "bee", "cow")
    assert model.graph.input_shapes == ((None, None, 3),)  # used at other sizes, too


def test_a_trained_detector_goes_where_other_models_go(fovea: Run, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fovea("train", folder, "--epochs", 1, "--size", 64, "--out", run)[0] == 0
    code, out, err = fovea("quantize", run, "-o", tmp_path / "int8.safetensors")
    assert (code, "map (val)" in out) == (0, True), err
    assert fovea("export", run, "-o", tmp_path / "net.onnx", "--images")[0] == 0  # at the size that it was trained at
    code, out, err = fovea("verify", run, "--tolerance", 1e-3)
    assert (code, "on 2 samples" in out) == (0, True), err
    code, _, err = fovea("classmap", run, next(folder.glob("JPEGImages/*")), "-o", tmp_path / "map.png")
    assert (code, err) == (2, "[class map] expected a classifier, got a model that finds boxes; use detect\n")


def test_a_trained_backbone_is_carried_over_and_learns_slower(fovea: Run, folder: Path, tmp_path: Path) -> None:
    known = library.Preprocessing(size=(64, 64), mean=(0.5,) * 3, std=(0.25,) * 3)
    trained = library.models.mobilenetv3_small(num_classes=7, input_shape=(64, 64, 3), preprocessing=known)
    file = trained.save(tmp_path / "backbone.safetensors")
    words = ("--epochs", 1, "--size", 64, "--lr", 1e-9, "--weight-decay", 0, "--ema", 0, "--out", tmp_path / "run")
    code, _, err = fovea("train", folder, "--backbone", file, *words)
    assert code == 0, err
    assert "backbone.safetensors, trained" in err
    config = json.loads((tmp_path / "run/config.json").read_text())["train"]
    assert [pair[0] for pair in config["optimizer"]["lr_scales"]] == ["backbone"]
    model = library.load(tmp_path / "run")
    assert model.preprocessing is not None
    assert model.preprocessing.mean == known.mean
    np.testing.assert_allclose(
        model.parameters()["backbone.stem_conv1.weight"], trained.parameters()["stem.conv1.weight"], atol=1e-6
    )


def test_what_does_not_fit_is_told(fovea: Run, folder: Path) -> None:
    code, _, err = fovea("train", folder, "--model", "resnet20")
    assert code == 2
    assert "expected a detector for images with boxes, got 'resnet20'; choose of detector_medium, detector_nano" in err
    code, _, err = fovea("train", folder, "--backbone", "resnet20", "--size", 64)
    assert code == 2
    assert "none at 8" in err
    code, _, err = fovea("train", "digits", "--backbone", "resnet18")
    assert code == 2
    assert "expected data with boxes for a detector, got classification" in err
    code, _, err = fovea("train", folder, "--size", 100)
    assert code == 2
    assert "multiples of 32" in err
    code, _, err = fovea("train", folder, "--label-smoothing", 0.1, "--size", 64)
    assert code == 2
    assert "expected no label_smoothing for detection" in err
