"""Training a detector on scenes: batches of several sizes, calm last epochs, and a resumed run of the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.cli.finish import result
from fovea.engines.registry import available_engines
from fovea.errors import ConfigError

SCENE = fovea.Scene(mosaic=1.0, mixup=0.5, degrees=5.0, sizes=(0.5, 1.5), calm_epochs=0.4)
OPTIONS: dict[str, Any] = {
    "epochs": 3, "batch_size": 4, "lr": 0.01, "augment": SCENE, "log_every": 1, "checkpoint_every": 1, "threads": 1,
    "report": False,
}  # fmt: skip


class Stop(Exception):
    """Stands for the death of the process."""


def data() -> fovea.data.Dataset:
    draws = np.random.default_rng(0)
    images, boxes = draws.integers(0, 60, (10, 64, 64, 3), dtype=np.uint8), []
    for index, image in enumerate(images):
        x, y = draws.integers(0, 32, 2)
        image[y : y + 24, x : x + 30, index % 2] = 240
        boxes.append([[x, y, x + 30, y + 24, index % 2]])
    return fovea.from_arrays((images, boxes), task="detection", classes=["red", "green"], val_fraction=0.2)


def model() -> fovea.Model:
    return fovea.models.detector(classes=["red", "green"], seed=1, image_size=64)


def stop_at(step: int) -> Callable[[Any], None]:
    def callback(line: Any) -> None:
        if line["event"] == "step" and line["step"] == step:
            raise Stop

    return callback


@pytest.mark.skipif("native" not in available_engines(), reason="the compiled core is not built")
def test_a_resumed_run_has_the_bits_of_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole = fovea.train(model(), data(), out=tmp_path / "whole", workers=0, **OPTIONS)
    with pytest.raises(Stop):
        fovea.train(model(), data(), out=tmp_path / "stopped", workers=2, callbacks=[stop_at(3)], **OPTIONS)
    again = fovea.resume(tmp_path / "stopped", data(), report=False)
    assert again.history("train_loss") == whole.history("train_loss")
    assert result(whole).startswith("validation: mAP@[.50:.95] "), "the figure that chose the weights is told"
    first, second = (dict(run.model.store.parameters) for run in (whole, again))
    assert all(np.array_equal(first[path], second[path]) for path in first)


def test_what_is_not_for_boxes_is_refused_before_training(tmp_path: Path) -> None:
    for given, message in (
        ({"augment": "flip"}, "expected standard, none or NAME=NUMBER, got 'flip'"),
        ({"augment": {"mosaik": 1}}, "has no mosaik; it has mosaic"),
        ({"augment": fovea.Augment()}, "expected a Scene, whose boxes move along"),
        ({"mix": "mixup"}, "belong to classification"),
    ):
        with pytest.raises(ConfigError, match=message):
            fovea.train(model(), data(), out=tmp_path / "refused", **{**OPTIONS, **given})
    assert not any((tmp_path / "refused").iterdir())
