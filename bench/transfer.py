"""Transfer learning with MobileNetV2 at 224x224: features and fine-tuning, beside an equal PyTorch script.

    python bench/transfer.py codes            # images/s of feature extraction, from uint8 pixels to codes
    python bench/transfer.py steps            # a training step of the head alone and of everything: time, arena
    python bench/transfer.py epoch            # an epoch of fine-tuning over the same batches, both ways
    python bench/transfer.py memory           # peak memory of processes that train, both ways
    python bench/transfer.py probes           # linear probes of published networks on cats_dogs
    python bench/transfer.py picture FILE.svg # accuracy of probes by depth

Both sides have the same weights and statistics (the zoo's MobileNetV2, batch norms filled from a batch), take the same
uint8 images and threads, and take turns (A B A B). PyTorch runs eagerly in channels_last; frozen parts and extraction
under inference_mode with batch norm folded into the convolutions, training with its fused optimiser; bf16 is its
autocast. Each comparison is verified first and not timed when the sides disagree. Ratios are PyTorch's time / ours:
above 1 we are faster. `probes` and `picture` need FOVEA_DATA with cats_dogs/ and FOVEA_WEIGHTS, the others PyTorch.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from memory import peak

import fovea
from fovea.bench import networks
from fovea.bench.machine import facts, installed
from fovea.bench.timing import Step, in_turn
from fovea.data.augment import Augment, HorizontalFlip
from fovea.data.loader import Loader
from fovea.model import Model

NAME, BATCH, LR, MOMENTUM = "mobilenetv2", 16, 0.01, 0.9
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEAD = ["head.dense1"]
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1}
"""Of codes and losses, relative to the largest."""


def network(size: int) -> Model:
    """The zoo's network without dropout, with statistics of a batch, and preprocessing."""
    from fovea.bench.inference import random_norms
    from fovea.bench.torch_side import give_statistics

    model = fresh(size)
    random_norms(model)
    give_statistics(NAME, model)
    return model


def fresh(size: int) -> Model:
    """The same as it is made."""
    model = networks.create(NAME, (size, size, 3))
    model.preprocessing = fovea.Preprocessing(size=(size, size), mean=MEAN, std=STD)
    return model


def pictures(count: int, size: int) -> tuple[Any, Any]:
    """uint8 N,H,W,C with some structure (random 8x8 patches enlarged), and labels of ten classes."""
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    return small.repeat(size // 8, axis=1).repeat(size // 8, axis=2), rng.integers(0, 10, count)


class Peer:
    """The same network in PyTorch: ``backbone`` to N,1280, and ``head``. ``frozen``: the head alone is trained."""

    def __init__(self, model: Model, frozen: bool, precision: str = "fp32") -> None:
        import torch

        from fovea.bench.torch_side import twin
        from fovea.bench.twins import buffer_pairs

        torch.set_num_threads(fovea.get_threads())
        self.torch, self.frozen, self.precision = torch, frozen, precision
        whole = twin(NAME, model)
        for path, theirs in buffer_pairs(model.graph, whole):
            theirs.copy_(torch.from_numpy(model.buffers()[path]))
        self.backbone, self.head = whole[:-1].to(memory_format=torch.channels_last), whole[-1]
        if frozen:
            self.backbone = folded(self.backbone.eval())
        else:
            whole.train()
        trained = list(self.head.parameters()) + ([] if frozen else list(self.backbone.parameters()))
        self.optimizer = torch.optim.SGD(trained, lr=LR, momentum=MOMENTUM, fused=True)
        self.mean, self.std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))

    def pixels(self, images: Any) -> Any:
        """uint8 N,H,W,C -> normalised N,C,H,W, which is channels_last without a copy."""
        return self.torch.from_numpy(images).permute(0, 3, 1, 2).float().sub_(self.mean).div_(self.std)

    def features(self, images: Any) -> Any:
        """N,1280 of one piece."""
        torch = self.torch
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            return self.backbone(self.pixels(images))

    def codes(self, images: Any, piece: int) -> Any:
        """N,1280 of any number of images."""
        parts = [self.features(images[at : at + piece]).float() for at in range(0, len(images), piece)]
        return self.torch.cat(parts).numpy()

    def step(self, images: Any, labels: Any) -> float:
        """One training step; the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        values = self.features(images).clone() if self.frozen else self.backbone(self.pixels(images))
        loss = self.torch.nn.functional.cross_entropy(self.head(values), self.torch.from_numpy(labels))
        loss.backward()
        self.optimizer.step()
        return float(loss.item())


def folded(backbone: Any) -> Any:
    """Batch norms taken into the convolutions before them."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    def fold(module: Any) -> Any:
        children = list(module.named_children())
        for (name, one), (after, other) in itertools.pairwise(children):
            if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(one, other))
                setattr(module, after, nn.Identity())
        for _, child in module.named_children():
            fold(child)
        return module

    return fold(backbone)


