"""Event files for TensorBoard, read back by its own library."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorboard", reason="TensorBoard is not installed; these tests read what it would show")

import fovea
from fovea.cli import main
from fovea.errors import ConfigError, MissingExtra
from fovea.run import Run
from fovea.training import event_log
from tests.training.small_training import small_data, train_small


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) pairs, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / event_log.FOLDER))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def wanted(run: Run, event: str, name: str) -> list[tuple[int, float]]:
    return [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in run.log if line["event"] == event]


def test_every_curve_of_the_log_is_there(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", log_to="tensorboard")
    curves = shown(run.path)
    for tag, event, name in [
        ("step/loss", "step", "loss"), ("step/lr", "step", "lr"), ("step/grad_norm", "step", "grad_norm"),
        ("train/loss", "epoch", "train_loss"), ("val/loss", "epoch", "val_loss"),
        ("val/accuracy", "epoch", "val_accuracy"), ("epoch/seconds", "epoch", "seconds"),
    ]:  # fmt: skip
        assert curves[tag] == wanted(run, event, name), tag


def test_a_resumed_run_shows_each_step_once(tmp_path: Path) -> None:
    def stop(line: Any) -> None:
        if line["event"] == "step" and line["step"] == 6:
            raise KeyboardInterrupt

    options = {"log_every": 1, "log_to": "tensorboard"}
    with pytest.raises(KeyboardInterrupt):
        train_small(tmp_path / "cut", **options, callbacks=[stop])
    again = [
        Path(path).name for path in (tmp_path / "cut" / event_log.FOLDER).iterdir()
    ]  # steps 5 and 6 were logged and are lost with the epoch
    run = fovea.resume(tmp_path / "cut", small_data(), report=False)
    assert len(list((run.path / event_log.FOLDER).iterdir())) == len(again) + 1
    assert shown(run.path)["step/loss"] == wanted(run, "step", "loss")


def test_a_missing_library_names_its_extra_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"^\[log_to\] logging to TensorBoard needs the extra 'log'; .*fovea\[log\]"):
        train_small(tmp_path / "run", log_to="tensorboard")
    assert not (tmp_path / "run").exists()


def test_other_places_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"^\[log_to\] expected tensorboard, got 'wandb'"):
        train_small(tmp_path / "run", log_to="wandb")
    assert main(["train", "digits", "--epochs", "1", "--log-to", "csv", "--out", str(tmp_path / "x")]) == 2
    assert "[log_to] expected tensorboard, got 'csv'" in capsys.readouterr().err
