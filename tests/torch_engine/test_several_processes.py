"""Several processes train as one does: curves, final weights, metrics, checkpoints, errors. Gloo on loopback."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import fovea  # the engine needs PyTorch
from fovea.engines.registry import ENGINES, available_engines
from fovea.errors import FoveaError, MissingExtra, NonFiniteError
from fovea.graph.serialize import read_tensors
from fovea.run import CHECKPOINTS, LAST_FILE, Run
from tests.torch_engine.several import SCENARIOS, data, torchrun, train

ALIKE = [name for name in SCENARIOS if name not in ("apart", "boxes")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders with every training, by the number of processes."""
    folders = {size: tmp_path_factory.mktemp(f"of{size}") for size in (1, 2, 3)}
    for name in SCENARIOS:
        train(folders[1], name)
    for size in (2, 3):
        names = [name for name in SCENARIOS if name != "boxes" or size == 2]  # one world is enough for the slowest
        torchrun(size, "tests.torch_engine.several", str(folders[size]), *names, "other-data", "broken")
    return folders


def tensors(folder: Path) -> dict[str, Any]:
    return read_tensors(folder / CHECKPOINTS / LAST_FILE)[0]


def losses(folder: Path) -> Any:
    return np.array(Run(folder).history("loss", event="step"))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", ALIKE)
def test_the_first_twenty_steps_are_those_of_one_process(runs: dict[int, Path], name: str, size: int) -> None:
    one, several = losses(runs[1] / name), losses(runs[size] / name)
    assert len(one) == len(several) >= 12
    np.testing.assert_allclose(several[:20], one[:20], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", ALIKE)
def test_they_end_with_the_same_weights_and_metrics(runs: dict[int, Path], name: str, size: int) -> None:
    one, several = tensors(runs[1] / name), tensors(runs[size] / name)
    assert set(one) == set(several)
    for path, array in one.items():
        np.testing.assert_allclose(several[path], array, atol=1e-4 * max(1e-3, np.abs(array).max()), err_msg=path)
    ours, theirs = Run(runs[size] / name), Run(runs[1] / name)
    for metric in ("train_loss", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(ours.history(metric), theirs.history(metric), rtol=1e-4)
    assert ours.metrics is not None
    assert theirs.metrics is not None
    assert np.sum(ours.metrics["val"]["confusion"]) == 17
    np.testing.assert_array_equal(ours.metrics["val"]["confusion"], theirs.metrics["val"]["confusion"])


def test_a_detector_counts_the_boxes_of_all_processes(runs: dict[int, Path]) -> None:
    """Its loss is divided by what all shares want, of which each has another number. Its batch norms see maps of few
    positions, so that gradients of engines differ by a hundredth, too: the first step alone is compared."""
    (one, *_), (several, *_) = ([x for x in Run(runs[n] / "boxes").log if x["event"] == "step"] for n in (1, 2))
    assert several["loss"] == pytest.approx(one["loss"], rel=1e-3)
    assert several["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.03)


def test_without_synchronised_batch_norm_statistics_are_those_of_a_share(runs: dict[int, Path]) -> None:
    one, several = losses(runs[1] / "apart"), losses(runs[2] / "apart")
    assert np.abs(one[:12] - several[:12]).max() > 1e-3
    np.testing.assert_allclose(losses(runs[1] / "synchronised"), one, rtol=1e-6)  # alone they are the same


def test_each_sample_is_counted_once_and_the_first_alone_writes(runs: dict[int, Path]) -> None:
    for size in (1, 2, 3):
        run = Run(runs[size] / "plain")
        assert run.config["processes"] == size
        steps = [line for line in run.log if line["event"] == "step"]
        assert [line["step"] for line in steps] == list(range(1, 13))
        assert sum(line["event"] == "epoch" for line in run.log) == 4
        _, metadata = read_tensors(run.path / CHECKPOINTS / LAST_FILE)
        assert metadata["state"]["images"] == 4 * 48


def test_what_differs_between_processes_is_said_in_all(runs: dict[int, Path]) -> None:
    for size in (2, 3):
        for rank in range(size):
            different, broken = (runs[size] / f"error{rank}").read_text(encoding="utf-8").splitlines()
            text = f"[process 1] expected the same data, network and options in all {size} processes, got other data"
            assert different.startswith(f"{rank != 1}: {text} than process 0; start all")
            assert broken.startswith(f"{rank != 0}: [dense1] expected finite numbers, got infinite ones or nan in weig")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 2 processes that ended after 2 of its 4 epochs."""
    folder = tmp_path_factory.mktemp("half")
    torchrun(2, "tests.torch_engine.several", str(folder), "half")
    for rank in (0, 1):
        said = (folder / f"error{rank}").read_text(encoding="utf-8")
        assert said == f"{rank == 1}: [test] expected nothing; stop here\n"
    assert not Run(folder / "plain").finished
    return folder


@pytest.mark.parametrize("engine", [name for name in ENGINES if name in available_engines()])
def test_a_run_of_two_continues_alone_on_every_engine(
    tmp_path: Path, engine: str, runs: dict[int, Path], half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(half / "plain", tmp_path / "plain")
    fovea.resume(tmp_path / "plain", data(), engine=engine, report=False)
    words = "note: 2 processes began this run, 1 process continues it: the same up to rounding"
    assert words in capsys.readouterr().err
    np.testing.assert_allclose(losses(tmp_path / "plain"), losses(runs[1] / "plain"), rtol=1e-4)


def test_three_processes_continue_what_two_began(tmp_path: Path, runs: dict[int, Path], half: Path) -> None:
    shutil.copytree(half / "plain", tmp_path / "plain")
    said = torchrun(3, "tests.torch_engine.several", str(tmp_path), "resumed")
    assert said.count("note: 2 processes began this run, 3 processes continue it") == 1
    np.testing.assert_allclose(losses(tmp_path / "plain"), losses(runs[1] / "plain"), rtol=1e-4)


def test_errors_reach_other_processes_whole() -> None:
    error = MissingExtra("engine", "torch", "the torch engine")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.where) == (MissingExtra, str(error), "engine")
    assert isinstance(pickle.loads(pickle.dumps(NonFiniteError("a", "b"))), FoveaError)