def plan_of(model: Model, frozen: bool) -> Any:
    """Our training plan."""
    return model.compile(
        "native", BATCH, pixels=True, training=True, loss=fovea.SoftmaxCrossEntropy(),
        optimizer=fovea.SGD(momentum=MOMENTUM), trainable=HEAD if frozen else None,
    )  # fmt: skip


def agree(what: str, ours: Any, theirs: Any, precision: str = "fp32") -> float:
    """The largest difference relative to the largest value; ends the program beyond the tolerance."""
    difference = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(np.asarray(theirs)).max())
    if not difference <= TOLERANCE[precision]:
        sys.exit(f"[transfer] expected {what} of both sides within {TOLERANCE[precision]:g}, got {difference:.1e}")
    return difference


def timed(rows: dict[str, Step], turns: int) -> dict[str, float]:
    """Median seconds of each side, in turns."""
    times = in_turn(list(rows.values()), turns, most=4, limit=600)
    return {name: statistics.median(one) for name, one in zip(rows, times, strict=True)}


def extraction(model: Model, images: Any, precision: str) -> tuple[dict[str, Step], float]:
    """Both sides' steps over all images, and the difference of their codes."""
    model.precision = precision
    peer = Peer(model, frozen=True, precision=precision)

    def ours() -> Any:
        with contextlib.redirect_stderr(io.StringIO()):  # a line of progress each time
            return fovea.codes(model, images, cache=False).array

    pieces = {f"torch, {n} at a time": partial(peer.codes, images, n) for n in (16, 32, 64)}
    return {"fovea": ours, **pieces}, agree("codes", ours(), peer.codes(images, 32), precision)


