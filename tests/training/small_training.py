"""A data set and networks small enough to train many times in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fovea
from fovea import random
from fovea.data import Dataset, from_arrays
from fovea.graph.serialize import read_tensors
from fovea.model import Model
from fovea.run import CHECKPOINTS, LAST_FILE, MODEL_FILE, Run

CLASSES = ("left", "middle", "right")


def bars(n: int, seed: int) -> tuple[Any, Any]:
    """Noisy 6x6 pictures with a bright bar in one of three places: uint8 N,6,6,1 and the place."""
    places = np.arange(n) % 3
    noise = random.integers(random.key(seed, "bars"), n * 36, 0, 120).reshape(n, 6, 6, 1)
    noise[np.arange(n), :, places * 2, 0] += 110
    return noise.astype(np.uint8), places.astype(np.int64)


def small_data(n: int = 45, val: int = 15, seed: int = 0) -> Dataset:
    """Three classes of bars, with a test split of 15."""
    return from_arrays(
        bars(n, seed), val=bars(val, 100) if val else None, test=bars(15, 200), classes=CLASSES, val_fraction=0
    )


def small_model(seed: int = 0, dropout: float = 0.2) -> Model:
    """Convolution, batch norm, dropout and dense: every kind of state that a checkpoint must hold."""
    net = fovea.Sequential(
        fovea.Conv(4, 3, padding="same", use_bias=False),
        fovea.BatchNorm(),
        fovea.ReLU(),
        fovea.Dropout(dropout),
        fovea.Flatten(),
        fovea.Dense(3),
    )
    return Model(net, (6, 6, 1), seed=seed, name="small")


OPTIONS: dict[str, Any] = {
    "epochs": 3, "batch_size": 16, "ema": 0.9, "optimizer": "adamw", "lr": 0.02, "log_every": 2, "report": False,
    "engine": "reference",
}  # fmt: skip


def train_small(out: Path, **options: Any) -> Run:
    """A whole training of the small network."""
    return fovea.train(small_model(), small_data(), out=out, **{**OPTIONS, **options})


def final_bits(folder: Path) -> dict[str, bytes]:
    """Everything that must not depend on interruptions: the model file, and each tensor of the last checkpoint."""
    tensors, metadata = read_tensors(folder / CHECKPOINTS / LAST_FILE)
    counters = {
        name: metadata["state"][name] for name in ("epoch", "step", "best", "best_loss", "best_epoch", "waited")
    }
    bits = {name: array.tobytes() for name, array in tensors.items()}
    return {**bits, "model": (folder / MODEL_FILE).read_bytes(), "counters": repr(counters).encode()}


def without_times(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a log without what differs from one run to the next."""
    return [{name: v for name, v in line.items() if "second" not in name and "wait" not in name} for line in log]
