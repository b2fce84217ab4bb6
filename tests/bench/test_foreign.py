"""Networks of ours in onnxruntime, and files of others here: the bench that compares them, on its smallest cases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = str(ROOT / "bench" / "foreign.py")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)


def test_exported_networks_compute_the_same() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    answer = run("zoo", "lenet5", "conv1d", "--threads", "1")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("same") == 2


def test_detectors_of_others_compute_the_same(
    outside_weights: Callable[[str], Path], outside_data: Callable[[str], Path]
) -> None:
    pytest.importorskip("onnxruntime")
    outside_weights("ultraface_rfb_320.onnx")
    outside_data("photos")
    answer = run("files", "--rounds", "2")
    assert answer.returncode == 0, answer.stderr
    assert "ultraface_rfb_320.onnx" in answer.stdout