def codes(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Images a second from uint8 pixels to codes."""
    model, (images, _) = network(args.size), pictures(args.images, args.size)
    result = []
    for precision in args.precisions:
        sides, difference = extraction(model, images, precision)
        seconds = timed(sides, args.turns)
        theirs = min(value for name, value in seconds.items() if name != "fovea")
        result.append(
            {"what": f"codes {precision}", "unit": "images/s", "ours": len(images) / seconds["fovea"],
             "torch": len(images) / theirs, "ratio": theirs / seconds["fovea"], "difference": difference}
        )  # fmt: skip
    return result


WAYS = (("head alone", True), ("everything", False))


class Sides:
    """Both sides with equal weights: a training step on a batch, and the difference of their first losses."""

    def __init__(self, frozen: bool, size: int) -> None:
        model = network(size)
        self.plan, self.peer = plan_of(model, frozen), Peer(model, frozen)
        batch = pictures(BATCH, size)
        self.difference = agree("the loss", self.ours(*batch), self.peer.step(*batch))

    def ours(self, images: Any, labels: Any) -> float:
        """One training step; the loss."""
        return self.plan.train_step(images, labels, lr=LR).loss

    def row(self, what: str, unit: str, ours: float, torch: float) -> dict[str, Any]:
        """A line of the result."""
        arena = self.plan._program.layout.arena_bytes / 1e6
        return {"what": what, "unit": unit, "ours": ours, "torch": torch, "ratio": torch / ours,
                "difference": self.difference, "arena MB": arena}  # fmt: skip


def steps(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Training steps of the head alone and of everything, and our inference, on one batch."""
    batch, both = pictures(BATCH, args.size), {what: Sides(frozen, args.size) for what, frozen in WAYS}
    inference = network(args.size).compile("native", BATCH, pixels=True)
    timing: dict[str, Step] = {"inference": partial(inference.forward, batch[0])}
    for what, side in both.items():
        timing |= {f"ours {what}": partial(side.ours, *batch), f"torch {what}": partial(side.peer.step, *batch)}
    ms = {name: 1e3 * value for name, value in timed(timing, args.turns).items()}
    rows = [side.row(what, "ms", ms[f"ours {what}"], ms[f"torch {what}"]) for what, side in both.items()]
    arena = inference._program.layout.arena_bytes / 1e6
    return [*rows, {"what": "inference", "unit": "ms", "ours": ms["inference"], "arena MB": arena}]


def epoch(args: argparse.Namespace) -> list[dict[str, Any]]:
    """An epoch of fine-tuning: both sides read the same shuffled and flipped batches, from the same kind of loader."""
    images, labels = pictures(args.images, args.size)
    data = fovea.from_arrays((images, labels), classes=[str(i) for i in range(10)], val_fraction=0)

    def walk(step: Callable[[Any, Any], float]) -> None:
        for batch in Loader(data.train, BATCH, seed=1, augment=Augment((HorizontalFlip(),)), workers=1):
            step(batch.inputs, batch.targets)

    rows = []
    for what, frozen in WAYS:
        sides = Sides(frozen, args.size)
        seconds = timed({"ours": partial(walk, sides.ours), "torch": partial(walk, sides.peer.step)}, args.turns)
        rows.append(sides.row(f"epoch of {args.images}, {what}", "s", seconds["ours"], seconds["torch"]))
    return rows


def train_in_this_process(side: str, frozen: bool, size: int) -> None:
    """A few steps; prints the peak of this process in bytes."""
    images, labels = pictures(BATCH, size)
    if side == "ours":
        plan = plan_of(fresh(size), frozen)
        for _ in range(4):
            plan.train_step(images, labels, lr=LR)
    else:
        peer = Peer(fresh(size), frozen)
        for _ in range(4):
            peer.step(images, labels)
    print(peak())


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak resident memory of whole processes, MB."""
    result = []
    for what, frozen in WAYS:
        peaks = {}
        for side in ("ours", "torch"):
            words = [
                "child",
                side,
                "frozen" if frozen else "all",
                "--threads",
                str(args.threads),
                "--size",
                str(args.size),
            ]
            done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"[transfer] expected the process of {side} to train, got:\n{done.stderr}")
            peaks[side] = int(done.stdout) / 1e6
        result.append({"what": f"peak memory, {what}", "unit": "MB", **peaks, "ratio": peaks["torch"] / peaks["ours"]})
    return result


def published(name: str) -> Model:
    """A network with the weights that its authors published, of FOVEA_WEIGHTS."""
    from pretrained import network as load

    return load(name)


def probes(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Linear probes and nearest neighbours on cats_dogs: learnt on train, judged on val."""
    from fovea.features import linear_probe, nearest_neighbours

    data = fovea.dataset("cats_dogs")
    result = []
    for name in ("mobilenetv2", "squeezenet"):
        found = [fovea.codes(published(name), split, cache=False).array for split in (data.train, data.split("val"))]
        targets = [split.targets for split in (data.train, data.split("val"))]
        probe = linear_probe(found[0], targets[0], data.classes)
        near = nearest_neighbours(found[0], targets[0], data.classes)
        for what, made in (("linear probe", probe), (f"{near.k} nearest neighbours", near)):
            result.append(
                {"what": f"{name}: {what}", "unit": "%", "cross-validated": 100 * made.accuracy,
                 "validation": 100 * made.score(found[1], targets[1]), "samples": [len(one) for one in found]}
            )  # fmt: skip
    return result


def picture(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Accuracy by depth of MobileNetV2 on cats_dogs, as a drawing."""
    from fovea.report.depth import accuracy_by_depth
    from fovea.report.figures import standalone

    found = fovea.features.probe_depths(published("mobilenetv2"), "cats_dogs")
    Path(args.words[0]).write_text(standalone(accuracy_by_depth(found)), encoding="utf-8")
    return [
        {"what": one.layer, "unit": "%", "cross-validated": 100 * one.probe.accuracy,
         "validation": 100 * (one.accuracy or 0.0)}
        for one in found.probes
    ]  # fmt: skip


PARTS = {"codes": codes, "steps": steps, "epoch": epoch, "memory": memory, "probes": probes, "picture": picture}


def show(rows: list[dict[str, Any]]) -> None:
    """One line a row."""
    for row in rows:
        numbers = [f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float)]
        print(f"{row['what']:34} {row['unit']:9} {'   '.join(numbers)}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all", "child"])
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, default=128, help="of `codes` and `epoch`")
    parser.add_argument("--size", type=int, default=224, help="side of the images, a multiple of 8")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of both sides")
    parser.add_argument("--precisions", nargs="*", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    fovea.set_threads(args.threads)
    if args.part == "child":
        train_in_this_process(args.words[0], args.words[1] == "frozen", args.size)
        return
    setting = facts(args.threads, installed())
    print(", ".join(f"{key} {value}" for key, value in setting.items()), flush=True)
    rows = []
    # Memory first: on Linux a process begins with the peak of the one that started it.
    for part in ("memory", "codes", "steps", "epoch") if args.part == "all" else (args.part,):
        rows += (found := PARTS[part](args))
        show(found)
    if args.json:
        args.json.write_text(json.dumps({"machine": setting, "results": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
