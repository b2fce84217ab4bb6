"""Curves of 1, 2 and 3 processes on each other: ``python bench/processes.py [DATA]`` (digits, or other images).

The same network is trained for 20 steps by each number of processes on this machine, over Gloo on the loopback device.
A batch of 100 is 34, 33 and 33 samples for three processes. Printed is how far the 20 losses lie from those of one
process at most, relative to them. Exits with 1 when a network that must agree does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fovea
from fovea.run import Run

TOLERANCE = 1e-4
STEPS = 20
NORMS = {
    "group norm": (lambda: fovea.GroupNorm(4), False, True),
    "batch norm, synchronised": (fovea.BatchNorm, True, True),
    "batch norm": (fovea.BatchNorm, False, False),  # of each share: other numbers, said so
}


def network(norm: str) -> fovea.Sequential:
    """A small network with dropout, whose normalisation is the question."""
    layers: list[object] = []
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        layers += [fovea.Conv(width, 3, stride=stride, padding="same", use_bias=False), NORMS[norm][0](), fovea.ReLU()]
    return fovea.Sequential(*layers, fovea.GlobalAvgPool(), fovea.Dropout(0.2), fovea.Dense(10))


def train(data: str, folder: Path) -> None:
    """What each process runs: 20 steps with every norm."""
    given = fovea.dataset(data)
    rows = np.arange(min(len(given.train), 100 * STEPS))
    part = fovea.from_arrays(
        (given.train.inputs[rows], given.train.targets[rows]), classes=given.classes, val_fraction=0.1
    )
    for norm, (_, synchronised, _) in NORMS.items():
        model = fovea.Model(network(norm), given.input_shape, classes=given.classes, seed=0)
        epochs = -(-STEPS // (len(part.train) // 100))
        fovea.train(
            model, part, epochs=epochs, batch_size=100, lr=0.05, log_every=1, engine="torch", report=False,
            sync_batchnorm=synchronised, out=folder / norm,
        )  # fmt: skip


def losses(folder: Path, norm: str) -> np.ndarray:
    """The first 20."""
    return np.array(Run(folder / norm).history("loss", event="step")[:STEPS])


def main(data: str) -> int:
    """Train with 1, 2 and 3 processes and print the table."""
    surrounding = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for count in (1, 2, 3):
            command = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", __file__, data]
            run = subprocess.run(
                [sys.executable, "-m", *command, str(root / str(count))], env=surrounding, stderr=subprocess.DEVNULL,
                check=False,
            )  # fmt: skip
            if run.returncode:
                print(f"[processes] expected {count} processes to train, got exit code {run.returncode}")
                return 1
        print("| network | loss, step 1 | step 20 | 2 processes: largest difference | 3 processes |")
        print("|---|---|---|---|---|")
        failed = False
        for norm, (_, _, must) in NORMS.items():
            one = losses(root / "1", norm)
            apart = [float(np.abs(losses(root / str(count), norm) / one - 1).max()) for count in (2, 3)]
            failed |= must and max(apart) > TOLERANCE
            print(f"| {norm} | {one[0]:.4f} | {one[-1]:.4f} | {apart[0]:.1e} | {apart[1]:.1e} |")
        return int(failed)


if __name__ == "__main__":
    if "RANK" in os.environ:
        train(sys.argv[1], Path(sys.argv[2]))
    else:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "digits"))
