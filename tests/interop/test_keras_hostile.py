"""Damaged and hostile Keras files: an error of one line, bounded memory, never a crash, nothing outside the file."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.errors import MissingExtra, ModelFileError
from fovea.interop import keras_file
from fovea.interop.keras_file import read_keras_file
from tests.interop.keras_writer import FORMATS, config, write

h5py = pytest.importorskip("h5py")
LAYERS = [
    ("Conv2D", "c", {"kernel": np.ones((3, 3, 1, 2), np.float32), "bias": np.ones(2, np.float32)}),
    ("Dense", "d", {"kernel": np.ones((8, 2), np.float16), "bias": np.ones(2, np.float64)}),
]


def refused(path: Path, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        read_keras_file(path)
    assert "\n" not in str(caught.value)


def edited(path: Path, edit: Callable[[Any], None]) -> Path:
    with h5py.File(write(path, LAYERS), "a") as file:
        edit(file)
    return path


@pytest.mark.parametrize("file", FORMATS)
def test_what_is_there(tmp_path: Path, file: str) -> None:
    layers = read_keras_file(write(tmp_path / file, LAYERS))
    assert [(one.name, sorted(one.arrays)) for one in layers] == [("c", ["bias", "weight"]), ("d", ["bias", "weight"])]
    assert {array.dtype for one in layers for array in one.arrays.values()} == {np.dtype(np.float32)}


def test_long_lists_of_names_come_in_pieces(tmp_path: Path) -> None:
    def split(file: Any) -> None:
        del file["model_weights"].attrs["layer_names"]
        file["model_weights"].attrs["layer_names0"], file["model_weights"].attrs["layer_names1"] = ["c"], ["d"]

    assert [one.name for one in read_keras_file(edited(tmp_path / "net.h5", split))] == ["c", "d"]


@pytest.mark.parametrize("file", FORMATS)
def test_truncated_files(tmp_path: Path, file: str) -> None:
    path = write(tmp_path / file, LAYERS)
    content = path.read_bytes()
    for share in (0, 0.5, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        refused(path, "expected a whole Keras file")


@pytest.mark.parametrize("file", FORMATS)
def test_mutated_files(tmp_path: Path, file: str) -> None:
    """Any change gives layers or one line. Each case takes a process, so there are few; seeds are their numbers."""
    path = write(tmp_path / file, LAYERS)
    content = path.read_bytes()
    for seed in range(6):
        chance, changed = random.Random(seed), bytearray(content)
        for _ in range(10):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        path.write_bytes(changed)
        try:
            said = str([one.name for one in read_keras_file(path)])
        except ModelFileError as error:
            said = str(error)
        assert "\n" not in said, seed


def test_no_way_out_of_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones(2, np.float32)
    (tmp_path / "raw.bin").write_bytes(bytes(8))
    place = "layers/conv2d/vars/1"

    def external_link(file: Any) -> None:
        del file[place]
        file[place] = h5py.ExternalLink(str(secret), "x")

    def soft_link(file: Any) -> None:
        del file[place]
        file[place] = h5py.SoftLink("/layers/dense/vars/1")

    def external_array(file: Any) -> None:
        del file[place]
        file.create_dataset(place, (2,), "f4", external=[(str(tmp_path / "raw.bin"), 0, 8)])

    def virtual(file: Any) -> None:
        del file[place]
        layout = h5py.VirtualLayout((2,), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "x", (2,))
        file.create_virtual_dataset(place, layout)

    for edit, message in (
        (external_link, "got a link out of it"), (soft_link, "got a link out of it"),
        (external_array, "got a pointer out of it"), (virtual, "got a pointer out of it"),
    ):  # fmt: skip
        refused(edited(tmp_path / "net.weights.h5", edit), message)


def test_no_more_than_the_file_holds(tmp_path: Path) -> None:
    place = "layers/conv2d/vars/1"

    def never_written(file: Any) -> None:
        del file[place]
        file.create_dataset(place, (1 << 40,), "f4", chunks=(1 << 16,))

    def packed(file: Any) -> None:
        del file[place]
        file.create_dataset(place, data=np.zeros(1 << 20, np.float32), compression="gzip")

    def the_same_again(file: Any) -> None:
        file["big"] = np.zeros(100_000, np.float32)
        for index in range(20):
            file[f"layers/dense_{index + 1}/vars/0"] = file["big"]

    def texts(file: Any) -> None:
        del file[place]
        file[place] = np.array([b"no", b"numbers"])

    for edit, message in (
        (never_written, "packed or missing"), (packed, "without compression"), (the_same_again, "fit into the file"),
        (texts, "expected numbers"),
    ):  # fmt: skip
        refused(edited(tmp_path / "net.weights.h5", edit), message)


def archive(path: Path, described: bytes, weights: bytes, packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", described, zipfile.ZIP_DEFLATED)
        file.writestr("model.weights.h5", weights, packed)
    return path


def test_archives(tmp_path: Path) -> None:
    weights = write(tmp_path / "net.weights.h5", LAYERS).read_bytes()
    described = config(LAYERS)
    path = tmp_path / "net.keras"
    refused(archive(path, b"{", weights), "expected a whole Keras file")
    refused(archive(path, b" " * (65 << 20), weights), "config.json below 64 MB")
    refused(archive(path, b"{}", bytes(10_000_000), zipfile.ZIP_DEFLATED), "expected model.weights.h5 uncompressed")
    refused(archive(path, b"[" * 100_000, weights), "expected a whole Keras file")
    described["config"]["layers"].append({"class_name": "Lambda", "config": {"name": "code", "function": "evil"}})
    refused(archive(path, json.dumps(described).encode(), weights), "got code in the Lambda layer 'code'")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("other.txt", "hello")
    refused(path, r"expected config.json in the archive")
    refused(tmp_path / "none.h5", "got none there")
    (tmp_path / "note.h5").write_text("hello")
    refused(tmp_path / "note.h5", "expected a whole Keras file")


def test_a_reader_that_dies_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "net.h5", LAYERS)
    monkeypatch.setattr(keras_file.sys, "executable", "false")
    refused(path, "one on which the HDF5 library fails")


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'fovea\[keras\]'"):
        read_keras_file(tmp_path / "net.h5")
