"""``fovea quantize``: a file that every command takes, and one line for every mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import fovea
from fovea.cli import main
from tests import tiny_data


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and the run that was trained on it; tests do not change it."""
    root = tmp_path_factory.mktemp("world")
    tiny_data.images(root / "data")
    words = ["train", root / "data", "--epochs", "2", "--batch-size", "8", "--out", root / "run", "--seed", "1"]
    assert main([str(word) for word in words]) == 0
    return root


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command line."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_from_a_run_to_a_file_that_everything_takes(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "small.safetensors"
    shutil.copytree(world / "run", run)
    code, text, _ = answer(capsys, "quantize", run, "-o", out)  # the run knows its data
    assert code == 0
    for word in ("float32", "int8", "file size", "accuracy (test)", "images/s", str(out)):
        assert word in text
    assert fovea.load(out).quantization is not None
    code, text, _ = answer(capsys, "evaluate", out, world / "data", "--json")
    assert code == 0
    assert json.loads(text)["n"] == 8
    code, text, _ = answer(capsys, "predict", out, world / "data" / "test" / "red" / "0.png")
    assert code == 0
    assert "red" in text or "green" in text
    code, text, _ = answer(capsys, "summary", out)
    assert code == 0
    assert "int8" in text


def test_an_int8_model_is_no_float_network_for_others(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.safetensors"
    assert answer(capsys, "quantize", world / "run", "-o", out)[0] == 0
    for name in ("net.onnx", "net.pth"):
        code, _, err = answer(capsys, "export", out, "-o", tmp_path / name)
        assert (code, "expected a float32 model, got one quantised to int8" in err) == (2, True)


def test_json_and_the_usual_name(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.safetensors"
    shutil.copy(world / "run" / "model.safetensors", model)
    words = ["quantize", model, world / "data", "--images", "5", "--method", "minmax", "--json"]
    code, text, _ = answer(capsys, *words)
    result = json.loads(text)
    assert code == 0
    assert result["file"] == str(tmp_path / "model.int8.safetensors")
    assert result["calibration"] == {"method": "minmax", "samples": 5}
    assert [side["precision"] for side in result["sides"]] == ["fp32", "int8"]
    for side in result["sides"]:
        assert {"bytes", "accuracy", "loss", "images_per_second"} <= set(side)
    assert result["sides"][1]["bytes"] < result["sides"][0]["bytes"]


WRONG = {
    "no model": ["quantize", "{world}/nothing.safetensors", "{world}/data"],
    "no data": ["quantize", "{model}"],
    "data that is not there": ["quantize", "{model}", "{world}/nothing"],
    "unknown method": ["quantize", "{model}", "{world}/data", "--method", "best"],
    "no images": ["quantize", "{model}", "{world}/data", "--images", "0"],
    "onto itself": ["quantize", "{model}", "{world}/data", "-o", "{model}"],
    "a file of data": ["quantize", "{world}/data/test/red/0.png", "{world}/data"],
    "quantised already": ["quantize", "{small}", "{world}/data"],
    "training it": ["train", "{world}/data", "--model", "{small}", "--epochs", "1", "--out", "{world}/never"],
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    model, small = tmp_path / "model.safetensors", tmp_path / "small.safetensors"
    shutil.copy(world / "run" / "model.safetensors", model)
    if "{small}" in " ".join(WRONG[name]):
        assert answer(capsys, "quantize", model, world / "data", "-o", small)[0] == 0
    words = [word.format(world=world, model=model, small=small) for word in WRONG[name]]
    code, out, err = answer(capsys, *words)
    assert code == 2
    assert out == ""
    assert len([line for line in err.splitlines() if line.startswith("[")]) == 1
    assert not (world / "never").exists()
