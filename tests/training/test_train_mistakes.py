"""What people hand to training by mistake gets one line that says what to hand instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.errors import ConfigError, FoveaError
from fovea.training import TrainConfig, read_options

OPTIONS: dict[str, Any] = {"epochs": 1, "report": False, "engine": "reference"}


@pytest.fixture
def data() -> Any:
    images = np.random.default_rng(0).integers(0, 255, (24, 8, 8, 3), np.uint8)
    return fovea.from_arrays((images, np.arange(24) % 2))


def network() -> fovea.Sequential:
    return fovea.Sequential(fovea.GlobalAvgPool(), fovea.Dense(2))


def model() -> fovea.Model:
    return fovea.Model(network(), input_shape=(8, 8, 3))


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda d, out: fovea.train(network(), d, out=out, **OPTIONS), r"expected a fovea\.Model, got Sequential"),
        (lambda d, out: fovea.train(model(), None, out=out, **OPTIONS), "must be a path or a name, got NoneType"),
        (lambda d, out: fovea.train(model(), d, out=out, callbacks=print, **OPTIONS), "expected a list of functions"),
        (
            lambda d, out: fovea.train(model(), d, out=out, record={"x": object()}, **OPTIONS),
            "values that JSON can hold",
        ),
        (
            lambda d, out: fovea.train(model(), d, out=out, **{**OPTIONS, "precision": "bf16"}),
            "expected precision fp32",
        ),
        (lambda d, out: fovea.train(model(), d, out=out, trainable=["nothing"], **OPTIONS), "'nothing' which matches"),
        (lambda d, out: fovea.train(model(), d, out=out, unfreeze=[(1, ["dense1"])], **OPTIONS), "got nothing; join e"),
        (lambda d, out: fovea.train(model(), d, out=out, augment="mirror", **OPTIONS), "'mirror' is not one of"),
        (lambda d, out: fovea.train(model(), d, out=out, class_weights=[1], **OPTIONS), "expected 2 numbers, got 1"),
        (lambda d, out: fovea.find_lr(None, d), r"expected a fovea\.Model, got NoneType"),
        (lambda d, out: fovea.find_lr(model(), d, steps="x"), "expected 0 < low < high and 10 steps or more"),
        (lambda d, out: fovea.find_lr(model(), d, epoch=1), "expected an option of training, got 'epoch'; near"),
        (lambda d, out: fovea.evaluate(None, d), "expected the path of a model, got NoneType"),
        (lambda d, out: fovea.evaluate(model(), d, batch_size="3"), "expected batch_size as an integer of at least 1"),
        (lambda d, out: fovea.Run(None), "expected a run folder"),
        (lambda d, out: TrainConfig(optimizer={"kind": ["sgd"]}), "expected one of sgd, adamw"),
        (lambda d, out: TrainConfig(schedule={"kind": ["step"]}), "expected one of constant, step"),
        (lambda d, out: fovea.Augment.from_dict({"steps": [{"name": ["flip"]}]}), "is no step"),
    ],
)
def test_mistakes_are_refused_in_one_line(
    act: Callable[[Any, Path], Any], text: str, data: Any, tmp_path: Path
) -> None:
    with pytest.raises(FoveaError, match=text) as caught:
        act(data, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists(), "what is refused leaves no folder behind"


def test_a_file_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(FoveaError, match="expected a readable TOML or JSON file"):
        read_options(tmp_path / "deep.json")


@pytest.mark.parametrize("what", [fovea.quantize, fovea.find_lr])
def test_a_path_is_no_model(what: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match=rf"\[{what.__name__}\] expected a fovea.Model, got str; .* load one"):
        what("runs/digits", "digits")
