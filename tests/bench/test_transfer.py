"""The bench of transfer learning on small images: both sides agree, and every part gives its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


def measured(part: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of a run on 64x64 images."""
    pytest.importorskip("torch")
    words = [part, "--size", "64", "--images", "18", "--turns", "1", "--json", str(folder / "rows.json")]
    done = subprocess.run([sys.executable, ROOT / "bench" / "transfer.py", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads((folder / "rows.json").read_text())["results"]
    return rows


def test_both_sides_extract_the_same_codes(tmp_path: Path) -> None:
    (row,) = measured("codes", tmp_path)
    assert row["difference"] < 1e-4
    assert min(row["ours"], row["torch"], row["ratio"]) > 0


@pytest.mark.slow
def test_every_part_gives_figures(tmp_path: Path) -> None:
    rows = {row["what"]: row for row in measured("all", tmp_path)}
    assert set(rows) == {
        "codes fp32", "head alone", "everything", "inference", "epoch of 18, head alone", "epoch of 18, everything",
        "peak memory, head alone", "peak memory, everything",
    }  # fmt: skip
    assert rows["head alone"]["arena MB"] < 1.1 * rows["inference"]["arena MB"] < 0.6 * rows["everything"]["arena MB"]
    for what in ("head alone", "everything"):
        assert rows[what]["difference"] < 1e-4
    assert rows["peak memory, head alone"]["ours"] < rows["peak memory, everything"]["ours"]
