"""What torch.compile gives the PyTorch engine on a CPU: steps of training and inference, plain beside compiled.

    python bench/compiled.py                       # all networks
    python bench/compiled.py --networks resnet20   # one of them
    python bench/compiled.py --smoke               # a tiny setting that runs anywhere in a few seconds

Both sides are this project's PyTorch engine with the same weights, bytes and batch, on one thread; one has
``compiled=True``. Before anything is timed, outputs and the losses of three steps are held to each other. Then the
sides take turns (A B A B). Times are seconds of the CPU, so that other programs on the machine count little, and
medians over all rounds. A ratio is the plain time / the compiled time: above 1 compiling pays. ``compiling`` is what
the step that compiles takes beyond the next one, without PyTorch's caches on disk, and ``steps`` how many steps pay
for it (never: the compiled step is not faster).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._inductor import config as inductor

import fovea
from fovea.bench.machine import facts, installed
from fovea.engines.registry import get_engine

TOLERANCE = 1e-3
"""Of outputs and losses, relative to the largest: three steps of float32 in another order of sums."""
NETWORKS: dict[str, tuple[int, int]] = {
    "small": (32, 64), "resnet20": (32, 64), "resnet18": (64, 16), "mobilenetv2": (96, 16),
}  # fmt: skip
"""Side of the images and batch."""


def network(name: str, side: int) -> fovea.Model:
    """A network of ten classes that takes bytes."""
    if name == "small":
        blocks = [
            layer
            for channels in (32, 64, 128)
            for layer in (
                fovea.Conv(channels, 3, padding="same"),
                fovea.BatchNorm(),
                fovea.ReLU(),
                fovea.MaxPool(2),
            )
        ]
        model = fovea.Model(fovea.Sequential(*blocks, fovea.GlobalAvgPool(), fovea.Dense(10)), (side, side, 3), seed=0)
    else:
        model = getattr(fovea.models, name)(num_classes=10, input_shape=(side, side, 3), seed=0)
    model.preprocessing = fovea.Preprocessing(size=(side, side), mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    return model


def cpu_seconds() -> float:
    """Of this process and of the compilers that it has started."""
    return sum(os.times()[:4])


def in_turn(sides: list[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """CPU seconds of each side's steps: one to wake up, then two that count, side after side."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for own, step in zip(times, sides, strict=True):
            step()
            for _ in range(2):
                start = time.process_time()
                step()
                own.append(time.process_time() - start)
    return times


class Side:
    """One engine's plans of one network. ``compiling``: seconds of the call that compiles, beyond the one before it."""

    def __init__(self, name: str, side: int, batch: int, compiled: bool) -> None:
        engine = get_engine("torch").configured(compiled=compiled)
        model = network(name, side)
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
        self.targets = rng.integers(0, 10, batch)
        self._training = model.compile(
            engine, batch, pixels=True, training=True, loss=fovea.SoftmaxCrossEntropy(),
            optimizer=fovea.SGD(momentum=0.9),
        )  # fmt: skip
        self._inference = model.compile(engine, batch, pixels=True)
        self.found, self.compiling = {}, {}
        for what, step in self.steps().items():
            times, values = [], []
            for _ in range(3):  # the second of one size compiles
                start = cpu_seconds()
                values.append(step())
                times.append(cpu_seconds() - start)
            self.found[what], self.compiling[what] = np.array(values), times[1] - times[2]

    def steps(self) -> dict[str, Callable[[], Any]]:
        """Inference of one batch, of fresh weights; a step of training, whose loss it gives.

        In this order: after a few steps running statistics are so far from those of the batch that a deep network's
        outputs are little but rounding.
        """
        return {"inference": partial(self._inference.forward, self.images), "training": self._train}

    def _train(self) -> float:
        return self._training.train_step(self.images, self.targets, lr=1e-3).loss


def measure(name: str, side: int, batch: int, rounds: int) -> list[dict[str, Any]]:
    """Training and inference of one network. Ends the program where the sides disagree."""
    plain, compiled = (Side(name, side, batch, which) for which in (False, True))
    rows = []
    for what in plain.steps():
        ours, theirs = plain.found[what], compiled.found[what]
        difference = float(np.abs(ours - theirs).max() / np.abs(ours).max())
        if not difference <= TOLERANCE:
            sys.exit(f"[compiled] expected {name}, {what}, of both sides within {TOLERANCE:g}, got {difference:.1e}")
        times = in_turn([one.steps()[what] for one in (plain, compiled)], rounds)
        seconds = [statistics.median(one) for one in times]
        saved = seconds[0] - seconds[1]
        rows.append({
            "what": f"{name} {side}x{side}, {batch}, {what}", "plain": batch / seconds[0],
            "compiled": batch / seconds[1], "ratio": seconds[0] / seconds[1], "compiling": compiled.compiling[what],
            "steps": compiled.compiling[what] / saved if saved > 0 else None, "timed": [len(one) for one in times],
            "difference": difference,
        })  # fmt: skip
    return rows


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    steps = "never" if row["steps"] is None else f"{row['steps']:.0f}"
    return (
        f"{row['what']:38} {row['plain']:9.1f} {row['compiled']:9.1f} images/CPU s  ratio {row['ratio']:5.2f}  "
        f"compiling {row['compiling']:6.1f} CPU s, {steps} steps  ({min(row['timed'])} timed, difference "
        f"{row['difference']:.0e})"
    )


def main(words: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="a tiny setting: the small network at 8x8")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(words)
    warnings.filterwarnings("ignore", module="torch")  # of its compiler about itself
    torch.set_num_threads(1)
    torch.compiler.config.force_disable_caches = True
    inductor.compile_threads = 1  # in this process, whose time is counted
    setting = facts(1, installed())
    print(", ".join(f"{key} {value}" for key, value in setting.items()), flush=True)
    settings = {"small": (8, 4)} if options.smoke else {name: NETWORKS[name] for name in options.networks}
    rows = []
    for name, (side, batch) in settings.items():
        found = measure(name, side, batch, 2 if options.smoke else options.rounds)
        print(*map(line, found), sep="\n", flush=True)
        rows += found
    if options.json:
        options.json.write_text(json.dumps({"machine": setting, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
