"""Named data sets: where they are looked for, and that a download without the published checksum is not used."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from fovea.data import fetch
from fovea.errors import DataError
from tests.data import builders


@pytest.fixture(autouse=True)
def _no_outside_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FOVEA_DATA", raising=False)
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))


def test_every_source_has_checksums() -> None:
    for item in fetch.SOURCES.values():
        for checksum in item.files.values():
            assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum), item.name
        assert bool(item.files) == bool(item.base)


def known_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checksum: str, fetched: list[str]) -> None:
    """A data set named `toy` of one file, and a pooch that copies bytes instead of asking a server."""
    import pooch

    source = tmp_path / "toy.npz"
    np.savez(source, images=np.zeros((4, 5, 5), np.uint8), labels=np.arange(4) % 2)
    monkeypatch.setitem(fetch.SOURCES, "toy", fetch.Known("toy", ("https://a/", "https://b/"), {"toy.npz": checksum}))

    def download(url: str, output_file: str, _: object) -> None:
        fetched.append(url)
        if url.startswith("https://a/"):
            raise OSError("no route to host")
        Path(output_file).write_bytes(source.read_bytes())

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *_, **__: download)


def test_a_download_is_checked_kept_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fovea.data.load import dataset

    fetched: list[str] = []
    known_file(tmp_path, monkeypatch, "sha256:" + "0" * 64, fetched)
    right = hashlib.sha256((tmp_path / "toy.npz").read_bytes()).hexdigest()
    known_file(tmp_path, monkeypatch, f"sha256:{right}", fetched)
    right = hashlib.sha256((tmp_path / "toy.npz").read_bytes()).hexdigest()
    monkeypatch.setitem(
        fetch.SOURCES, "toy", fetch.Known("toy", ("https://a/", "https://b/"), {"toy.npz": f"sha256:{right}"})
    )
    data = dataset("toy", val_fraction=0)
    assert len(data.train) == 4
    assert fetched == ["https://a/toy.npz", "https://b/toy.npz"], "the second mirror is tried"
    assert (tmp_path / "cache" / "data" / "toy" / "toy.npz").exists()
    dataset("toy")
    assert len(fetched) == 2, "kept"


def test_wrong_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_file(tmp_path, monkeypatch, "sha256:" + "0" * 64, [])
    with pytest.raises(DataError, match=r"could not be downloaded .*put its files into a folder"):
        fetch.fetch("toy")
    assert not (tmp_path / "cache" / "data" / "toy" / "toy.npz").exists()


def test_local_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builders.idx_folder(tmp_path / "data" / "mnist")
    monkeypatch.setenv("FOVEA_DATA", str(tmp_path / "data"))
    assert fetch.fetch("MNIST") == tmp_path / "data" / "mnist"
    assert "mnist" in fetch.names()
    assert fetch.locate("../data/mnist") is None
    assert fetch.locate("cifar10") is None


def test_unknown_names() -> None:
    with pytest.raises(DataError, match=r"is no file, folder or known data set .*; did you mean cifar10"):
        fetch.fetch("cifar")
    with pytest.raises(DataError, match=r"known names are cats_dogs, cifar10, digits"):
        fetch.fetch("zzzzzz")
