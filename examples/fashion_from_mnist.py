"""Ten images of each class of Fashion-MNIST: LeNet-5 that knows MNIST's digits against the same network from scratch.

Needs FOVEA_DATA with fashion-mnist/, or the network to download it once; the weights for MNIST come with fovea. Ten
images of each class train, 50 more of each choose the epoch, and the 10,000 test images judge, which nothing was chosen
on: learning rates were chosen on the 50 of three other draws, for fine-tuning among 1e-4 to 1e-2, from scratch among
3e-3 and 1e-2 of AdamW and 0.007 to 0.05 of SGD. Every seed draws other images, the same for every method.
Run: python examples/fashion_from_mnist.py [--seeds 10]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from evidence import machine

import fovea
from fovea.data import Dataset
from fovea.data.select import few_of_each, with_splits
from fovea.tasks.metrics import mean_interval

SHOTS, CHOOSING = 10, 50
PLANS = ("probe", "probe-earlier", "finetune", "adviser", "scratch")
LAYER = "flatten1"
"""Behind the convolutions: strokes and corners, not digits yet."""


def few(data: Dataset, seed: int) -> Dataset:
    """Ten images of each class to train on, fifty others to choose the epoch with, and the test split."""
    targets = data.train.targets
    chosen = few_of_each(targets, SHOTS + CHOOSING, seed)
    train = chosen[few_of_each(targets[chosen], SHOTS, seed)]
    rest = np.setdiff1d(chosen, train)
    return with_splits(data, {"train": data.train.take(train), "val": data.train.take(rest)}, f"{CHOOSING} of a class")


def accuracy(data: Dataset, plan: str, seed: int) -> float:
    """Test accuracy of one plan."""
    options: dict[str, Any] = {"plan": plan, "advise": False, "seed": seed, "report": False}
    if plan == "adviser":
        options |= {"plan": None, "advise": True}
    elif plan == "probe-earlier":
        options["layer"] = LAYER
    elif plan in ("finetune", "scratch"):
        options |= {"epochs": 40, "batch_size": 16, "patience": 40, "optimizer": "adamw", "lr": 3e-3}
        options |= {"lr_depth": 1.0} if plan == "finetune" else {}
    with tempfile.TemporaryDirectory() as folder:
        run = fovea.finetune(data, "lenet5:mnist", out=Path(folder) / "run", **options)
        return float(fovea.evaluate(run, data)["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    data = fovea.dataset("fashion-mnist", val_fraction=0)
    found: dict[str, list[float]] = {plan: [] for plan in PLANS}
    for seed in range(given.seeds):
        some = few(data, seed)
        for plan in PLANS:
            found[plan].append(accuracy(some, plan, seed))
            print(f"seed {seed}  {plan:14} {found[plan][-1]:.2%}", flush=True)
    print(f"\nFashion-MNIST, {SHOTS} images of each class, accuracy on 10,000 test images")
    for plan, shares in found.items():
        mean, low, high = mean_interval(shares) if len(shares) > 1 else (shares[0], shares[0], shares[0])
        print(f"  {plan:14} {mean:.2%}  (95 % interval {low:.2%} to {high:.2%}, {len(shares)} draws)")
    gains = np.array(found["finetune"]) - np.array(found["scratch"])
    mean, low, high = mean_interval(gains.tolist()) if len(gains) > 1 else (gains[0], gains[0], gains[0])
    print(f"  finetune above scratch, draw by draw: {mean:+.2%} (95 % interval {low:+.2%} to {high:+.2%})")
    print(f"  machine: {machine()}")
    if given.seeds >= 5 and high < 0:
        sys.exit("expected what was learned on digits to do no harm")


if __name__ == "__main__":
    main()
