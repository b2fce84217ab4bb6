"""fovea under torchrun: its command line, a worker that is killed, what cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import fovea  # the engine needs PyTorch
from fovea.errors import ConfigError, EngineError  # the engine needs PyTorch
from fovea.graph.serialize import read_tensors
from fovea.run import CHECKPOINTS, LAST_FILE, Run
from fovea.training.config import TrainConfig
from fovea.training.place import engine_and_world, folder_for
from tests.tiny_data import images
from tests.torch_engine.several import torchrun, train


def test_a_killed_process_costs_the_steps_since_the_last_checkpoint(tmp_path: Path) -> None:
    """torchrun starts all again, the run goes on, and ends with the bits of a run that nothing disturbed."""
    said = torchrun(2, "tests.torch_engine.several", str(tmp_path), "killed", restarts=1)
    assert (tmp_path / "killed").exists()
    assert "Signal 9 (SIGKILL)" in said or "exitcode: -9" in said
    run = Run(tmp_path / "run")
    assert run.finished
    assert [line["step"] for line in run.log if line["event"] == "step"] == list(range(1, 13))
    torchrun(2, "tests.torch_engine.several", str(tmp_path), "apart")
    ours, _ = read_tensors(run.path / CHECKPOINTS / LAST_FILE)
    whole, _ = read_tensors(tmp_path / "apart" / CHECKPOINTS / LAST_FILE)
    assert set(ours) == set(whole)
    for path, array in whole.items():
        np.testing.assert_array_equal(ours[path], array, err_msg=path)


def test_the_command_line_in_two_processes(tmp_path: Path) -> None:
    """One flag is enough, each line is printed once, and a finished folder is refused in one sentence."""
    words = ["fovea", "train", str(images(tmp_path / "photos")), "--epochs", "1", "--batch-size", "8"]
    said = torchrun(2, *words, "--out", str(tmp_path / "run"), "--sync-batchnorm")
    for line in ("computes    PyTorch on the CPU, 2 processes share every batch", "data        photos", "epoch 1/1"):
        assert said.count(line) == 1, said
    assert said.count("run     ") == said.count("report  ") == 1
    run = Run(tmp_path / "run")
    assert run.finished
    assert run.report_path.exists()
    assert (run.config["processes"], run.config["engine"]) == (2, "torch")
    refused = torchrun(2, *words, "--out", str(tmp_path / "run"), ok=False)
    assert refused.count("expected a folder without a run, got one that holds a run") == 1, refused


def test_processes_need_an_engine_that_knows_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(EngineError, match=r"^\[reference\] expected one process, got 2 .*the torch engine does"):
        engine_and_world("reference", TrainConfig())


def test_finetune_is_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"^\[finetune\] expected one process, got 2; start it without torchrun"):
        fovea.finetune("digits", "lenet5:mnist")


def test_a_device_brings_its_engine_and_is_missed_in_one_sentence() -> None:
    import torch

    assert engine_and_world(None, TrainConfig(device="cpu"))[0].name != "torch"
    if torch.cuda.is_available():
        assert engine_and_world(None, TrainConfig(device="cuda"))[0].name == "torch"
    else:
        with pytest.raises(EngineError, match=r"^\[device\] expected a GPU for cuda, found 0 here"):
            engine_and_world(None, TrainConfig(device="cuda"))


def test_a_run_without_a_name_cannot_be_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = engine_and_world("reference", TrainConfig())[1]
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(ConfigError, match=r"^\[out\] expected a run folder where torchrun may start processes again"):
        folder_for(None, "x", world)
    assert folder_for(tmp_path / "x", "x", world) == tmp_path / "x"


def test_only_the_launch_that_began_a_run_goes_on_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "first")
    world = engine_and_world("torch", TrainConfig())[1]
    run = train(tmp_path, "plain", epochs=1)
    with pytest.raises(ConfigError, match="expected a folder without a run"):  # finished, and nothing has died
        folder_for(run.path, "x", world)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert folder_for(run.path, "x", world) == run.path
    again = train(tmp_path, "plain", epochs=1)
    assert again.metrics == run.metrics
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "second")
    with pytest.raises(ConfigError, match="expected a folder without a run"):
        folder_for(run.path, "x", world)
