"""The race on CIFAR-10, a few steps of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = str(ROOT / "bench" / "cifar_race.py")


def test_runs_become_a_table_and_a_picture(tmp_path: Path) -> None:
    for side, seconds in (("torch", 2.0), ("fovea", 1.0)):
        curve = [
            {"epoch": epoch, "seconds": epoch * seconds, "loss": 1.0, "accuracy": 0.4 + 0.1 * epoch} for epoch in (1, 2)
        ]
        record = {"side": side, "precision": "fp32", "seed": 0, "epochs": 2, "curve": curve}
        (tmp_path / f"{side}.json").write_text(json.dumps(record))
    files = [str(tmp_path / f"{side}.json") for side in ("torch", "fovea")]
    words = ["show", *files, "--svg", str(tmp_path / "race.svg"), "--json", str(tmp_path / "race.json")]
    out = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=True).stdout
    assert "| fovea fp32 | 2 | 1 | 60.00 % | 60.00 to 60.00 % | 2 s | 2 s (59.5 %) |" in out
    theirs, ours = json.loads((tmp_path / "race.json").read_text())["summary"]
    assert (theirs["seconds_to_goal"], ours["seconds_to_goal"]) == (4.0, 2.0)
    assert "PyTorch fp32" in (tmp_path / "race.svg").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("side", ["fovea", "torch"])
def test_a_side_trains(side: str, outside_data: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    outside_data("cifar10")
    words = ["run", side, "--epochs", "2", "--steps", "3", "--out", str(tmp_path)]
    subprocess.run([sys.executable, SCRIPT, *words], check=True, capture_output=True)
    record = json.loads((tmp_path / f"{side}-fp32-2-0.json").read_text())
    assert [point["epoch"] for point in record["curve"]] == [1, 2]
    assert 0 < record["curve"][0]["seconds"] < record["curve"][1]["seconds"]
    assert all(0 <= point["accuracy"] <= 1 for point in record["curve"])
