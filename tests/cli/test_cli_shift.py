"""`fovea explain --shift`: two models, or none, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import fovea as library
from tests import tiny_data

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data and three models, which is where commands run."""
    tiny_data.images(tmp_path / "data", per_class=8)
    data = library.dataset(tmp_path / "data")
    for name in ("a", "b"):
        model = library.models.mlp(2, (16, 16, 3), hidden=(4,), classes=data.classes, seed=ord(name))
        model.preprocessing = data.preprocessing
        model.save(tmp_path / f"{name}.safetensors")
    library.models.mlp(3, (16, 16, 3), hidden=(4,)).save(tmp_path / "other.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_models_are_compared(fovea: Run, world: Path) -> None:
    code, out, err = fovea("explain", "--shift", "a.safetensors", "b.safetensors", "--data", "data")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["accuracy", *(f"{shift:+d}" if shift else "0" for shift in range(-6, 7))]
    assert "a: 3,086 parameters, 3,076 of them in its first layer" in out
    assert "8 images, mean over four directions" in out
    assert (world / "shift.png").read_bytes().startswith(b"\x89PNG")


def test_without_models_some_are_trained(fovea: Run, world: Path) -> None:
    code, out, _ = fovea("explain", "--shift", "--data", "data", "--json", "-o", "moved.png")
    found = json.loads(out)
    assert (code, found["names"], found["files"]) == (0, ["mlp", "small_cnn"], ["moved.png"])
    assert len(found["accuracy"][0]) == len(found["change"][1]) == len(found["shifts"]) == 13


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shift", "a.safetensors"], "expected two models to compare, got one"),
        (
            ["--shift", "a.safetensors", "other.safetensors", "--data", "data"],
            "expected networks with the same classes",
        ),
        (["--shift", "a.safetensors", "b.safetensors", "--data", "digits"], "data with the networks' 2 classes"),
        (["--shift", "--data", "nowhere"], "nowhere"),
        ([], "expected a MODEL"),
    ],
)
def test_mistakes_are_told_in_one_line(fovea: Run, world: Path, words: list[str], message: str) -> None:
    code, out, err = fovea("explain", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
