"""Model files of float16: half the size, the nearest numbers, and nothing else passes for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

import fovea
from fovea.errors import ConfigError, ModelFileError
from fovea.graph.serialize import read_tensors, write_tensors
from tests.model.test_model_file import fuzz, small_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[fovea.Model, Path]:
    model = small_model(seed=2)
    return model, model.save(tmp_path_factory.mktemp("half") / "m.safetensors", dtype="float16")


def test_numbers_come_back_as_the_nearest_float16(saved, tmp_path):
    model, path = saved
    loaded = fovea.load(path)
    for name, array in model.store.tensors().items():
        found = loaded.store.tensors()[name]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array.astype(np.float16).astype(np.float32), err_msg=name)
        assert (np.abs(found - array) <= np.maximum(np.abs(array) * 2.0**-11, 2.0**-25)).all(), name
    assert loaded.classes == model.classes
    assert loaded.task == model.task
    assert loaded.graph.nodes == model.graph.nodes
    x = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded(x), model(x), atol=5e-3)
    again = loaded.save(tmp_path / "again.safetensors", dtype="float16")
    assert again.read_bytes() == path.read_bytes(), "rounding twice changes nothing"


def test_the_file_is_half_and_says_so(saved, tmp_path):
    model, path = saved
    with safe_open(path, framework="numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118  # no mapping
    _, metadata = read_tensors(path)
    assert (metadata["format"], metadata["dtype"]) == (3, "float16")
    size = sum(array.nbytes for array in model.store.tensors().values())
    saving = model.save(tmp_path / "whole.safetensors").stat().st_size - path.stat().st_size
    assert size // 2 - 64 <= saving <= size // 2 + 64
    assert "dtype" not in read_tensors(tmp_path / "whole.safetensors")[1]


def test_numbers_beyond_its_range_are_refused_before_anything_is_written(tmp_path):
    model = small_model()
    path = model.save(tmp_path / "m.safetensors", dtype="float16")
    before = path.read_bytes()
    model.parameters()["head.weight"][2, 1] = -65519.0  # rounds to 65504, the largest
    model.save(path, dtype="float16")
    assert fovea.load(path).parameters()["head.weight"][2, 1] == -65504.0
    path.write_bytes(before)
    model.parameters()["head.weight"][2, 1] = -65520.0  # rounds to infinity
    with pytest.raises(ModelFileError, match=r"numbers up to 65504 for float16, got 6.55e\+04 in head.weight; save as"):
        model.save(path, dtype="float16")
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="expected dtype as float32 or float16, got 'int4'"):
        model.save(path, dtype="int4")


def test_a_quantised_model_stays_one(tmp_path):
    model = small_model()
    small = fovea.quantize(model, np.random.default_rng(1).standard_normal((8, 16, 16, 3)).astype(np.float32))
    with pytest.raises(ConfigError, match="got one quantised to int8; leave dtype out"):
        small.save(tmp_path / "m.safetensors", dtype="float16")


@pytest.mark.parametrize(
    ("change", "retype", "text"),
    [
        (lambda m: m.update(dtype="float64"), None, "expected float16 in a file of format 3, got 'float64'"),
        (lambda m: m.update(dtype=[["x"]]), None, "expected float16 in a file of format 3"),
        (lambda m: m.update(format=1), None, "expected float16 in a file of format 3"),
        (lambda m: m.update(quantization={"weights": []}), None, "expected float16 in a file of format 3"),
        (lambda m: m.pop("dtype"), None, "expected float32 numbers in .*, got float16; the file is damaged"),
        (lambda m: None, np.float32, "expected float16 numbers in head.weight, got float32; the file is damaged"),
        (lambda m: None, np.int16, "expected float16 numbers in head.weight, got int16; the file is damaged"),
    ],
)
def test_what_contradicts_itself_is_refused(saved, tmp_path, change, retype, text):
    tensors, metadata = read_tensors(saved[1])
    change(metadata)
    if retype is not None:
        tensors["head.weight"] = tensors["head.weight"].astype(retype)
    write_tensors(tmp_path / "wrong.safetensors", tensors, metadata)
    with pytest.raises(ModelFileError, match=text) as caught:
        fovea.load(tmp_path / "wrong.safetensors")
    assert "\n" not in str(caught.value)


def test_mutated_files_give_clear_errors_only(saved, tmp_path):
    outcome = fuzz(saved[1], tmp_path, 1_000, seed=11)
    assert outcome["refused"] > 500, outcome


def test_weights_of_others_may_be_float16(tmp_path):
    """As foreign safetensors files of half precision are."""
    rng = np.random.default_rng(3)
    shapes = {"c1": (6, 1, 5, 5), "c2": (16, 6, 5, 5), "f1": (120, 400), "f2": (84, 120), "f3": (10, 84)}
    tensors = {f"{name}.weight": rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": np.full(shape[0], 0.1, np.float16) for name, shape in shapes.items()}
    safetensors.numpy.save_file(tensors, tmp_path / "theirs.safetensors")
    model = fovea.models.lenet5(weights=tmp_path / "theirs.safetensors")
    found = model.parameters()["dense3.weight"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, tensors["f3.weight"].T.astype(np.float32))
