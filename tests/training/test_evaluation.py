"""evaluate: the model's own preprocessing and class order, and what it keeps in a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fovea
from fovea.data import from_arrays
from fovea.errors import ConfigError, DataError, NonFiniteError
from fovea.run import Run
from fovea.tasks.metrics import calibration_error
from tests.training.small_training import CLASSES, bars, small_data, small_model, train_small


def test_a_run_keeps_its_evaluations(tmp_path: Path) -> None:
    run, data = train_small(tmp_path, epochs=4), small_data()
    found = fovea.evaluate(str(tmp_path), data, engine="reference")
    assert set(found) >= {"accuracy", "top5", "loss", "per_class", "confusion", "ece", "n", "split"}
    assert (found["n"], found["split"]) == (15, "test")
    on_train = fovea.evaluate(run, data, "train", engine="reference")
    assert Run(tmp_path).evaluation == {"test": found, "train": on_train}
    assert fovea.evaluate(tmp_path / "model.safetensors", data, engine="reference")["loss"] == found["loss"]


def test_a_result_that_cannot_be_kept_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = train_small(tmp_path, epochs=1), small_data()
    (run.path / "evaluation.json").mkdir()
    assert "accuracy" in fovea.evaluate(run, data, engine="reference")
    assert "note: the result is not kept: [" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [1, 7, 4000])
def test_the_batch_size_changes_nothing_but_rounding(batch_size: int) -> None:
    model, data = small_model(), small_data()
    model.preprocessing, model.classes = data.preprocessing, data.classes
    whole = fovea.evaluate(model, data, engine="reference")
    part = fovea.evaluate(model, data, engine="reference", batch_size=batch_size)
    assert part["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert part["confusion"] == whole["confusion"]


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    run = train_small(tmp_path, epochs=8, ema=None)
    inputs, places = bars(15, 200)
    order = np.array([2, 0, 1])  # "left" is 2 here
    swapped = from_arrays(bars(9, 0), test=(inputs, order[places]), classes=("middle", "right", "left"), val_fraction=0)
    found = fovea.evaluate(run, swapped, engine="reference")
    assert found["accuracy"] == fovea.evaluate(run, small_data(), engine="reference")["accuracy"] == 1.0
    assert found["classes"] == list(CLASSES)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    run = train_small(tmp_path, epochs=1)
    inputs, places = bars(15, 0)
    other = from_arrays((inputs, places), test=(inputs, places), classes=("cat", "dog", "cow"), val_fraction=0)
    with pytest.raises(DataError, match="cat"):
        fovea.evaluate(run, other)
    with pytest.raises(DataError, match="expected a model that knows its preprocessing"):
        fovea.evaluate(small_model(), small_data())
    values = from_arrays((inputs, places + 0.5), task="regression", val_fraction=0)
    with pytest.raises(DataError, match="expected data for classification, got regression"):
        fovea.evaluate(run, values)
    with pytest.raises(DataError, match="no 'test' split"):
        fovea.evaluate(run, from_arrays((inputs, places), classes=CLASSES, val_fraction=0))


def test_broken_weights_are_said() -> None:
    model, data = small_model(), small_data()
    model.preprocessing, model.classes = data.preprocessing, data.classes
    model.store.parameters["dense1.bias"][0] = np.nan
    with pytest.raises(NonFiniteError, match="the weights are broken"):
        fovea.evaluate(model, data, engine="reference")


def test_a_network_that_ends_in_softmax_is_calibrated_as_it_is_read(tmp_path: Path) -> None:
    """Its outputs are probabilities: temperature, calibration error and abstention take their logarithms, as predict
    does."""
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(3), fovea.Softmax())
    model, data = fovea.Model(net, (6, 6, 1), seed=1), small_data()
    run = fovea.train(model, data, epochs=6, lr=0.3, out=tmp_path, report=False, engine="reference")
    assert data.val is not None
    probabilities = np.array([dict(one.top)[name] for one in run.model.predict(data.val.inputs) for name in CLASSES])
    assert run.metrics is not None
    bins = calibration_error(probabilities.reshape(-1, 3), data.val.targets)
    assert run.metrics["val"]["ece"] == pytest.approx(bins, rel=1e-4)
    assert fovea.evaluate(run, data, "val", engine="reference")["ece"] == pytest.approx(bins, rel=1e-4)


def test_several_views_are_kept_beside_the_plain_result(tmp_path: Path) -> None:
    run, data = train_small(tmp_path, epochs=1), small_data()
    plain = fovea.evaluate(run, data, engine="reference")
    averaged = fovea.evaluate(run, data, engine="reference", tta="five-crop")
    assert Run(tmp_path).evaluation == {"test": plain, "test, five-crop": averaged}
    assert "tta" not in plain
    with pytest.raises(ConfigError, match="expected one of flip, five-crop, ten-crop, got 'crops'"):
        fovea.evaluate(run, data, tta="crops")
