"""Codes on disk: found again by contents alone, checked byte by byte, bounded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.features import cache, extract
from tests.features.test_codes import pictures, residual_net
from tests.tiny_data import images


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The layers of every pass over the data that was really made."""
    passes: list[list[str]] = []
    own = extract._computed

    def noted(model: Any, nodes: list[str], *rest: Any) -> Any:
        passes.append(nodes)
        return own(model, nodes, *rest)

    monkeypatch.setattr(extract, "_computed", noted)
    return passes


def test_a_second_call_computes_nothing(computed: list[list[str]], own_cache: Path) -> None:
    first = fovea.codes(residual_net(), pictures(), ["conv1", "conv3"])
    second = fovea.codes(residual_net(), pictures(), ["conv3", "relu1"])  # another name for the same value
    assert computed == [["relu1", "relu61"]]
    np.testing.assert_array_equal(first["conv1"], second["relu1"])
    np.testing.assert_array_equal(first["conv3"], second["conv3"])
    assert len(list(own_cache.iterdir())) == 2
    fovea.codes(residual_net(), pictures(), ["conv1", "block"])
    assert computed[1:] == [["relu2"]]


def test_whatever_decides_the_numbers_is_in_the_key(computed: list[list[str]]) -> None:
    def passes(**changes: Any) -> int:
        before = len(computed)
        model = changes.pop("model", None) or residual_net()
        fovea.codes(model, changes.pop("samples", pictures()), "conv1", **changes)
        return len(computed) - before

    def changed(path: str) -> fovea.Model:
        model = residual_net()
        model.store.tensors()[path].reshape(-1)[0] += np.float32(1e-3)
        model.store.touch()
        return model

    assert passes() == 1
    assert passes() == 0
    for path in ("conv1.weight", "batchnorm1.running_var"):
        assert passes(model=changed(path)) == 1
    assert passes(model=changed("dense1.weight")) == 0, "behind the layer: another head has the same codes"
    assert passes(pooling="max") == 1
    assert passes(engine="reference") == 1
    other = pictures()
    other[3, 5, 5, 1] ^= 1
    assert passes(samples=other) == 1
    assert passes(samples=pictures()[::-1]) == 1
    darker = residual_net()
    darker.preprocessing = fovea.Preprocessing(size=(16, 16), mean=(0.1, 0.1, 0.1))
    assert passes(model=darker) == 1
    half = residual_net()
    half.precision = "bf16"
    assert passes(model=half) == 1
    assert passes(cache=False) == 1
    assert passes() == 0


def test_files_are_known_by_their_contents(computed: list[list[str]], tmp_path: Path) -> None:
    root = images(tmp_path / "set")
    data = fovea.dataset(root)
    fovea.codes(residual_net(), data.train)
    root.rename(tmp_path / "moved")
    fovea.codes(residual_net(), fovea.dataset(tmp_path / "moved").train)
    assert len(computed) == 1
    name = fovea.dataset(tmp_path / "moved").train.ids[0]
    other = fovea.dataset(tmp_path / "moved").train.ids[1]
    (tmp_path / "moved" / name).write_bytes((tmp_path / "moved" / other).read_bytes())
    changed = fovea.codes(residual_net(), fovea.dataset(tmp_path / "moved").train).array
    assert len(computed) == 2
    np.testing.assert_array_equal(changed[0], changed[1])


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other", "text"])
def test_a_damaged_entry_is_computed_again(damage: str, computed: list[list[str]], own_cache: Path) -> None:
    expected = fovea.codes(residual_net(), pictures(), "conv1").array
    fovea.codes(residual_net(), pictures(), "conv3")
    entries = {path: path.read_bytes() for path in own_cache.iterdir()}
    for path, data in entries.items():
        wrong = {
            "flipped": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:], "cut": data[:-5], "empty": b"", "text": b"hello",
            "other": next(one for other, one in entries.items() if other != path),
        }  # fmt: skip
        path.write_bytes(wrong[damage])
    np.testing.assert_array_equal(fovea.codes(residual_net(), pictures(), "conv1").array, expected)
    assert len(computed) == 3
    np.testing.assert_array_equal(fovea.codes(residual_net(), pictures(), "conv1").array, expected)
    assert len(computed) == 3, "the entry was not mended"


def test_the_entries_not_used_for_the_longest_time_go(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    codes, readable = np.ones((50, 4), np.float32), np.arange(50)
    for number, name in enumerate(("a", "b", "c")):
        cache.write(name, codes, readable)
        os.utime(own_cache / f"{name}.safetensors", (number, number))
    size = (own_cache / "a.safetensors").stat().st_size
    assert cache.read("a") is not None  # used now
    monkeypatch.setattr(cache, "MAX_BYTES", 3 * size)
    cache.write("d", codes, readable)
    assert sorted(path.stem for path in own_cache.iterdir()) == ["a", "c", "d"]
    cache.write("big", np.ones((5000, 4), np.float32), np.arange(5000))
    assert sorted(path.stem for path in own_cache.iterdir()) == ["a", "c", "d"], "larger than its share"


def test_a_disk_that_takes_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "file"))
    assert fovea.codes(residual_net(), pictures(), "conv1").array.shape == (7, 6)
