"""Shards of other programs, in folders, by patterns, in memory:// and on a web server that may fail."""

from __future__ import annotations

import builtins
import http.server
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.data import Dataset
from fovea.data.load import dataset
from fovea.data.loader import loader_for
from fovea.data.shards import tar
from fovea.data.shards.places import is_shards
from fovea.data.shards.tar import members
from fovea.errors import DataError, MissingExtra
from tests.data.builders import class_folders, encoded
from tests.data.shard_sets import foreign, number_of, numbered, packed_shard, written


def numbers(data: Dataset) -> list[int]:
    return sorted(np.concatenate([number_of(batch.inputs) for batch in loader_for(data.train, 16)]).tolist())


@pytest.mark.parametrize("label", ["number", "name"])
def test_shards_without_a_listing_are_counted(tmp_path: Path, label: str) -> None:
    for part in range(3):
        foreign(tmp_path / "set", f"birds-train-{part:06d}.tar", 10 * part, 10, label)
    foreign(tmp_path / "set", "birds-val-000000.tar", 30, 6, label)
    data = dataset(tmp_path / "set")
    assert data.classes == (("ant", "bee", "cow") if label == "name" else ("0", "1", "2"))
    assert [(name, split.listed) for name, split in data.splits.items()] == [("train", 30), ("val", 6)]
    assert numbers(data) == list(range(30))
    assert data.val is not None
    assert data.val.targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert (data.validation, data.input_shape) == ("its own split", (4, 4, 3))
    assert any("counted by reading the headers of 4 shards" in note for note in data.notes)


def test_the_listing_of_a_folder_at_home_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path / "set")
    assert dataset("~/set").classes == ("ant", "bee", "cow")


def test_a_pattern_names_shards(tmp_path: Path) -> None:
    for part in range(4):
        foreign(tmp_path, f"x-{part:06d}.tar", 10 * part, 10)
    (tmp_path / "notes.txt").write_text("not a shard")
    assert numbers(dataset(f"{tmp_path}/x-{{000001..000002}}.tar")) == list(range(10, 30))
    with pytest.raises(DataError, match=r"names 3 files of which .*x-000004.tar is not there"):
        dataset(f"{tmp_path}/x-{{000002..000004}}.tar")


def test_whole_shards_are_held_back_where_there_is_no_validation(tmp_path: Path) -> None:
    for part in range(10):
        foreign(tmp_path, f"x-{part:06d}.tar", 10 * part, 10)
    data = dataset(tmp_path, val_fraction=0.2)
    assert data.val is not None
    assert sorted(number_of(data.val.inputs).tolist()) == [*range(20, 30), *range(70, 80)]
    assert numbers(data) == [n for n in range(100) if not 20 <= n < 30 and not 70 <= n < 80]
    assert data.validation == "2 of 10 shards, evenly spread"
    assert data.train.class_counts().sum() == 80
    few = dataset(tmp_path / "x-000000.tar")
    assert (few.val, few.validation, few.train.listed) == (None, "none", 10)


def test_compressed_shards_are_read_through(tmp_path: Path) -> None:
    foreign(tmp_path, "x-0000.tar.gz", 0, 12)
    foreign(tmp_path, "val-0000.tar.gz", 12, 5)
    data = dataset(tmp_path)
    assert numbers(data) == list(range(12))
    assert data.val is not None
    assert number_of(data.val.inputs).tolist() == list(range(12, 17))


def test_runs_without_image_or_label_are_no_samples(tmp_path: Path) -> None:
    images, _ = numbered(3)
    pictures = [encoded(image) for image in images]
    shard = packed_shard(
        tmp_path / "x-0000.tar",
        [
            ("0", {"cls": b"1", "png": pictures[0]}), ("1", {"json": b"{}"}), ("2", {"png": pictures[1]}),
            ("3", {"cls": b"2"}), ("4.d/5", {"input.png": pictures[2], "cls": b"007"}),
        ],
    )  # fmt: skip
    found = list(members(str(shard)))
    assert [(one.ordinal, one.name, one.label) for one in found] == [(0, "0.png", "1"), (1, "4.d/5.input.png", "7")]
    assert [one.data for one in found] == [pictures[0], pictures[2]]
    assert [one.ordinal for one in members(str(shard), 1)] == [1]
    assert [one.data for one in members(str(shard), images=False)] == [b"", b""]


