"""Model files with int8 weights: everything comes back, they are small, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import fovea
from fovea.errors import ModelFileError
from fovea.graph.fold import folded
from fovea.graph.serialize import read_tensors, write_tensors


def trained_like() -> fovea.Model:
    net = fovea.Sequential(
        fovea.Conv(32, 3, padding=1, use_bias=False),
        fovea.BatchNorm(),
        fovea.ReLU(),
        fovea.Conv(32, 3, padding=1),
        fovea.ReLU(),
        fovea.GlobalAvgPool(),
        fovea.Dense(3),
    )
    model = fovea.Model(net, (8, 8, 3), ["a", "b", "c"], seed=1, name="net")
    rng = np.random.default_rng(0)
    for path, array in model.buffers().items():
        array[...] = rng.uniform(0.5, 2, array.shape) if path.endswith("var") else rng.normal(0, 0.3, array.shape)
    model.store.touch()
    return model


@pytest.fixture(scope="module")
def samples() -> Any:
    return np.random.default_rng(0).standard_normal((32, 8, 8, 3)).astype(np.float32)


@pytest.fixture
def small(samples: Any) -> fovea.Model:
    return fovea.quantize(trained_like(), samples)


def test_everything_comes_back(small: fovea.Model, samples: Any, tmp_path: Path) -> None:
    loaded = fovea.load(small.save(tmp_path / "m.safetensors"))
    assert loaded.quantization is not None
    assert small.quantization is not None
    assert loaded.quantization.grids == small.quantization.grids
    assert loaded.quantization.about == small.quantization.about
    for path, array in small.store.tensors().items():
        np.testing.assert_array_equal(loaded.store.tensors()[path], array)
    np.testing.assert_array_equal(loaded(samples), small(samples))
    again = fovea.load(loaded.save(tmp_path / "again.safetensors"))
    np.testing.assert_array_equal(again(samples), small(samples))


def test_weights_are_int8_in_the_file(small: fovea.Model, tmp_path: Path) -> None:
    path = small.save(tmp_path / "m.safetensors")
    with safe_open(str(path), framework="numpy") as file:
        assert file.get_tensor("conv2.weight").dtype == np.int8
        assert file.get_tensor("conv2.weight.scale").shape == (32,)
        assert json.loads(file.metadata()["fovea"])["format"] == 2
    plain = trained_like().save(tmp_path / "f.safetensors")
    assert path.stat().st_size < 0.5 * plain.stat().st_size


def test_a_copy_is_quantised_too(small: fovea.Model, samples: Any) -> None:
    import copy

    np.testing.assert_array_equal(copy.deepcopy(small)(samples), small(samples))


def test_the_summary_says_so(small: fovea.Model) -> None:
    text = str(small.summary())
    assert "int8" in text
    assert "mse" in text
    assert "int8" not in str(trained_like().summary())


BROKEN = {
    "no grids": lambda q: q.pop("grids"),
    "unknown node": lambda q: q["grids"].update(nothing=[1.0, 0]),
    "scale of zero": lambda q: q["grids"].update(conv2=[0.0, 0]),
    "infinite scale": lambda q: q["grids"].update(conv2=[1e999, 0]),
    "zero point outside": lambda q: q["grids"].update(conv2=[1.0, 256]),
    "texts": lambda q: q["grids"].update(conv2=["a", "b"]),
    "unknown weight": lambda q: q["weights"].append("conv9.weight"),
    "weights without scales": lambda q: q["weights"].append("conv1.bias"),
    "no weights": lambda q: q.update(weights=None),
    "a number": lambda q: q.update(weights=3),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damage_is_named(small: fovea.Model, tmp_path: Path, name: str) -> None:
    path = small.save(tmp_path / "m.safetensors")
    tensors, metadata = read_tensors(path)
    BROKEN[name](metadata["quantization"])
    write_tensors(path, tensors, metadata)
    with pytest.raises(ModelFileError) as caught:
        fovea.load(path)
    assert "\n" not in str(caught.value)


def test_wrong_types_and_scales_are_named(small: fovea.Model, tmp_path: Path) -> None:
    path = small.save(tmp_path / "m.safetensors")
    tensors, metadata = read_tensors(path)
    write_tensors(path, {**tensors, "conv2.weight": tensors["conv2.weight"].astype(np.float32)}, metadata)
    with pytest.raises(ModelFileError, match=r"int8 numbers in conv2\.weight"):
        fovea.load(path)
    write_tensors(path, {**tensors, "conv2.weight.scale": np.zeros(32, np.float32)}, metadata)
    with pytest.raises(ModelFileError, match="positive scales"):
        fovea.load(path)
    write_tensors(path, tensors, {**metadata, "quantization": [1]})
    with pytest.raises(ModelFileError):
        fovea.load(path)


def test_folding_changes_nothing_but_rounding(samples: Any) -> None:
    model = trained_like()
    graph, store = folded(model.graph, model.store)
    assert [node.op.kind for node in graph.nodes.values()].count("batchnorm") == 0
    plain = fovea.Model.from_store(graph, store)
    np.testing.assert_allclose(plain(samples), model(samples), rtol=1e-4, atol=1e-5)
    assert "batchnorm1" in model.graph.nodes
