"""Trainings that several processes share, started by torchrun: -m tests.torch_engine.several FOLDER NAME..."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fovea
from fovea.data import Dataset
from fovea.errors import ConfigError, FoveaError
from fovea.model import Model
from fovea.run import Run
from tests.conftest import ROOT
from tests.training.small_training import small_data

OPTIONS: dict[str, Any] = {
    "engine": "torch", "epochs": 4, "batch_size": 16, "lr": 0.05, "log_every": 1, "report": False, "workers": 0,
}  # fmt: skip
SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {},  # 16 samples in 3 shares of 5 or 6
    "uneven": {"batch_size": 77, "epochs": 20},  # one batch of 50 an epoch: fewer samples than batch_size
    "rich": {
        "accumulate": 2, "class_weights": (1.0, 2.0, 0.5), "clip_norm": 0.5, "ema": 0.9, "optimizer": "adamw",
        "lr": 0.01, "label_smoothing": 0.1, "augment": "flip,shift_crop",
    },
    "mixed": {"mix": "mixup", "precision": "fp32"},
    "synchronised": {"sync_batchnorm": True},
    "boxes": {"sync_batchnorm": True, "batch_size": 5, "epochs": 1, "lr": 0.005, "augment": "none"},
    "apart": {},
}  # fmt: skip


def model_for(name: str) -> Model:
    """A network with dropout; group normalisation sees one sample, batch normalisation all of them. Or a detector."""
    if name == "boxes":
        return fovea.models.detector(classes=["red", "green"], seed=1, image_size=64)
    batch_norm = name in ("synchronised", "apart")
    norm = fovea.BatchNorm() if batch_norm else fovea.GroupNorm(2)
    fixed = [fovea.Conv(1, 1), fovea.StopGradient()] if name == "mixed" else []  # no gradient reaches its weights
    net = fovea.Sequential(
        *fixed, fovea.Conv(4, 3, padding="same", use_bias=False), norm, fovea.ReLU(), fovea.Dropout(0.2),
        fovea.MaxPool(2), fovea.Conv(6, 3), fovea.ReLU(), fovea.Flatten(), fovea.Dense(3),
    )  # fmt: skip
    return Model(net, (6, 6, 1), seed=1, name="small")


def data() -> Dataset:
    """50 samples to train with and 17 to validate: numbers that neither 2 nor 3 divide."""
    return small_data(50, val=17)


def scenes() -> Dataset:
    """Bright rectangles in 16 pictures to train with, each process with other numbers of them, and 5 to validate."""
    draws = np.random.default_rng(0)
    images, boxes = draws.integers(0, 60, (21, 64, 64, 3), dtype=np.uint8), []
    for index, image in enumerate(images):
        boxes.append([])
        for _ in range(index % 4):
            x, y, label = *draws.integers(0, 32, 2), int(draws.integers(2))
            image[y : y + 24, x : x + 30, label] = 240
            boxes[-1].append([x, y, x + 30, y + 24, label])
    val = (images[16:], boxes[16:])
    given = {"task": "detection", "classes": ["red", "green"]}
    return fovea.from_arrays((images[:16], boxes[:16]), val=val, **given, val_fraction=0)


def train(folder: Path, name: str, **options: Any) -> Run:
    """One of the trainings."""
    given = scenes() if name == "boxes" else data()
    return fovea.train(model_for(name), given, out=folder / name, **{**OPTIONS, **SCENARIOS[name], **options})


def torchrun(processes: int, *words: str, restarts: int = 0, ok: bool = True) -> str:
    """Start a module in several processes on this machine; returns what they printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    surrounding = {**os.environ, "OMP_NUM_THREADS": "1", "FOVEA_THREADS": "1", "PYTHONWARNINGS": "error::FutureWarning"}
    surrounding["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, f"--max-restarts={restarts}", "-m", *words],
        env=surrounding, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == ok, done.stdout
    return done.stdout


def kill_the_last(folder: Path) -> Any:
    """A callback of the first process: at step 8 it kills the last one, once."""

    def look(line: Mapping[str, Any]) -> None:
        if line.get("step") == 8 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(int((folder / "last").read_text()), signal.SIGKILL)
            time.sleep(60)  # torchrun ends this process, too

    return look


def stop_after_two(line: Mapping[str, Any]) -> None:
    """A callback that ends a training in the middle, as an error on some disk would."""
    if line.get("event") == "epoch" and line["epoch"] == 2:
        raise ConfigError("test", "expected nothing; stop here")


def main(folder: Path, names: list[str]) -> None:
    """Run the named trainings, or one of the accidents."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    for name in names:
        if name == "killed":
            if rank == size - 1:
                (folder / "last").write_text(str(os.getpid()))
            fovea.train(
                model_for("apart"), data(), out=folder / "run", **{**OPTIONS, "checkpoint_every": 2},
                callbacks=[kill_the_last(folder)],
            )  # fmt: skip
        elif name == "other-data":
            given = small_data(50 + rank, val=17)
            _refused(folder, rank, lambda given=given: fovea.train(model_for("plain"), given, out=folder / "no"))
        elif name == "broken":
            bad = model_for("plain")
            bad.store.parameters["dense1.weight"][...] = np.inf
            _refused(folder, rank, lambda bad=bad: fovea.train(bad, data(), out=folder / "nan", **OPTIONS))
        elif name == "half":
            _refused(folder, rank, lambda: train(folder, "plain", callbacks=[stop_after_two]))
        elif name == "resumed":
            fovea.resume(folder / "plain", data(), report=False)
        else:
            train(folder, name)


def _refused(folder: Path, rank: int, work: Any) -> None:
    """Keep the error of each process, and whether it says that another one has it."""
    try:
        work()
    except FoveaError as error:
        with open(folder / f"error{rank}", "a", encoding="utf-8") as file:
            file.write(f"{error.elsewhere}: {error}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    sys.stdout.flush()
    os._exit(0)  # what is tested is done: threads of Gloo that end in another order abort a process now and then
