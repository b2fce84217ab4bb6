"""Training on shards: any process of the loop, killed or not, sees the batches that it would have seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.data import Dataset
from fovea.data.load import dataset
from fovea.data.shards.split import StreamSplit
from fovea.data.shards.write import write_shards
from fovea.errors import DataError
from fovea.run import Run
from tests.training.small_training import OPTIONS, final_bits, small_data, small_model, without_times

FEW = {**OPTIONS, "epochs": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streaming") / "set"
    write_shards(small_data(90), path, per_shard=16)
    return path


class Stop(Exception):
    """What ends a training in the middle."""


def train(data: Dataset, out: Path, **options: Any) -> Run:
    return fovea.train(small_model(), data, out=out, **{**FEW, **options})


def test_a_network_learns_from_shards(folder: Path, tmp_path: Path) -> None:
    data = dataset(folder)
    assert isinstance(data.train, StreamSplit)
    run = train(data, tmp_path / "run", epochs=6, mix="mixup", class_weights="balanced", report=True)
    assert run.metrics["val"]["accuracy"] >= 0.9
    assert fovea.evaluate(run, dataset(folder))["accuracy"] >= 0.9
    assert "training samples by class" in (tmp_path / "run" / "report.html").read_text()
    assert run.config["data"]["splits"] == {"train": 90, "val": 15, "test": 15}


@pytest.mark.parametrize("step", [3, 6, 8])
def test_a_training_that_was_stopped_ends_with_the_same_bits(folder: Path, tmp_path: Path, step: int) -> None:
    options = {"checkpoint_every": 1, "log_every": 1, "workers": 2}
    whole = train(dataset(folder), tmp_path / "whole", **options)

    def stop(line: Any) -> None:
        if line["event"] == "step" and line["step"] == step:
            raise Stop

    with pytest.raises(Stop):
        train(dataset(folder), tmp_path / "stopped", **options, callbacks=[stop])
    stopped = fovea.resume(tmp_path / "stopped", dataset(folder), report=False)
    assert final_bits(tmp_path / "stopped") == final_bits(tmp_path / "whole")
    assert without_times(stopped.log) == without_times(whole.log)


def test_resuming_needs_the_same_shards(folder: Path, tmp_path: Path) -> None:
    def stop(line: Any) -> None:
        if line["event"] == "epoch":
            raise Stop

    with pytest.raises(Stop):
        train(dataset(folder), tmp_path / "run", callbacks=[stop])
    other = tmp_path / "other"
    write_shards(small_data(90, seed=5), other, per_shard=16)
    with pytest.raises(DataError, match="expected the data this run began with"):
        fovea.resume(tmp_path / "run", dataset(other), report=False)


def test_a_learning_rate_is_found_on_shards(folder: Path) -> None:
    found = fovea.find_lr(small_model(), dataset(folder), steps=12, engine="reference", batch_size=16)
    assert len(found.lrs) >= 2


def test_classes_in_another_order_are_renumbered(folder: Path) -> None:
    data = dataset(folder).with_classes(("right", "left", "extra", "middle"))
    plain = dataset(folder)
    assert data.train.class_counts().tolist() == [30, 30, 0, 30]
    from fovea.data.loader import loader_for

    new, old = (list(loader_for(one.train, 16)) for one in (data, plain))
    places = np.array([1, 3, 0])
    assert all(np.array_equal(a.targets, places[b.targets]) for a, b in zip(new, old, strict=True))
