"""Bulk prediction: the rows that predict gives, in any format, by any number of shares, and after a kill."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.bulk import predict as module
from fovea.bulk.items import Item, items
from fovea.bulk.predict import predict_files, share_from
from fovea.errors import ConfigError, DataError, MissingExtra
from tests.conftest import ROOT
from tests.data.builders import class_folders, encoded
from tests.data.shard_sets import written


def network(seed: int = 0) -> fovea.Model:
    net = fovea.Sequential(fovea.Conv(4, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(3))
    model = fovea.Model(net, (12, 12, 3), classes=["cat", "dog", "owl"], seed=seed)
    model.preprocessing = fovea.Preprocessing(size=(12, 12))
    return model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures, one of which is none."""
    folder = class_folders(tmp_path_factory.mktemp("bulk") / "photos", {"cat": 12, "dog": 10, "owl": 8})
    (folder / "dog" / "004.png").write_bytes(b"torn")
    (folder / "notes.txt").write_text("no picture")
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return list(parquet.read_table(path).to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_rows_are_what_predict_says(photos: Path, tmp_path: Path, suffix: str) -> None:
    model = network()
    found = predict_files(model, photos, tmp_path / f"out{suffix}", top_k=2, batch_size=7)
    assert (found["rows"], found["new"], found["unreadable"]) == (30, 30, 1)
    rows = rows_of(Path(found["out"]))
    assert [row["path"] for row in rows] == sorted(str(path) for path in photos.glob("*/*.png"))
    for row in rows:
        if row["path"].endswith("dog/004.png"):
            assert (row["label"], row["top"]) == (None, None)
            assert row["error"].startswith("is not an image of a known format")
        else:
            expected = model.predict(row["path"], top_k=2)[0].to_dict()
            assert row["error"] is None
            assert row["label"] == expected["label"]
            assert row["probability"] == pytest.approx(expected["probability"], rel=1e-5)
            assert [one["label"] for one in row["top"]] == [one["label"] for one in expected["top"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"out{suffix}", f"out{suffix}.json"]


def test_a_csv_holds_lists_as_json(photos: Path, tmp_path: Path) -> None:
    predict_files(network(), photos, tmp_path / "out.csv", top_k=2)
    rows = rows_of(tmp_path / "out.csv")
    assert len(rows) == 30
    assert [one["label"] for one in json.loads(rows[0]["top"])] == [
        rows[0]["label"],
        json.loads(rows[0]["top"])[1]["label"],
    ]
    assert {row["abstained"] for row in rows} == {"false", ""}


def test_values_have_columns_of_their_own(photos: Path, tmp_path: Path) -> None:
    for outputs, column in ((1, "value"), (2, "values")):
        model = fovea.Model(fovea.Sequential(fovea.GlobalAvgPool(), fovea.Dense(outputs)), (12, 12, 3), seed=0)
        model.task, model.preprocessing = fovea.tasks.Regression(), fovea.Preprocessing(size=(12, 12))
        found = predict_files(model, photos / "cat", tmp_path / f"{column}.parquet")
        row = rows_of(Path(found["out"]))[0]
        assert row[column] == pytest.approx(model.predict(row["path"])[0].to_dict()[column])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_the_whole_without_overlap(photos: Path, tmp_path: Path, size: int) -> None:
    shards = written(tmp_path / "set", 40, per_shard=7)
    inputs = [str(photos), str(shards)]
    whole = [item.name for item in items(inputs, "image")]
    parts = [[item.name for item in items(inputs, "image", share=(rank, size))] for rank in range(size)]
    assert sorted(name for part in parts for name in part) == sorted(whole)
    assert len(set(whole)) == len(whole) == 30 + 49
    for rank in range(size):
        predict_files(network(), inputs, tmp_path / f"{size}.jsonl", share=(rank, size))
    files = sorted(tmp_path.glob(f"{size}*.jsonl"))
    assert [file.name for file in files] == (
        ["1.jsonl"] if size == 1 else [f"{size}-{rank:05d}-of-{size:05d}.jsonl" for rank in range(size)]
    )
    assert sorted(row["path"] for file in files for row in rows_of(file)) == sorted(whole)


def test_torchrun_says_the_share() -> None:
    assert share_from({}) == (0, 1)
    assert share_from({"RANK": "2", "WORLD_SIZE": "4"}) == (2, 4)
    with pytest.raises(ConfigError, match="expected i/n with i from 0 to n-1"):
        share_from({"RANK": "4", "WORLD_SIZE": "4"})


class Cut(Exception):
    """What ends a prediction in the middle."""


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_what_was_stopped_goes_on_to_the_same_bytes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, suffix: str
) -> None:
    monkeypatch.setattr(module, "_PART_ROWS", 8)
    inputs = [photos, written(tmp_path / "set", 20, per_shard=6)]
    predict_files(network(), inputs, tmp_path / f"whole{suffix}", batch_size=4)
    plain = module.Predictor.rows
    calls: list[int] = []

    def failing(self: Any, named: Any) -> Any:
        calls.append(1)
        if len(calls) > 2 * after + 1:
            raise Cut
        return plain(self, named)

    monkeypatch.setattr(module.Predictor, "rows", failing)
    with pytest.raises(Cut):
        predict_files(network(), inputs, tmp_path / f"cut{suffix}", batch_size=4)
    assert not (tmp_path / f"cut{suffix}").exists()
    monkeypatch.setattr(module.Predictor, "rows", plain)
    found = predict_files(network(), inputs, tmp_path / f"cut{suffix}", batch_size=4)
    assert (found["rows"], found["new"], found["unreadable"]) == (59, 59 - 8 * after, 1)
    assert (tmp_path / f"cut{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    again = predict_files(network(), inputs, tmp_path / f"cut{suffix}", batch_size=4)
    assert (again["rows"], again["new"]) == (59, 0)


_CHILD = """
import sys
import fovea.bulk.predict as module
from tests.bulk.test_bulk_predict import network
module._PART_ROWS = 5
plain = module.Predictor.rows
def slow(self, named):
    import time
    time.sleep(0.05)
    return plain(self, named)
module.Predictor.rows = slow
module.predict_files(network(), sys.argv[1], sys.argv[2], batch_size=2)
"""


def test_a_killed_process_goes_on(photos: Path, tmp_path: Path) -> None:
    """SIGKILL, at whatever moment; again and again until it is done."""
    out, kills = tmp_path / "out.jsonl", 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(photos), str(out)], env=environment)
        known = 0
        while child.poll() is None:
            parts = 0
            with contextlib.suppress(FileNotFoundError):  # the child may remove the folder right now
                parts = len(list((tmp_path / "out.jsonl.parts").glob("part-*.jsonl")))
            if kills < 3 and parts > known + 1:
                child.send_signal(signal.SIGKILL)
                kills += 1
            known = known or parts
            time.sleep(0.005)
        child.wait()
        if out.exists():
            break
    assert kills >= 1
    assert [row["path"] for row in rows_of(out)] == [item.name for item in items([str(photos)], "image")]