def test_what_is_taken_for_shards(tmp_path: Path) -> None:
    assert is_shards("s3://bucket/x")
    assert is_shards("x-{0..3}.tar")
    assert not is_shards("photos")
    assert not is_shards("\0")
    (tmp_path / "set_train.tar").write_bytes(b"")
    assert not is_shards(str(tmp_path)), "a folder of archives of class folders is another layout"
    assert not is_shards(str(tmp_path / "set_train.tar"))
    (tmp_path / "shards.json").write_text("{}")
    assert is_shards(str(tmp_path))


def test_an_archive_with_a_number_in_its_name_is_an_archive(tmp_path: Path) -> None:
    """Of class folders, or of sounds with labels in their names; files that lie in pairs make it a shard."""
    photos = class_folders(tmp_path / "photos", {"cat": 3, "dog": 3})
    for mode, end in (("w", "tar"), ("w:gz", "tar.gz")):
        with tarfile.open(tmp_path / f"photos_2024.{end}", mode) as archive:  # type: ignore[call-overload]
            archive.add(photos, "photos")
        assert not is_shards(str(tmp_path / f"photos_2024.{end}"))
        assert dataset(tmp_path / f"photos_2024.{end}").classes == ("cat", "dog")
    (tmp_path / "alone").mkdir()
    (tmp_path / "photos_2024.tar").rename(tmp_path / "alone" / "photos_2024.tar")
    assert not is_shards(str(tmp_path / "alone"))
    (shard, *_) = sorted(written(tmp_path / "set").glob("*.tar"))
    assert is_shards(str(shard))


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[str]:
    """The set of ``written`` in fsspec's memory."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for path in written(tmp_path / "set").iterdir():
        system.pipe_file(f"/shards/{path.name}", path.read_bytes())
    yield "memory://shards"
    system.store.clear()


def test_shards_in_memory_are_those_on_disk(tmp_path: Path, in_memory: str) -> None:
    there, here = dataset(in_memory), dataset(tmp_path / "set")
    assert numbers(there) == list(range(53))
    assert there.fingerprint == here.fingerprint
    one, two = (list(loader_for(data.train, 16, workers=2)) for data in (there, here))
    assert all(np.array_equal(a.inputs, b.inputs) for a, b in zip(one, two, strict=True))
    assert there.val is not None
    assert number_of(there.val.inputs).tolist() == list(range(53, 62))
    assert numbers(dataset(f"{in_memory}/train-{{000000..000002}}.tar")) == numbers(
        dataset(f"{tmp_path}/set/train-{{000000..000002}}.tar")
    )


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; ``failures`` answers to requests for tar files are cut short."""

    failures = 0
    ranges = True

    def log_message(self, *words: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, content: bool) -> None:
        path = Path(self.directory) / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if type(self).ranges else None
        low = int(wanted[1]) if wanted else 0
        high = min(len(data), int(wanted[2]) + 1 if wanted and wanted[2] else len(data))
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {low}-{high - 1}/{len(data)}")
        if type(self).ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(high - low))
        self.end_headers()
        if content and type(self).failures and path.suffix == ".tar":
            type(self).failures -= 1
            self.wfile.write(data[low : (low + high) // 2])
            self.close_connection = True
        elif content:
            self.wfile.write(data[low:high])


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of ``tmp_path``; what fails is tried again without a pause."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(tar, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(Server, "failures", 0)
    monkeypatch.setattr(Server, "ranges", True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *words: Server(*words, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_shards_come_over_the_web(tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch, ranges: bool) -> None:
    monkeypatch.setattr(Server, "ranges", ranges)
    written(tmp_path / "set")
    data = dataset(f"{web}/set/")
    assert numbers(data) == list(range(53))
    assert data.val is not None
    assert number_of(data.val.inputs).tolist() == list(range(53, 62))
    foreign(tmp_path, "x-0000.tar", 0, 12)
    assert numbers(dataset(f"{web}/x-{{0000..0000}}.tar")) == list(range(12))


def test_a_connection_that_breaks_is_continued_where_it_broke(tmp_path: Path, web: str) -> None:
    data = dataset(f"{web}/set/") if written(tmp_path / "set") else None
    assert data is not None
    Server.failures = 3
    assert numbers(data) == list(range(53))
    assert Server.failures == 0


def test_a_shard_that_never_comes_is_named(tmp_path: Path, web: str) -> None:
    written(tmp_path / "set")
    data = dataset(f"{web}/set/")
    Server.failures = 10_000
    with pytest.raises(DataError, match=r"\[http://127.0.0.1:\d+/set/train-00000\d.tar\] cannot be read as a tar file"):
        numbers(data)
    Server.failures = 0
    (tmp_path / "set" / "train-000003.tar").unlink()
    with pytest.raises(DataError, match=r"train-000003.tar\] is not there"):
        numbers(dataset(f"{web}/set/"))
    with pytest.raises(DataError, match=r"expected shards.json there, found none; name the tar files"):
        dataset(f"{web}/nothing/")


def test_a_shard_that_is_cut_short_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    shard = folder / "train-000002.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2 + 100])
    with pytest.raises(DataError, match=r"train-000002.tar\] (cannot be read as a tar file|expected 7 samples)"):
        numbers(dataset(folder))
    shard.write_bytes(b"no tar file at all" * 100)
    with pytest.raises(DataError, match=r"train-000002.tar\] cannot be read as a tar file to its end"):
        numbers(dataset(folder))
    shard.write_bytes((folder / "train-000007.tar").read_bytes())
    with pytest.raises(DataError, match=r"train-000002.tar\] expected 7 samples, as was counted, got 4"):
        numbers(dataset(folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 9}, "has format 9, 1 is expected"),
        ({"classes": []}, "is damaged"),
        ({"classes": ["number 0"] * 3}, "names a class twice"),
        ({"splits": {}}, "lists no classes or no samples"),
        (
            {"splits": {"train": {"samples": 1, "class_counts": [1, 1, 1], "shards": [{"name": "../x.tar"}]}}},
            "is damaged",
        ),
        ({"image_sizes": None}, "is damaged"),
        (None, "is damaged"),
    ],
)
def test_a_listing_that_is_wrong_is_refused(tmp_path: Path, change: dict[str, Any] | None, words: str) -> None:
    path = written(tmp_path / "set") / "shards.json"
    path.write_text("[" if change is None else json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"shards.json\] {words}"):
        dataset(tmp_path / "set")


def test_wrong_options_and_labels_are_told(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    with pytest.raises(DataError, match="holds shards, images with a class each; leave kind, length out"):
        dataset(folder, kind="signal", length=4)
    with pytest.raises(DataError, match=r"\[no\] is no address that can be read|no://x"):
        dataset("no://x/y")
    listing = json.loads((folder / "shards.json").read_text())
    listing["classes"], listing["splits"] = ["ant"], {"train": listing["splits"]["train"]}
    listing["splits"]["train"]["class_counts"] = [53]
    (folder / "shards.json").write_text(json.dumps(listing))
    with pytest.raises(DataError, match=r"has the label '[12]', which is not among its 1 labels"):
        numbers(dataset(folder, val_fraction=0))


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.split(".")[0] in ("fsspec", "braceexpand", "webdataset"):
            raise ImportError(name)
        return plain(name, *rest)

    folder = written(tmp_path / "set")
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert numbers(dataset(folder)) == list(range(53)), "local shards need nothing"
    for ask in (lambda: dataset("memory://x"), lambda: dataset("x-{0..3}.tar"), lambda: written(tmp_path / "other")):
        with pytest.raises(
            MissingExtra, match=r"needs the extra 'shards'; install it with: pip install 'fovea\[shards\]'"
        ):
            ask()
    assert not (tmp_path / "other").exists()
