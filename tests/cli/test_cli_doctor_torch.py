"""What fovea doctor says of PyTorch and other extras: with a GPU, without one, and where PyTorch is not installed."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from fovea.cli import doctor
from fovea.engines import registry
from tests.conftest import ROOT


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML needs Python 3.11")
def test_every_extra_is_looked_for() -> None:
    project = importlib.import_module("tomllib").loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(doctor._EXTRAS) == set(project["optional-dependencies"]) - {"test", "dev"}


def printed(found: dict[str, Any] | None, capsys: pytest.CaptureFixture[str]) -> str:
    doctor._print_torch(found)
    return capsys.readouterr().out


def test_what_this_machine_has(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    found = doctor._torch()
    assert found is not None
    assert found["version"] == torch.__version__
    assert len(found["devices"]) == torch.cuda.device_count()
    said = printed(found, capsys)
    assert said.startswith(f"PyTorch   {torch.__version__}, built")
    if not found["devices"]:
        assert "gloo" in found["collectives"]
        assert f"GPU       none: --engine torch computes on the CPU, {torch.get_num_threads()} threads" in said


def test_gpus_are_listed_with_the_words_that_use_them(capsys: pytest.CaptureFixture[str]) -> None:
    gpu = {"device": "cuda:1", "name": "A GPU", "memory": 80e9, "free": 79e9, "capability": "9.0", "bf16": True}
    found = {"version": "2.13.0", "cuda": "13.0", "threads": 8, "collectives": ["gloo", "nccl"], "devices": [gpu]}
    said = printed(found, capsys)
    assert "PyTorch   2.13.0, built for CUDA 13.0; several processes: gloo, nccl" in said
    assert "GPU       --device cuda:1: A GPU, 80.0 GB, 79.0 free, compute 9.0, bf16" in said


def test_without_pytorch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_found", lambda module: "torch" not in module)
    assert doctor._torch() is None
    assert "not installed: no GPUs   (pip install 'fovea[torch]')" in printed(None, capsys)
