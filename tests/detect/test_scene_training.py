"""Training a detector on scenes: batches of several sizes, calm last epochs, and a resumed run of the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.cli.finish import result
from fovea.data.dataset import Batch
from fovea.engines.registry import available_engines
from fovea.engines.world import World
from fovea.errors import ConfigError
from fovea.training import TrainConfig
from fovea.training.prepare import recipe_for
from fovea.training.step import gradients_of
from tests.detect.square_finder import NAMES, finder, painted

SCENE = fovea.Scene(mosaic=1.0, mixup=0.5, degrees=5.0, sizes=(0.5, 1.5), calm_epochs=0.4)
OPTIONS: dict[str, Any] = {
    "epochs": 3, "batch_size": 4, "lr": 0.01, "augment": SCENE, "log_every": 1, "checkpoint_every": 1, "threads": 1,
    "report": False,
}  # fmt: skip
SQUARES = [(8, 8, 16, 16, 0), (40, 8, 48, 16, 1), (8, 40, 16, 48, 1), (40, 40, 48, 48, 0)]


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
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("engine", available_engines())
def test_pieces_of_a_batch_are_divided_by_the_boxes_of_all(engine: str) -> None:
    """Three pieces with other numbers of boxes, one with none: loss and gradients are those of the whole batch."""
    pictures = np.stack([painted(64, 64, SQUARES[: 2 * n]) for n in range(3)])
    rows = [np.array([[*square] for square in SQUARES[: 2 * n]]) for n in range(3)]
    scenes = fovea.from_arrays((pictures, rows), task="detection", classes=NAMES, val_fraction=0)
    found = []
    for pieces in (1, 3):
        net = finder()
        recipe = recipe_for(TrainConfig(augment="none"), net, scenes)
        plan = net.compile(
            engine, 3, pixels=True, training=True, input_shape=(64, 64, 3), loss=recipe.loss((64, 64, 3))
        )
        batch = Batch(scenes.train.inputs, scenes.train.targets, np.arange(3))
        loss = gradients_of(plan, batch, 3, 0, recipe, pieces, World()).loss
        found.append((loss, {path: np.array(array) for path, array in plan.gradients.items()}))
    (whole, gradients), (loss, added) = found
    assert loss == pytest.approx(whole, rel=1e-5)
    assert gradients.keys() == added.keys()
    for path, array in gradients.items():
        np.testing.assert_allclose(added[path], array, atol=1e-5 * np.abs(array).max(), err_msg=path)


def test_the_range_test_sees_the_loss_that_training_sees(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 8, "augment": "none", "engine": available_engines()[0]}
    run = fovea.train(model(), data(), epochs=1, lr=1e-6, log_every=1, out=tmp_path, report=False, **options)
    found = fovea.find_lr(model(), data(), steps=10, high=1e-5, **options)
    assert found.losses[0] == pytest.approx(run.history("loss", event="step")[0], rel=1e-5)


def test_a_detector_is_measured_by_the_looks_that_it_is_used_with() -> None:
    squares = [*SQUARES[:2], (36, 44, 44, 52, 0)]  # the last lies off the network's grid
    pictures = np.stack([painted(64, 64, squares[: n + 1]) for n in range(3)])
    rows = [np.array([[*square] for square in squares[: n + 1]]) for n in range(3)]
    scenes = fovea.from_arrays((pictures, rows), task="detection", classes=NAMES, val_fraction=0)
    net = finder()
    result = fovea.evaluate(net, scenes, "train", tta="looks")
    assert result["tta"] == "looks"
    found = np.full((3, net.task.max_detections, 6), -1.0, np.float32)
    for row, said in zip(found, fovea.detect(net, pictures, tta=True, score_threshold=0.001), strict=True):
        for place, one in enumerate(said.objects):
            row[place] = [*one.box, one.score, one.index]
    assert result["map"] == pytest.approx(net.task.metrics(found, scenes.train.targets)["map"])
    assert result["map"] != fovea.evaluate(net, scenes, "train")["map"]
    with pytest.raises(ConfigError, match="expected looks for a detector, whose boxes move with the view, got 'flip'"):
        fovea.evaluate(net, scenes, "train", tta="flip")
