"""Numbers that leave the range of floats end training with the name of the layer where it began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import run as files
from fovea.data import from_arrays
from fovea.engines.registry import get_engine
from fovea.errors import NonFiniteError
from fovea.graph.serialize import read_tensors
from fovea.model import Model
from fovea.training import nonfinite
from tests.training.small_training import OPTIONS, bars, small_data, small_model


def spoil(model: Model, path: str, value: float, at: int) -> Any:
    """A callback that puts a value into a parameter after a step."""

    def callback(line: Any) -> None:
        if line["event"] == "step" and line["step"] == at:
            model.store.parameters[path].flat[0] = value
            model.store.touch()

    return callback


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(("path", "node"), [("conv1.weight", "conv1"), ("dense1.bias", "dense1")])
def test_a_weight_that_is_not_a_number_is_found(tmp_path: Path, path: str, node: str, accumulate: int) -> None:
    model = small_model()
    with pytest.raises(NonFiniteError, match=rf"^\[{node}\] .* in weights at epoch 2, step 4; lower lr") as caught:
        fovea.train(
            model, small_data(), out=tmp_path, callbacks=[spoil(model, path, np.nan, 3)], accumulate=accumulate,
            **{**OPTIONS, "log_every": 1},
        )  # fmt: skip
    assert str(tmp_path) in str(caught.value)
    tensors, metadata = read_tensors(tmp_path / files.CHECKPOINTS / files.LAST_FILE)
    assert metadata["state"]["epoch"] == 1
    assert all(np.isfinite(array).all() for array in tensors.values())
    assert fovea.resume(tmp_path, small_data(), report=False).finished


def test_a_layer_whose_output_overflows_is_found(tmp_path: Path) -> None:
    """Finite weights, finite inputs: the second of three layers multiplies beyond the largest float."""
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(4), fovea.Dense(4), fovea.Dense(3))
    model = Model(net, (6, 6, 1))
    model.store.parameters["dense1.weight"][...] = 1e30
    model.store.parameters["dense2.weight"][...] = 1e30
    with pytest.raises(NonFiniteError, match=r"^\[dense2\] .* in its output at epoch 1, step 1"):
        fovea.train(model, small_data(), out=tmp_path, **OPTIONS)


def test_gradients_that_overflow_are_named(tmp_path: Path) -> None:
    """Activations of 1e37, weights of 1e-19: the loss is finite, the gradient of those weights is not."""
    inputs, _ = bars(48, 0)
    data = from_arrays((inputs, np.linspace(0, 1, 48).astype(np.float32)), task="regression", val_fraction=0)
    model = Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(2), fovea.Dense(1)), (6, 6, 1))
    model.store.parameters["dense1.weight"][...] = 1e36
    model.store.parameters["dense2.weight"][...] = 1e-19
    with pytest.raises(NonFiniteError, match=r"^\[dense2\] .* in its gradient at epoch 1, step 1"):
        fovea.train(model, data, out=tmp_path, augment="none", **{**OPTIONS, "ema": None, "optimizer": "sgd"})


def search(model: Model, inputs: Any, targets: Any) -> NonFiniteError:
    """The error that the search would raise for this batch."""
    loss = fovea.SoftmaxCrossEntropy()
    return nonfinite.before_update(model, get_engine("reference"), loss, inputs, targets, 0, "step 1", "lower lr")


def test_data_that_are_not_finite_are_named() -> None:
    model = Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(3)), (6, 6, 1))
    inputs = np.full((2, 6, 6, 1), np.inf, np.float32)
    assert "in the data themselves" in search(model, inputs, np.array([0, 1])).message


def test_the_search_leaves_running_statistics_alone() -> None:
    model, data = small_model(), small_data()
    model.preprocessing = data.preprocessing
    before = {path: array.copy() for path, array in model.store.buffers.items()}
    error = search(model, data.train.inputs[:8], data.train.targets[:8])
    assert error.where == "loss"  # nothing is wrong, so no layer is blamed
    assert all(np.array_equal(array, before[path]) for path, array in model.store.buffers.items())
