"""The learning rate range test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea
from fovea.errors import ConfigError
from tests.training.small_training import small_data, small_model


def test_it_leaves_the_model_as_it_was() -> None:
    model = small_model()
    before = {path: array.tobytes() for path, array in model.store.tensors().items()}
    found = fovea.find_lr(model, small_data(), steps=40, batch_size=16, ema=0.9, engine="reference")
    assert {path: array.tobytes() for path, array in model.store.tensors().items()} == before
    assert (model.store.optimizer_state, model.store.ema, model.store.updates) == ({}, {}, 0)
    assert (model.preprocessing, model.classes) == (None, None)
    assert found.lrs[0] == 1e-6
    assert len(found.lrs) == len(found.losses) == len(found.smoothed) <= 40
    ratios = np.diff(np.log(found.lrs))
    assert ratios == pytest.approx(np.full(len(ratios), np.log(1e7) / 39))


def test_the_suggestion_lies_below_the_burst() -> None:
    found = fovea.find_lr(small_model(), small_data(), steps=60, high=1e4, batch_size=16, engine="reference")
    assert found.smoothed[0] == found.losses[0]
    assert len(found.lrs) < 60
    assert found.suggestion == found.lrs[int(np.argmin(found.smoothed))] / 10
    assert 1e-5 < found.suggestion < found.lrs[-1] / 10


@pytest.mark.parametrize("options", [{"low": 1.0, "high": 0.1}, {"low": 0.0}, {"steps": 3}])
def test_a_range_that_is_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^\[find_lr\] expected 0 < low < high"):
        fovea.find_lr(small_model(), small_data(), **options)
