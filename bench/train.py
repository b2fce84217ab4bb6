"""Whole training steps, ours against PyTorch's best eager CPU configuration: verified first, then timed in turn.

    python bench/train.py                                  # lenet5, resnet20, vgg_small at batch 128
    python bench/train.py resnet18 --json out.json
    python bench/train.py resnet20 --engine reference --batch 4 --verify-only

A step is forward, softmax cross-entropy, backward, and SGD with momentum 0.9 and weight decay 5e-4. Both sides start
from the same weights and see the same batch. On the timed batch the losses must agree to 1e-5; on two samples every
gradient to 1e-4 of its largest entry, and so must the weights after an update; else nothing is timed (verify says why
two samples). Then the sides take turns (A B A B) with a pause between them, because PyTorch's worker threads spin for
some milliseconds after their last region and would hold a core. PyTorch runs in the faster of its two memory layouts,
with its fused optimiser. The table gives medians; the ratio is PyTorch's time / our time: above 1 we are faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from networks import LR, MOMENTUM, NAMES, TRAIN_BATCH, WEIGHT_DECAY, Batch, compiled, create, example
from peers import PEERS, from_torch, load_weights, pairs
from timing import in_turn, introduce, machine, seconds, write_json
from torch import nn

import fovea
from fovea.engines.base import Plan
from fovea.model import Model

DEFAULT = ("lenet5", "resnet20", "vgg_small")
TOLERANCE = {"loss": 1e-5, "gradient": 1e-4, "weight": 1e-4, "next loss": 1e-2}
CHECK_SHAPE = {"resnet18": (64, 64, 3), "mobilenetv2": (64, 64, 3)}
"""Input of the two samples, where not the network's own: fewer units, fewer of them within rounding of 0."""
CHECK_SHIFT = {"mobilenetv2": 3.0}
"""Of the batch norms of the two samples: ReLU6 is then entered at its middle, and clamps 0.3 % of the units."""


@dataclass(frozen=True)
class Result:
    """One row of the table: medians over ``runs`` steps of each side, and the relative errors of the verification."""

    network: str
    batch: int
    runs: int
    ours_ms: float
    torch_ms: float
    ratio: float
    ours_images_per_s: float
    torch_images_per_s: float
    torch_layout: str
    errors: dict[str, float]


class Peer:
    """PyTorch's side: the same network with the same weights, in one memory layout."""

    def __init__(self, name: str, model: Model, batch: Batch, layout: str) -> None:
        self.layout = layout
        memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        network = PEERS[name]()
        load_weights(model.graph, model.parameters(), network)
        self.network: nn.Module = network.to(memory_format=memory)
        self.x = torch.from_numpy(np.moveaxis(batch[0], -1, 1).copy()).contiguous(memory_format=memory)
        self.y = torch.from_numpy(batch[1])
        weights = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, fused=True)

    def backward(self) -> float:
        """Forward, loss, backward; the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.network(self.x), self.y)
        loss.backward()
        return loss.item()

    def step(self) -> float:
        """One training step; the loss."""
        loss = self.backward()
        self.optimizer.step()
        return loss


def relative(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """The largest difference of any entry, relative to the largest entry of its tensor.

    A tensor that is zero but for rounding (the gradient of a bias that the next batch norm removes) is measured
    against a thousandth of the largest entry of the network.
    """
    largest = max(float(np.abs(value).max()) for value in theirs.values())
    return max(
        float(np.abs(ours[path] - value).max()) / max(float(np.abs(value).max()), 1e-3 * largest)
        for path, value in theirs.items()
    )


def verify_on_two(name: str, engine: str, seed: int) -> dict[str, float]:
    """Errors of the gradients of two samples, and of the weights after one update.

    A second update would compare two networks that differ in the last bits already: in ResNet-18 batch norm over two
    samples of 2x2 positions makes percents of them.
    """
    model = create(name, CHECK_SHAPE.get(name))
    for node in model.graph.nodes.values():
        if node.op.kind == "batchnorm":
            model.parameters()[f"{node.name}.bias"] += CHECK_SHIFT.get(name, 0.0)
    batch = example(model, 2, seed)
    plan = compiled(model, engine, 2)
    peer = Peer(name, model, batch, "channels_last")
    plan.forward(batch[0])
    plan.loss_backward(batch[1])
    peer.backward()
    gradients = {path: from_torch(model.graph, node, p.grad) for path, node, p in pairs(model.graph, peer.network)}
    errors = {"gradient": relative(plan.gradients, gradients)}
    plan.update(LR)
    peer.optimizer.step()
    weights = {path: from_torch(model.graph, node, p) for path, node, p in pairs(model.graph, peer.network)}
    return {**errors, "weight": relative(model.parameters(), weights)}


def verify(name: str, engine: str, plan: Plan, peer: Peer, batch: Batch) -> dict[str, float]:
    """Relative errors: gradients and weights on two samples, the loss of the timed batch, and that after an update.

    Why two samples: in a ReLU network with batch norm, at its start, a unit whose input is within rounding of 0 falls
    on either side, and then gradients differ by percents though both are right. (On 128 samples PyTorch's own two
    memory layouts differ so.) On two samples this is rare; a batch on which it happens is replaced, at most twice. A
    wrong kernel is wrong on every batch.
    """
    for seed in range(3):
        errors = verify_on_two(name, engine, seed)
        if not too_large(errors):
            break
    losses = [(plan.train_step(*batch, lr=LR, step=step).loss, peer.step()) for step in range(2)]
    first, second = (abs(ours - theirs) / abs(theirs) for ours, theirs in losses)
    return {"loss": first, **errors, "next loss": second}


def too_large(errors: dict[str, float]) -> list[str]:
    """The errors above their tolerance (or not a number)."""
    return [key for key, value in errors.items() if not value <= TOLERANCE[key]]


def faster_layout(name: str, model: Model, batch: Batch) -> Peer:
    """PyTorch's side in the memory layout that is faster for this network."""
    peers = [Peer(name, model, batch, layout) for layout in ("channels_last", "contiguous")]
    best = [min(seconds(peer.step, 4)[1:]) for peer in peers]
    return Peer(name, model, batch, peers[best.index(min(best))].layout)


