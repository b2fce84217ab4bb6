"""What every example ends with: the model file checked against memory, one table, and the machine."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from typing import Any

import numpy as np

import fovea
from fovea.data import Dataset


def arguments(description: str, epochs: int) -> argparse.Namespace:
    """--epochs, --seed and --out, the same for every example."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=None, help="new run folder (default: runs/NAME-DATE-TIME)")
    return parser.parse_args()


def show(title: str, model: fovea.Model, run: fovea.Run, data: Dataset, *, at_least: float, epochs: int) -> None:
    """Evaluate the saved model on the test split, print the table, and exit with 1 when it is worse than promised.

    `model` is the one that was trained, still in memory: the file must give the same outputs, bit for bit.

    The promise is for `epochs` epochs; after fewer the table is printed and nothing is promised.
    """
    result: dict[str, Any] = fovea.evaluate(run.path, data)  # what counts is the file, not what is still in memory
    test = data.test
    assert test is not None, "every example has a test split"
    again = fovea.load(run.path).logits(test.inputs[:32])
    same = bool(np.array_equal(again, model.logits(test.inputs[:32])))
    metrics = run.metrics or {}
    done = int(metrics.get("epochs", 0))
    rows = [
        ("test accuracy", f"{result['accuracy']:.2%} of {result['n']} samples"),
        ("test error", f"{1 - result['accuracy']:.2%}"),
        ("test loss", f"{result['loss']:.4f}"),
        ("calibration error", f"{result['ece']:.2%}"),
        ("epochs", f"{done} (weights of epoch {metrics.get('best_epoch') or done})"),
        ("training time", f"{metrics.get('seconds', 0):.0f} s, {metrics.get('images_per_second', 0):.0f} samples/s"),
        ("parameters", f"{run.model.summary().totals['parameters']:,}"),
        ("engine", str(run.config.get("engine"))),
        ("runs", f"1 (seed {run.config['train']['seed']})"),
        ("machine", machine()),
        ("model file", f"{run.path}, {'equal to memory' if same else 'NOT equal to memory'}"),
    ]
    print(f"\n{title}")
    for name, value in rows:
        print(f"  {name.ljust(18)} {value}")
    if not same:
        sys.exit("the model file does not give what the model in memory gives")
    if done >= epochs and result["accuracy"] < at_least:
        sys.exit(f"expected a test accuracy of at least {at_least:.1%} after {epochs} epochs")


def machine() -> str:
    """Kind of processor, cores, threads in use."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
