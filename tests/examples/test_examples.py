"""The example scripts run from beginning to end on the real data, for one epoch; the evidence itself takes longer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPTS = {
    "lenet5_mnist": "mnist",
    "fashion_mnist": "fashion-mnist",
    "cifar10_resnet20": "cifar10",
    "cats_dogs": "cats_dogs",
    "spoken_digits": "fsdd",
    "hippocampus_cubes": "hippocampus3d",
}


TRANSFER = {"cats_dogs_transfer": ("cats_dogs", "--only", "probe"), "fashion_from_mnist": ("fashion-mnist",)}
"""Scripts that compare ways to learn from little: data, and options that make them short."""


def test_the_list_of_examples_is_whole() -> None:
    here = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"evidence"}
    assert here == {*SCRIPTS, *TRANSFER, "detectors", "packaged_weights", "shift_mnist"}
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}.py)" in page for name in here)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name: str, outside_data: Callable[[str], Path], tmp_path: Path) -> None:
    outside_data(SCRIPTS[name])
    words = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--epochs", "1", "--out", str(tmp_path / "run")]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    for text in ("test accuracy", "runs               1 (seed 0)", "machine", "equal to memory"):
        assert text in answer.stdout
    assert "NOT equal" not in answer.stdout
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "data"), [("cells", "bccd_voc"), ("masks", "facemask_coco")])
def test_a_detector_trains(
    what: str, data: str, outside_data: Callable[[str], Path], outside_weights: Callable[[str], Path], tmp_path: Path
) -> None:
    outside_data(data)
    outside_weights("mobilenet_v2_imagenet_bnfolded_fp16.safetensors")
    words = [sys.executable, str(ROOT / "examples/detectors.py"), what, "--epochs", "1", "--out", str(tmp_path / "run")]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    for text in ("map50", "objects", "1 (seed 0)", "machine", "equal to memory"):
        assert text in answer.stdout
    assert "NOT equal" not in answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFER)
def test_a_comparison_runs(
    name: str, outside_data: Callable[[str], Path], outside_weights: Callable[[str], Path], tmp_path: Path
) -> None:
    data, *options = TRANSFER[name]
    outside_data(data)
    outside_weights("mobilenet_v2_imagenet_bnfolded_fp16.safetensors")
    words = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--seeds", "1", *options]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    for text in ("probe", "interval", "machine"):
        assert text in answer.stdout


def test_the_example_of_shifts_runs(outside_data: Callable[[str], Path], tmp_path: Path) -> None:
    outside_data("mnist")
    words = [sys.executable, str(ROOT / "examples" / "shift_mnist.py"), "--epochs", "1", "--out", str(tmp_path / "x")]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "small CNN" in answer.stdout
    assert (tmp_path / "x" / "shift.png").exists()


@pytest.mark.slow
def test_the_weights_of_the_package_can_be_made(outside_data: Callable[[str], Path], tmp_path: Path) -> None:
    outside_data("mnist")
    script, folder = ROOT / "examples" / "packaged_weights.py", tmp_path / "made"
    words = [sys.executable, str(script), "lenet5", "--epochs", "1", "--to", str(folder)]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["lenet5-mnist.md", "lenet5-mnist.safetensors"]
    assert "--epochs 1 --batch-size 64" in (folder / "lenet5-mnist.md").read_text(encoding="utf-8")