def test_files_that_changed_are_noticed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.setattr(module, "_PART_ROWS", 8)
    monkeypatch.setattr(module.Job, "finish", lambda self: (_ for _ in ()).throw(Cut()))
    with pytest.raises(Cut):
        predict_files(network(), folder, tmp_path / "out.jsonl", batch_size=4)
    monkeypatch.undo()
    (folder / "cat" / "new.png").write_bytes((folder / "cat" / "000.png").read_bytes())
    with pytest.raises(DataError, match=r"expected to continue after .*007.png, got other files than when this began"):
        predict_files(network(), folder, tmp_path / "out.jsonl")


def test_a_table_of_another_job_is_left_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    predict_files(network(), photos, out)
    before = out.read_bytes()
    for model, inputs, options, word in (
        (network(1), photos, {}, "model"), (network(), photos / "cat", {}, "inputs"),
        (network(), photos, {"top_k": 1}, "top_k"),
    ):  # fmt: skip
        with pytest.raises(
            DataError, match=f"was begun with other settings: {word} .*; repeat them, or choose another"
        ):
            predict_files(model, inputs, out, **options)
    (tmp_path / "mine.csv").write_text("precious")
    with pytest.raises(DataError, match="is there already, and was not written by this command"):
        predict_files(network(), photos, tmp_path / "mine.csv")
    assert (out.read_bytes(), (tmp_path / "mine.csv").read_text()) == (before, "precious")


