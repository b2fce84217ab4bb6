"""TrainConfig: canonical form, round trips, files, and what it refuses."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.data.augment import Augment, HorizontalFlip
from fovea.data.mix import CutMix
from fovea.errors import ConfigError
from fovea.ops.optimizer import SGD, AdamW
from fovea.training import Cosine, OneCycle, TrainConfig, read_options
from fovea.training.prepare import resolved
from tests.training.small_training import small_model


def test_words_become_records() -> None:
    config = TrainConfig(optimizer="adamw", weight_decay=0.2, clip_norm=1, ema=0.99, schedule="cosine", warmup_epochs=1)
    assert config.optimizer == AdamW(weight_decay=0.2, clip_norm=1.0, ema_decay=0.99)
    assert config.schedule == Cosine(warmup=0.1)
    assert TrainConfig().optimizer == SGD(momentum=0.9, nesterov=True, weight_decay=5e-4)
    assert TrainConfig().schedule == OneCycle()
    assert TrainConfig(class_weights=np.array([1.0, 2.0])).class_weights == (1.0, 2.0)


def test_an_optimizer_keeps_what_no_option_says() -> None:
    config = TrainConfig(optimizer=SGD(weight_decay=0.3, clip_norm=2.0), weight_decay=0.0)
    assert config.optimizer == SGD(weight_decay=0.0, clip_norm=2.0)
    assert (config.weight_decay, config.clip_norm, config.ema) == (0.0, 2.0, None)


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(
            optimizer="adamw", ema=0.9, schedule="step", warmup_epochs=2, class_weights=(1.0, 2.0), mix="mixup"
        ),
        TrainConfig(
            optimizer=SGD(lr_scales=(("stem", 0.1),)), trainable=("head",), augment=Augment((HorizontalFlip(),))
        ),
        TrainConfig(trainable=("head",), batch_norm="update"),
        TrainConfig(mix=CutMix(0.5), schedule=OneCycle(warmup=0.1), lr=0.3, patience=2, class_weights="balanced"),
    ],
)
def test_a_config_survives_json(config: TrainConfig) -> None:
    stored = json.loads(json.dumps(config.to_dict()))
    assert stored == config.to_dict()
    again = TrainConfig.from_dict(stored)
    assert again.to_dict() == config.to_dict()
    assert again.optimizer == config.optimizer
    assert again.schedule == config.schedule


def test_train_takes_every_option_with_the_same_default() -> None:
    arguments = inspect.signature(fovea.train).parameters
    for field in dataclasses.fields(TrainConfig):
        assert arguments[field.name].default == field.default, field.name


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": 0}, r"\[epochs\] expected an integer of at least 1, got 0"),
        ({"epochs": 2.5}, "epochs"),
        ({"batch_size": True}, "batch_size"),
        ({"lr": 0}, r"\[lr\] expected a number above 0"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": "high"}, "lr"),
        ({"optimizer": "lion"}, r"\[optimizer\] expected one of sgd, adamw, got 'lion'"),
        ({"optimizer": 3}, "optimizer"),
        ({"schedule": "zigzag"}, "schedule"),
        ({"schedule": 3}, "schedule"),
        ({"label_smoothing": 1.5}, "label_smoothing"),
        ({"class_weights": "equal"}, "class_weights"),
        ({"class_weights": [1, -1]}, "class_weights"),
        ({"mix": "cutup"}, r"\[mix\] expected mixup, cutmix"),
        ({"augment": 7}, "augment"),
        ({"ema": 1.0}, "ema"),
        ({"clip_norm": 0}, "clip_norm"),
        ({"accumulate": 200, "batch_size": 128}, r"\[accumulate\] expected at most batch_size=128"),
        ({"patience": 0}, "patience"),
        ({"precision": "fp8"}, "precision"),
        ({"engine": 5}, "engine"),
        ({"trainable": []}, "trainable"),
        ({"seed": -1}, "seed"),
        ({"warmup_epochs": 11}, "warmup_epochs"),
        ({"epohcs": 3}, r"\[config\] expected an option of training, got 'epohcs'; near names: epochs"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        TrainConfig.from_dict(options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("samples", "options", "batch_size", "lr"),
    [
        (60_000, {}, 128, 0.1),
        (1294, {}, 32, 0.05),
        (45, {}, 16, 0.1 / 8**0.5),
        (2000, {"optimizer": "adamw"}, 64, 3e-3 / 2**0.5),
        (100, {"batch_size": 256}, 256, 0.1 * 2**0.5),
        (100, {"lr": 0.7}, 16, 0.7),
    ],
)
def test_what_is_left_out_goes_by_the_data(samples: int, options: dict[str, Any], batch_size: int, lr: float) -> None:
    found = resolved(TrainConfig(**options), small_model(), samples)
    assert (found.batch_size, found.lr) == (batch_size, pytest.approx(lr))


def test_networks_without_normalisation_start_lower() -> None:
    model = fovea.Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(3)), (6, 6, 1))
    assert resolved(TrainConfig(), model, 60_000).lr == 0.02
    with pytest.raises(ConfigError, match="expected at most batch_size=16 pieces"):
        resolved(TrainConfig(accumulate=20), model, 45)


def test_options_come_from_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    path.write_text('{"epochs": 3, "optimizer": {"kind": "sgd", "momentum": 0.5}}')
    config = TrainConfig(**read_options(path))
    assert config.epochs == 3
    assert config.optimizer == SGD(momentum=0.5)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML from 3.11 on")
def test_options_come_from_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('epochs = 3\nschedule = "cosine"\n[optimizer]\nkind = "adamw"\n')
    assert TrainConfig(**read_options(path)).optimizer == AdamW()


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{"), ("b.json", "[1]"), ("c.json", '{"rate": 1}'), ("d.toml", "epochs = ="), ("e.json", "\x80")],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=name):
        read_options(path)
    with pytest.raises(ConfigError, match=r"missing\.json"):
        read_options(tmp_path / "missing.json")
