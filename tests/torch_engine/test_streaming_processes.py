"""Several processes on shards: the losses of one process, and a prediction of everything once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("webdataset")

import fovea  # the engine needs PyTorch, writing shards webdataset
from fovea.run import Run
from tests.torch_engine.several import torchrun
from tests.torch_engine.streaming import SCENARIOS, main
from tests.training.small_training import small_data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of the training and the prediction, by the number of processes."""
    shards = tmp_path_factory.mktemp("shards") / "set"
    fovea.write_shards(small_data(106, val=17), shards, per_shard=13)
    folders = {size: tmp_path_factory.mktemp(f"of{size}") for size in (1, 2, 3)}
    main(shards, folders[1])
    for size in (2, 3):
        torchrun(size, "tests.torch_engine.streaming", str(shards), str(folders[size]))
    return folders


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", SCENARIOS)
def test_steps_are_those_of_one_process(runs: dict[int, Path], name: str, size: int) -> None:
    one, several = (np.array(Run(runs[n] / name).history("loss", event="step")) for n in (1, size))
    assert len(one) == len(several) >= 8
    np.testing.assert_allclose(several, one, rtol=2e-5, atol=1e-6)
    ours, theirs = Run(runs[size] / name).metrics, Run(runs[1] / name).metrics
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(ours["val"]["confusion"], theirs["val"]["confusion"])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_prediction_is_shared_by_tar_files(runs: dict[int, Path], size: int) -> None:
    files = sorted(runs[size].glob("rows*.jsonl"))
    assert len(files) == size
    paths = [json.loads(line)["path"] for file in files for line in file.read_text().splitlines()]
    assert len(paths) == len(set(paths)) == 106 + 17 + 15
