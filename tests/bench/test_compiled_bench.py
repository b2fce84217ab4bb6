"""The bench of torch.compile in its tiny setting: the sides agree, and the table has what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")


@pytest.mark.slow
def test_both_ways_run_and_become_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench import compiled

    assert compiled.main(["--smoke", "--json", str(tmp_path / "compiled.json")]) == 0
    assert "small 8x8, 4, training" in capsys.readouterr().out
    training, inference = json.loads((tmp_path / "compiled.json").read_text())["rows"]
    for row in (training, inference):
        assert row["difference"] <= compiled.TOLERANCE
        assert row["ratio"] == pytest.approx(row["compiled"] / row["plain"])
        assert row["compiling"] > 0
        assert (row["steps"] is None) == (row["ratio"] <= 1)
