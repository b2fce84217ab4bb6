"""Shards and bulk prediction on the command line: from pictures to shards, a network and a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny_data

Answer = tuple[int, str, str]


def test_from_pictures_to_shards_to_a_network_to_a_table(
    fovea: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_data.images(tmp_path / "data")
    code, out, _ = fovea("data", "shard", "data", "--out", "shards", "--per-shard", 6)
    assert code == 0
    assert out.splitlines()[1].split()[:3] == ["train", "22", "4"]
    assert out.splitlines()[-1] == "2 classes, in shards"
    code, out, err = fovea("train", "shards", "--epochs", 2, "--batch-size", 8, "--out", "run")
    assert code == 0
    assert "train 22, val 2, test 8" in err
    assert (tmp_path / "run" / "report.html").exists()
    code, out, _ = fovea("evaluate", "run", "shards", "--json")
    assert (code, json.loads(out)["n"]) == (0, 8)
    code, out, _ = fovea("evaluate", "run", "shards", "--split", "train", "--json")
    assert (code, json.loads(out)["n"]) == (0, 22), "what training streams can be measured, too"
    with monkeypatch.context() as second:  # of two processes
        second.setenv("WORLD_SIZE", "2")
        second.setenv("RANK", "1")
        assert fovea("evaluate", "run", "shards", "--split", "val") == (0, "", "")
    assert set(json.loads((tmp_path / "run" / "evaluation.json").read_text())) == {"test", "train"}
    code, out, _ = fovea("predict", "run", "data/test", "shards", "--out", "rows.csv", "--top-k", 1)
    assert code == 0
    assert out.startswith("40 rows in rows.csv (")
    with open("rows.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 40
    assert fovea("predict", "run", "data/test", "shards", "--out", "rows.csv", "--top-k", 1)[1].endswith(
        "(nothing was left to do)\n"
    )


def test_unreadable_files_are_counted(fovea: Callable[..., Answer], tmp_path: Path) -> None:
    tiny_data.images(tmp_path / "data")
    (tmp_path / "data" / "train" / "red" / "x.png").write_bytes(b"torn")
    code, out, _ = fovea("data", "shard", tmp_path / "data", "--out", tmp_path / "set", "--max-bad", 0.2, "--json")
    assert code == 0
    found = json.loads(out)
    assert [one["path"] for one in found["left_out"]] == ["train/red/x.png"]
    assert found["splits"]["train"]["samples"] + found["splits"]["val"]["samples"] == 24
    fovea("train", tmp_path / "data", "--epochs", 1, "--max-bad", 0.2, "--out", tmp_path / "run")
    for rank in (0, 1):
        code, out, _ = fovea(
            "predict",
            tmp_path / "run",
            tmp_path / "data",
            "--out",
            tmp_path / "p.jsonl",
            "--shard",
            f"{rank}/2",
            "--json",
        )
        assert code == 0, "a row says why, so this is no failure"
        assert json.loads(out)["out"] == str(tmp_path / f"p-0000{rank}-of-00002.jsonl")
    rows = [json.loads(line) for path in sorted(tmp_path.glob("p-*.jsonl")) for line in path.read_text().splitlines()]
    assert len(rows) == 33
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["x.png"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data", "shard", "nothing", "--out", "x"], "nothing"),
        (["data", "shard", "digits"], "Missing option '--out'"),
        (["data", "shard", "digits", "--out", "x", "--per-shard", "0"], "expected an integer of at least 1, got 0"),
        (["predict", "lenet5:mnist", "x.png", "--shard", "0/2"], "expected --out with it"),
        (["predict", "lenet5:mnist", "s3://bucket/x"], "expected it with shards such as s3://bucket/x, got none"),
        (
            ["predict", "lenet5:mnist", ".", "--out", "x.parquet", "--ray", "--device", "cuda"],
            "expected none with --ray",
        ),
        (
            ["predict", "lenet5:mnist", "x.png", "--out", "x.csv", "--shard", "two"],
            "expected I/N such as 0/4, got 'two'",
        ),
        (["predict", "lenet5:mnist", "x.png", "--out", "x.csv", "--shard", "2/2"], "i from 0 to n-1"),
        (["predict", "lenet5:mnist", "x.png", "--out", "x.doc"], "expected a file that ends in .parquet, .csv, .jsonl"),
        (["predict", "lenet5:mnist", "x.png", "--out", "x.csv"], "expected a file, found none"),
        (["predict", "lenet5:mnist", "x.png", "--ray"], "expected --out with it"),
        (
            ["predict", "lenet5:mnist", "x.png", "--ray", "--out", "x.parquet", "--shard", "0/2"],
            "expected none with --ray",
        ),
        (["train", "no-{0..3}.tar"], "names 4 files of which no-0.tar is not there"),
        (["train", "nowhere://x/y"], "nowhere"),
    ],
)
def test_wrong_words_are_told_in_one_line(
    fovea: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = fovea(*words)
    assert (code, out) == (2, "")
    assert expected in err
    assert len(err.strip().splitlines()) == 1, err
    assert list(tmp_path.iterdir()) == []
