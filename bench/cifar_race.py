"""ResNet-20 on CIFAR-10 from the first step to the last, ours and PyTorch's: accuracy over wall time.

    python bench/cifar_race.py run fovea --out race                        # 15 epochs, float32, seed 0
    python bench/cifar_race.py run torch --out race
    python bench/cifar_race.py run fovea --precision bf16 --epochs 6 --seeds 3 --out check
    python bench/cifar_race.py show race/*.json --svg race.svg --json race.json

Both sides get the same batches from the same loader (crops of zero-padded images, flips; one thread prepares them
ahead), start from the same weights, and run the same recipe: SGD with Nesterov momentum 0.9 and weight decay 5e-4 on
weights, learning rates of one cycle with its peak at 0.4 after a quarter of the steps, label smoothing 0.1, batch 128.
PyTorch runs in channels_last with its fused optimiser, in bf16 under its autocast. After each epoch the test split is
evaluated in float32; its clock stands still meanwhile. Accuracy on the test split is looked at, not chosen by.

Every run writes a file of its own after each epoch, so sides may run at different times; `show` compares what is there:
curves, final accuracies (mean and extremes over seeds), and how long each took to PyTorch's final accuracy minus half
a point. Needs FOVEA_DATA with cifar10/, or the network; `run torch` needs PyTorch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fovea
from fovea.bench import networks
from fovea.bench.machine import facts, installed
from fovea.data.augment import Augment, HorizontalFlip, ShiftCrop
from fovea.data.dataset import Batch, Split
from fovea.data.loader import Loader
from fovea.training.schedule import OneCycle

BATCH, PEAK, MOMENTUM, WEIGHT_DECAY, SMOOTHING = 128, 0.4, 0.9, 5e-4, 0.1
SCHEDULE = OneCycle(warmup=0.25, start=0.04, final=4e-6)
AUGMENT = Augment((ShiftCrop(4, "zero"), HorizontalFlip()))
PIXELS = fovea.Preprocessing(size=(32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
LINES = {"fovea fp32": "accent", "fovea bf16": "good", "PyTorch fp32": "second", "PyTorch bf16": "bad"}
"""Colours of the picture."""
MARGIN = 0.005
"""Below PyTorch's final accuracy: what the clock is stopped at."""


class Fovea:
    """Our side."""

    def __init__(self, precision: str, seed: int) -> None:
        self.model = networks.create("resnet20", seed=seed)
        self.model.preprocessing = PIXELS
        self.plan = self.model.compile(
            "native", BATCH, pixels=True, training=True, precision=precision,
            loss=fovea.SoftmaxCrossEntropy(label_smoothing=SMOOTHING),
            optimizer=fovea.SGD(momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY),
        )  # fmt: skip

    def step(self, batch: Batch, lr: float) -> float:
        """One training step; the loss."""
        return self.plan.train_step(batch.inputs, batch.targets, lr=lr).loss

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 N,H,W,C -> N,10 in float32."""
        return self.model.logits(images)


class Torch:
    """PyTorch's side."""

    def __init__(self, precision: str, seed: int) -> None:
        import torch

        from fovea.bench.twins import TWINS, load_weights

        self.torch, self.precision = torch, precision
        model = networks.create("resnet20", seed=seed)
        network = TWINS["resnet20"]()
        load_weights(model.graph, model.parameters(), network)
        self.network = network.to(memory_format=torch.channels_last)
        weights = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=PEAK, momentum=MOMENTUM, nesterov=True, fused=True)
        self.mean, self.std = (torch.tensor(values) * 255 for values in (PIXELS.mean, PIXELS.std))

    def _input(self, images: np.ndarray) -> Any:
        x = (self.torch.from_numpy(images).float() - self.mean) / self.std
        return x.permute(0, 3, 1, 2)  # a view: channels_last in memory

    def step(self, batch: Batch, lr: float) -> float:
        """One training step; the loss."""
        torch = self.torch
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        x, y = self._input(batch.inputs), torch.from_numpy(batch.targets)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(self.network(x), y, label_smoothing=SMOOTHING)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 N,H,W,C -> N,10 in float32."""
        self.network.eval()
        with self.torch.inference_mode():
            pieces = [self.network(self._input(images[i : i + 500].copy())).numpy() for i in range(0, len(images), 500)]
        self.network.train()
        return np.concatenate(pieces)


def race(side: Fovea | Torch, train: Split, test: Split, epochs: int, seed: int, steps: int | None) -> Any:
    """Yields after each epoch: seconds of training so far, mean loss, test accuracy. ``steps``: of an epoch."""
    spent, step = 0.0, 0
    for epoch in range(epochs):
        loader = Loader(train, BATCH, seed=seed, epoch=epoch, augment=AUGMENT, drop_last=True)
        total = epochs * (steps or len(loader))
        losses = []
        start = time.perf_counter()
        for batch in itertools.islice(loader, steps):
            losses.append(side.step(batch, PEAK * SCHEDULE.factor(step, total)))
            step += 1
        spent += time.perf_counter() - start
        accuracy = float(np.mean(side.logits(test.inputs).argmax(1) == test.targets))
        yield {"epoch": epoch + 1, "seconds": spent, "loss": float(np.mean(losses)), "accuracy": accuracy}


def run(given: argparse.Namespace) -> None:
    """One side, all seeds; a file for each."""
    fovea.set_threads(given.threads)
    if given.side == "torch":
        import torch

        torch.set_num_threads(given.threads)
    data = fovea.dataset(given.data, val_fraction=0.0)
    test = data.test
    if test is None:
        sys.exit(f"[cifar_race] expected a test split in {given.data}, got none; give data that has one")
    given.out.mkdir(parents=True, exist_ok=True)
    machine = facts(given.threads, installed())
    for seed in range(given.seed, given.seed + given.seeds):
        side = {"fovea": Fovea, "torch": Torch}[given.side](given.precision, seed)
        record = {
            "side": given.side, "precision": given.precision, "seed": seed, "epochs": given.epochs,
            "images": len(data.train), "machine": machine, "curve": [],
        }  # fmt: skip
        path = given.out / f"{given.side}-{given.precision}-{given.epochs}-{seed}.json"
        for point in race(side, data.train, test, given.epochs, seed, given.steps):
            record["curve"].append(point)
            path.write_text(json.dumps(record, indent=1) + "\n")
            print(
                f"{given.side} {given.precision} seed {seed} epoch {point['epoch']}/{given.epochs} loss "
                f"{point['loss']:.4f} test {point['accuracy']:.4f} training time {point['seconds']:.1f} s",
                flush=True,
            )


def label(record: dict[str, Any]) -> str:
    """Side and precision."""
    return f"{ {'fovea': 'fovea', 'torch': 'PyTorch'}[record['side']] } {record['precision']}"


def seconds_to(curve: Sequence[dict[str, Any]], accuracy: float) -> float | None:
    """Training time when the accuracy was first seen at the end of an epoch."""
    return next((point["seconds"] for point in curve if point["accuracy"] >= accuracy), None)


def summary(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each side, precision and number of epochs: accuracies over seeds, time in all, and to the goal.

    The goal belongs to a number of epochs: the mean final accuracy of PyTorch in float32 minus ``MARGIN``.
    """
    kinds: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for record in records:
        kinds.setdefault((label(record), record["epochs"]), []).append(record)
    rows = []
    for (name, epochs), own in kinds.items():
        finals = [record["curve"][-1]["accuracy"] for record in own]
        times = [record["curve"][-1]["seconds"] for record in own]
        theirs = kinds.get(("PyTorch fp32", epochs), [])
        goal = statistics.mean(one["curve"][-1]["accuracy"] for one in theirs) - MARGIN if theirs else None
        reached = [None if goal is None else seconds_to(record["curve"], goal) for record in own]
        known = [seconds for seconds in reached if seconds is not None]
        rows.append({
            "what": name, "epochs": epochs, "seeds": len(own), "accuracy": statistics.mean(finals),
            "lowest": min(finals), "highest": max(finals), "seconds": statistics.mean(times), "goal": goal,
            "seconds_to_goal": statistics.mean(known) if len(known) == len(own) else None,
        })  # fmt: skip
    return rows