def test_a_stop_while_parts_are_joined_is_mended(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    plain = module.Job._write

    def cut(self: Any, path: Path) -> None:
        if path.name == "out.jsonl.json":
            raise Cut
        plain(self, path)

    monkeypatch.setattr(module.Job, "_write", cut)
    with pytest.raises(Cut):
        predict_files(network(), photos, out)
    assert out.exists()
    monkeypatch.undo()
    assert predict_files(network(), photos, out)["new"] == 0
    assert len(rows_of(out)) == 30
    assert not (tmp_path / "out.jsonl.parts").exists()


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_names_in_any_bytes_are_rows(tmp_path: Path, suffix: str) -> None:
    folder = class_folders(tmp_path / "photos", {"cat": 1})
    strange = os.fsdecode(b"\xff\xfe.png")
    shutil.copy(folder / "cat" / "000.png", folder / "cat" / strange)
    assert predict_files(network(), folder, tmp_path / f"out{suffix}")["rows"] == 2


def test_sizes_that_stay_open_are_answered_by_shape(tmp_path: Path) -> None:
    net = fovea.Sequential(fovea.Conv(4, 3), fovea.GlobalAvgPool(), fovea.Dense(3))
    model = fovea.Model(net, (None, None, 3), classes=["cat", "dog", "owl"], seed=0)
    model.preprocessing = fovea.Preprocessing()
    folder = class_folders(tmp_path / "wide", {"cat": 3}, (12, 20))
    class_folders(folder, {"dog": 3}, (16, 8))
    predict_files(model, folder, tmp_path / "out.jsonl")
    for row in rows_of(tmp_path / "out.jsonl"):
        assert row["probability"] == pytest.approx(model.predict(row["path"])[0].to_dict()["probability"], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"out": "out.xlsx"}, ConfigError, r"expected a file that ends in .parquet, .csv, .jsonl, got 'out.xlsx'"),
        ({"top_k": 0}, ConfigError, "expected top_k as an integer of at least 1"),
        ({"batch_size": 0}, ConfigError, "expected batch_size as an integer of at least 1"),
        ({"workers": -1}, ConfigError, "expected workers as an integer of at least 1"),
        ({"share": (3, 3)}, ConfigError, r"expected i/n with i from 0 to n-1, such as 0/4, got \(3, 3\)"),
        ({"share": "0/4"}, ConfigError, "expected i/n with i from 0 to n-1"),
        ({"tta": "sideways"}, ConfigError, "sideways"),
        ({"inputs": []}, DataError, "expected files, folders or shards, got none"),
        ({"inputs": ["here", "nowhere"]}, DataError, r"\[nowhere\] expected a file, found none"),
        ({"inputs": ["empty"]}, DataError, r"expected image files .*, found none in this folder"),
    ],
)
def test_wrong_input_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "here", {"cat": 2})
    (tmp_path / "empty").mkdir()
    options = {"inputs": ["here"], "out": "out.jsonl", **change}
    with pytest.raises(error, match=words):
        predict_files(network(), options.pop("inputs"), options.pop("out"), **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "here"]


def test_a_missing_extra_is_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"needs the extra 'bulk'; install it with: pip install 'fovea\[bulk\]'"):
        predict_files(network(), photos, tmp_path / "out.parquet")


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more items are taken from the walk than three batches beyond those that are answered."""
    ahead: list[int] = []
    taken = answered = 0
    plain = module.Predictor.rows

    def many(*words: Any, **options: Any) -> Iterator[Item]:
        nonlocal taken
        for number in range(3000):
            taken += 1
            yield Item(f"{number}.png", picture)

    def counted(self: Any, named: Any) -> Any:
        nonlocal answered
        ahead.append(taken - answered)
        answered += len(named)
        return plain(self, named)

    picture = encoded(np.zeros((12, 12, 3), np.uint8))
    monkeypatch.setattr(module, "items", many)
    monkeypatch.setattr(module.Predictor, "rows", counted)
    monkeypatch.setattr(module, "_PART_ROWS", 500)
    class_folders(tmp_path / "here", {"cat": 1})
    found = predict_files(network(), tmp_path / "here", tmp_path / "out.jsonl", batch_size=50)
    assert found["rows"] == 3000
    assert max(ahead) <= 4 * 50
