"""A run that was stopped at any moment continues to the bits of one that was never stopped."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fovea
from fovea import random
from fovea import run as files
from fovea.engines.registry import available_engines
from fovea.errors import ConfigError, DataError, ModelFileError
from fovea.graph import serialize
from fovea.run import Run
from tests.conftest import ROOT
from tests.training.small_training import (
    OPTIONS,
    final_bits,
    small_data,
    small_model,
    train_small,
    without_times,
)

# Checkpoints inside of epochs too; a second of work, so that a signal finds it in the middle.
_CHILD = """
import sys, time
import fovea
from tests.training.small_training import OPTIONS, small_data, small_model
folder, engine = sys.argv[1:3]
threads, workers, pause = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
options = {**OPTIONS, "engine": engine, "epochs": 12, "log_every": 1, "checkpoint_every": 1, "workers": workers}
machine = {"workers": workers, "threads": threads if engine == "native" else None, "report": False}

def wait(line):
    print(line["event"], flush=True)
    time.sleep(pause)

if fovea.Run.is_run(folder):
    fovea.resume(folder, small_data(), callbacks=[wait], **machine)
else:
    fovea.train(small_model(), small_data(), out=folder, callbacks=[wait], **{**options, **machine})
"""


class Stop(Exception):
    """Stands for the death of the process, raised from a callback."""


def stop_at(step: int) -> Any:
    """A callback that raises after that step."""

    def callback(line: Any) -> None:
        if line["event"] == "step" and line["step"] == step:
            raise Stop

    return callback


NATIVE = pytest.mark.skipif("native" not in available_engines(), reason="the compiled core is not built")


def start_or_resume(folder: Path, callbacks: Any, **options: Any) -> Run:
    """Train in a folder, from its checkpoint where it has one."""
    if Run.is_run(folder):
        return fovea.resume(folder, small_data(), callbacks=callbacks, report=False)
    return train_small(folder, callbacks=callbacks, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint_every": 1},
        {"checkpoint_every": 3, "optimizer": "sgd", "accumulate": 2, "mix": "cutmix", "workers": 2},
        {"ema": None, "label_smoothing": 0.1, "workers": 0, "patience": 2},
        {"keep_start": True, "checkpoint_every": 2},
        {"unfreeze": [(1, ["conv1"]), (2, ["batchnorm1"])], "anchor": 0.5, "checkpoint_every": 1},
        {"batch_norm": "update", "trainable": ("dense1",), "checkpoint_every": 2},
        pytest.param({"batch_norm": "update", "trainable": ("dense1",), "engine": "native"}, marks=NATIVE),
        pytest.param({"precision": "bf16", "engine": "native", "checkpoint_every": 2}, marks=NATIVE),
    ],
)
def test_stopping_after_every_step_changes_no_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    """One run that is never stopped, and one that dies after each of its steps in turn."""
    options = {"log_every": 1, **options}
    whole = train_small(tmp_path / "whole", **options)
    folder = tmp_path / "stopped"
    steps = len(whole.history("step", "step"))
    for step in range(1, steps + 1):
        with pytest.raises(Stop):
            start_or_resume(folder, callbacks=[stop_at(step)], **options)
    run = fovea.resume(folder, small_data(), report=False)
    assert run.finished
    assert final_bits(folder) == final_bits(whole.path)
    assert without_times(run.log) == without_times(whole.log)


def test_stopping_before_the_first_step_changes_no_bit(tmp_path: Path) -> None:
    """The starting weights are evaluated once more when their result was not saved."""

    def stop(line: Any) -> None:
        raise Stop

    whole = train_small(tmp_path / "whole", keep_start=True)
    with pytest.raises(Stop):
        train_small(tmp_path / "stopped", keep_start=True, callbacks=[stop])
    run = fovea.resume(tmp_path / "stopped", small_data(), report=False)
    assert final_bits(run.path) == final_bits(whole.path)
    assert without_times(run.log) == without_times(whole.log)


def machines() -> list[Any]:
    """Engine, threads and workers to kill under."""
    cases = [("reference", 1, 0), ("reference", 1, 3)]
    if "native" in available_engines():
        cases += [("native", 1, 0), ("native", 2, 3), ("native", 3, 1)]
    return cases


def child(folder: Path, machine: tuple[str, int, int], pause: float) -> subprocess.Popen[str]:
    """A process that trains, or continues what it finds."""
    engine, threads, workers = machine
    arguments = [sys.executable, "-c", _CHILD, str(folder), engine, str(threads), str(workers), str(pause)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    return subprocess.Popen(
        arguments, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, int, int]], Path]:
    """The folder of a run that nobody killed, on one thread and without workers, for each engine."""

    @functools.cache
    def folder_of(engine: str) -> Path:
        folder = tmp_path_factory.mktemp(engine) / "run"
        process = child(folder, (engine, 1, 0), 0.0)
        error = process.communicate()[1]
        assert process.returncode == 0, error
        return folder

    return lambda machine: folder_of(machine[0])


@pytest.mark.parametrize("machine", machines(), ids=lambda machine: f"{machine[0]}-{machine[1]}-{machine[2]}")
def test_a_killed_process_changes_no_bit(tmp_path: Path, undisturbed: Callable[[Any], Path], machine: Any) -> None:
    """SIGKILL at moments drawn at random, three times, then to the end."""
    folder = tmp_path / "run"
    moments = random.uniform(random.key(machine[1] * 10 + machine[2], "moments"), 3, 0.0, 0.2)
    killed = 0
    for moment in moments:
        process = child(folder, machine, 0.02)
        assert process.stdout is not None
        process.stdout.readline()  # it has trained a step
        time.sleep(float(moment))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    process = child(folder, machine, 0.0)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    assert killed
    assert final_bits(folder) == final_bits(undisturbed(machine))
    assert without_times(Run(folder).log) == without_times(Run(undisturbed(machine)).log)


def stopped_run(folder: Path) -> Path:
    """A run that died in its second epoch."""
    with pytest.raises(Stop):
        train_small(folder, callbacks=[stop_at(3)], log_every=1)
    return folder


def test_other_data_are_refused(tmp_path: Path) -> None:
    folder = stopped_run(tmp_path)
    with pytest.raises(DataError, match="expected the data this run began with"):
        fovea.resume(folder, small_data(seed=5))
    with pytest.raises(DataError, match="expected the data this run began with"):
        fovea.resume(folder, small_data(val=12))
    assert fovea.resume(folder, small_data(), report=False).finished


def test_the_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = stopped_run(tmp_path)
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(3))
    fovea.Model(net, (6, 6, 1)).save(folder / files.MODEL_FILE)
    differs = r"got one of another network \(dense1.weight is \(36, 3\) in the model, \(144, 3\) in the checkpoint\)"
    with pytest.raises(ModelFileError, match=differs):
        fovea.resume(folder, small_data())


@pytest.mark.skipif("native" not in available_engines(), reason="needs the compiled core")
@pytest.mark.parametrize(
    "engines", [("reference", "native"), ("native", "reference"), ("torch", "native"), ("native", "torch")]
)
def test_another_engine_continues(tmp_path: Path, engines: tuple[str, str]) -> None:
    """The same training up to rounding, which a handful of steps cannot amplify beyond a thousandth."""
    if not set(engines) <= set(available_engines()):
        pytest.skip("needs PyTorch")
    own = {"native": {"threads": 1}, "torch": {"precision": "tf32"}}.get(engines[0], {})  # what the other has not
    whole = train_small(tmp_path / "whole", engine=engines[0], **own)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train_small(folder, callbacks=[stop_at(3)], log_every=1, engine=engines[0], **own)
    run = fovea.resume(folder, small_data(), engine=engines[1], report=False)
    assert run.history("val_loss")[0] == whole.history("val_loss")[0]
    assert run.history("val_loss") == pytest.approx(whole.history("val_loss"), rel=1e-3)


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, keep: int) -> None:
    folder = stopped_run(tmp_path)
    path = folder / files.CHECKPOINTS / files.LAST_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="damaged"):
        fovea.resume(folder, small_data())


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path) -> None:
    run = train_small(tmp_path, epochs=1)
    before = final_bits(tmp_path)
    assert fovea.resume(run, small_data()).finished
    assert final_bits(tmp_path) == before


def test_frozen_layers_stay_frozen_after_resuming(tmp_path: Path) -> None:
    model = small_model()
    model.freeze("conv1")
    with pytest.raises(Stop):
        fovea.train(model, small_data(), out=tmp_path, callbacks=[stop_at(3)], **{**OPTIONS, "log_every": 1})
    run = fovea.resume(tmp_path, small_data(), report=False)
    assert (run.model.store.parameters["conv1.weight"] == small_model().store.parameters["conv1.weight"]).all()


@pytest.mark.parametrize("failing", range(1, 9))
def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """The n-th atomic write fails half way: what was there before stays whole, and the run continues later."""
    whole = train_small(tmp_path / "whole")
    count = 0
    original = os.fsync

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count >= 4 + failing * 2:
            raise OSError(28, "No space left on device")
        original(descriptor)

    folder = tmp_path / "run"
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises((fovea.FoveaError, OSError), match="No space left"):
            train_small(folder)
    assert not list(folder.rglob("*.tmp"))
    if not Run.is_run(folder):
        train_small(folder)
    else:
        fovea.load(folder)
        serialize.read_tensors(folder / files.CHECKPOINTS / files.LAST_FILE)
        fovea.resume(folder, small_data(), report=False)
    assert final_bits(folder) == final_bits(whole.path)


def test_options_that_were_edited_are_refused(tmp_path: Path) -> None:
    folder = stopped_run(tmp_path)
    path = folder / files.CONFIG_FILE
    config = json.loads(path.read_text())
    config["train"]["lr"] *= 2
    config["train"]["workers"] = 3  # this decides no number
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="expected the options this run began with, got another lr; put the old"):
        fovea.resume(folder, small_data(), report=False)