def picture(records: Sequence[dict[str, Any]]) -> str:
    """Test accuracy over training time, a line for each run."""
    from fovea.report.figures import draw, standalone
    from fovea.report.style import COLOURS

    def paint(axes: Any) -> None:
        seen: set[str] = set()
        for one in records:
            name = label(one)
            axes.plot(
                [point["seconds"] / 60 for point in one["curve"]], [100 * point["accuracy"] for point in one["curve"]],
                marker="o", markersize=2.5, color=COLOURS[LINES[name]], label=None if name in seen else name,
            )  # fmt: skip
            seen.add(name)
        axes.set(title="ResNet-20 on CIFAR-10", xlabel="minutes of training", ylabel="test accuracy, %")
        axes.set_xlim(left=0)
        axes.legend(loc="lower right")

    return standalone(draw("cifar-race", paint, (6.0, 3.4)))


def show(given: argparse.Namespace) -> None:
    """The files as table, picture and one file."""
    records = [json.loads(path.read_text()) for path in given.files]
    rows = summary(records)
    print("| | epochs | seeds | final accuracy | lowest to highest | training time | to the goal |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        goal = "-" if row["seconds_to_goal"] is None else f"{row['seconds_to_goal']:.0f} s ({100 * row['goal']:.1f} %)"
        print(
            f"| {row['what']} | {row['epochs']} | {row['seeds']} | {100 * row['accuracy']:.2f} % | "
            f"{100 * row['lowest']:.2f} to {100 * row['highest']:.2f} % | {row['seconds']:.0f} s | {goal} |"
        )
    if given.svg:
        given.svg.write_text(picture(records))
    if given.json:
        given.json.write_text(json.dumps({"summary": rows, "runs": records}, indent=1) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    racing = commands.add_parser("run", help="train one side")
    racing.add_argument("side", choices=("fovea", "torch"))
    racing.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    racing.add_argument("--epochs", type=int, default=15)
    racing.add_argument("--seed", type=int, default=0, help="the first one")
    racing.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    racing.add_argument("--steps", type=int, help="of each epoch at most, to try the script out")
    racing.add_argument("--threads", type=int, default=fovea.get_threads())
    racing.add_argument("--data", default="cifar10")
    racing.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    racing.set_defaults(do=run)
    showing = commands.add_parser("show", help="compare the files of several runs")
    showing.add_argument("files", type=Path, nargs="+")
    showing.add_argument("--svg", type=Path, metavar="FILE")
    showing.add_argument("--json", type=Path, metavar="FILE")
    showing.set_defaults(do=show)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    try:
        main()
    except fovea.FoveaError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