def measure(name: str, engine: str, size: int, rounds: int, verify_only: bool) -> Result | None:
    """Verify one network and time it; None when it is only verified. Exits when the sides disagree."""
    model = create(name)
    batch = example(model, size)
    peer = Peer(name, model, batch, "channels_last") if verify_only else faster_layout(name, model, batch)
    plan = compiled(model, engine, size)
    errors = verify(name, engine, plan, peer, batch)
    told = ", ".join(f"{key} {value:.1e}" for key, value in errors.items())
    if wrong := too_large(errors):
        sys.exit(f"[bench] {name}: expected {wrong[0]} within {TOLERANCE[wrong[0]]:g} of PyTorch's, got {told}")
    print(f"{name}: verified against PyTorch, relative errors: {told}", flush=True)
    if verify_only:
        return None
    x, y = batch
    a, b = in_turn([lambda: plan.train_step(x, y, lr=LR, step=0), peer.step], rounds)
    ours, theirs = statistics.median(a), statistics.median(b)
    runs = min(len(a), len(b))
    return Result(
        name, size, runs, 1e3 * ours, 1e3 * theirs, theirs / ours, size / ours, size / theirs, peer.layout, errors
    )  # fmt: skip


def table(results: list[Result]) -> str:
    """The rows as text."""
    head = (
        f"{'network':12} {'batch':>5} {'ours ms':>9} {'torch ms':>9} {'ratio':>6} {'ours img/s':>11} "
        f"{'torch img/s':>12} {'runs':>5}  torch layout"
    )
    rows = [
        f"{r.network:12} {r.batch:5d} {r.ours_ms:9.2f} {r.torch_ms:9.2f} {r.ratio:6.2f} {r.ours_images_per_s:11.0f} "
        f"{r.torch_images_per_s:12.0f} {r.runs:5d}  {r.torch_layout}"
        for r in results
    ]
    return "\n".join([head, *rows])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(NAMES)}; default {' '.join(DEFAULT)}")
    parser.add_argument("--engine", default="native", help="native or reference")
    parser.add_argument("--batch", type=int, help="default 128, for 224x224 input 16")
    parser.add_argument("--threads", type=int, default=2, help="of both sides")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each side")
    parser.add_argument("--verify-only", action="store_true", help="compare and time nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    names = args.networks or list(DEFAULT)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"expected networks of {', '.join(NAMES)}, got {unknown[0]!r}")
    torch.set_num_threads(args.threads)
    if args.engine == "native":
        fovea.set_threads(args.threads)
    setting = machine(args.threads, ["torch"])
    introduce(setting)
    found = [
        measure(name, args.engine, args.batch or TRAIN_BATCH[name], args.rounds, args.verify_only) for name in names
    ]
    results = [result for result in found if result is not None]
    if results:
        print(table(results))
    if args.json:
        write_json(args.json, setting, [asdict(result) for result in results])


if __name__ == "__main__":
    try:
        main()
    except fovea.FoveaError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
