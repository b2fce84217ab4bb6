"""Bulk prediction of what is not whole: torn tar files, shards out of reach, folders that may not be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fovea.bulk import predict as module
from fovea.bulk.items import Item, check_inputs, items
from fovea.bulk.predict import predict_files
from fovea.errors import DataError
from tests.bulk.test_bulk_predict import network, rows_of
from tests.data.builders import class_folders, encoded
from tests.data.shard_sets import numbered, packed_shard


def test_tar_files_need_no_labels(tmp_path: Path) -> None:
    images, _ = numbered(3, side=12)
    (tmp_path / "set").mkdir()
    packed_shard(
        tmp_path / "set" / "a.tar",
        [("x/1", {"png": encoded(images[0])}), ("x/2", {"json": b"{}"}), ("x/3", {"png": b"torn"})],
    )
    (tmp_path / "set" / "b.png").write_bytes(encoded(images[2]))
    found = list(items([str(tmp_path / "set")], "image"))
    assert [item.name.removeprefix(f"{tmp_path}/set/") for item in found] == ["a.tar/x/1.png", "a.tar/x/3.png", "b.png"]
    predict_files(network(), tmp_path / "set", tmp_path / "out.jsonl")
    assert [bool(row["error"]) for row in rows_of(tmp_path / "out.jsonl")] == [False, True, False]


def test_a_tar_file_that_breaks_off_is_a_row_and_stops_nothing(tmp_path: Path) -> None:
    """What it holds before is predicted, so is what follows; and a job that was stopped anywhere goes on."""
    images, _ = numbered(4, side=12)
    for number in range(2):
        path = tmp_path / "set" / f"x-{number:06d}.tar"
        path.parent.mkdir(exist_ok=True)
        packed_shard(path, [(str(place), {"png": encoded(image)}) for place, image in enumerate(images)])
    torn = tmp_path / "set" / "x-000000.tar"
    torn.write_bytes(torn.read_bytes()[: 2 * 1024 + 600])
    found = predict_files(network(), tmp_path / "set", tmp_path / "rows.jsonl")
    rows = rows_of(tmp_path / "rows.jsonl")
    assert (found["rows"], found["unreadable"]) == (len(rows), 1)
    broken = next(place for place, row in enumerate(rows) if row["error"])
    assert rows[broken]["path"] == str(torn)
    assert "cannot be read as a tar file to its end" in rows[broken]["error"]
    assert 0 < broken < 4
    assert [row["label"] is None for row in rows[broken:]] == [True, *[False] * 4]
    names = [row["path"] for row in rows]
    for skip in range(1, len(names)):
        rest = items([str(tmp_path / "set")], "image", skip=skip, last=names[skip - 1])
        assert [item.name for item in rest] == names[skip:]


def test_a_tar_file_that_cannot_be_reached_stops_a_job_that_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = numbered(4, side=12)
    (tmp_path / "set").mkdir()
    for name in ("a", "b"):
        shard = [(str(place), {"png": encoded(image)}) for place, image in enumerate(images)]
        packed_shard(tmp_path / "set" / f"{name}.tar", shard)
    whole = module.items

    def away(*words: Any, **options: Any) -> Iterator[Item]:
        for number, item in enumerate(whole(*words, **options)):
            if number == 3:
                (tmp_path / "set" / "b.tar").rename(tmp_path / "b.tar")
            yield item

    monkeypatch.setattr(module, "items", away)
    monkeypatch.setattr(module, "_PART_ROWS", 2)
    with pytest.raises(DataError, match=r"b\.tar\] is not there"):
        predict_files(network(), tmp_path / "set", tmp_path / "rows.jsonl", batch_size=2)
    monkeypatch.setattr(module, "items", whole)
    (tmp_path / "b.tar").rename(tmp_path / "set" / "b.tar")
    found = predict_files(network(), tmp_path / "set", tmp_path / "rows.jsonl")
    assert (found["rows"], found["unreadable"]) == (8, 0)


def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = class_folders(tmp_path / "photos", {"cat": 3, "dog": 2})
    scan = os.scandir

    def refused(path: str) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert len(list(items([str(photos)], "image"))) == 3
    assert (
        f"note: the folder {photos / 'dog'} cannot be read (Permission denied) and is left" in capsys.readouterr().err
    )


def test_an_address_of_a_tar_file_asks_for_no_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below it there is nothing, which some servers answer with "forbidden"."""
    monkeypatch.setattr("fovea.bulk.items.read_bytes", lambda name: pytest.fail(f"asks for {name}"))
    check_inputs(["https://host/x-000000.tar", "s3://bucket/more.tgz"], "image")
