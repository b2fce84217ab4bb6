"""What a GPU makes of fovea: a fast CIFAR-10 training and ResNet-50, beside PyTorch written by hand, in one table.

    python bench/gpu.py                       # on the GPU: CIFAR-10 three times, ResNet-50 at 224x224, all in bf16
    python bench/gpu.py --compiled            # both sides through torch.compile
    python bench/gpu.py --smoke               # a tiny setting on the CPU: shows that it runs, says nothing about speed

CIFAR-10 (bench/airbench.py): seconds of training, and accuracy on the test split with ten views, the mean over seeds.
The data are what FOVEA_DATA holds under cifar10-lossless or cifar10, the same copy for both sides; without any they
are fetched. ResNet-50: images a second of whole training steps on synthetic uint8 images that lie in the memory of the
host; PyTorch's side copies from pinned memory without waiting, in channels_last, under autocast, with a fused
optimiser. Sides take turns, and each figure is the median of three rounds. A ratio above 1 says that fovea is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fovea
from fovea.data.dataset import Dataset
from fovea.engines.base import Engine
from fovea.engines.registry import get_engine

try:
    from bench import airbench
except ImportError:  # run as a script: its folder is on the path
    import airbench  # type: ignore[import-not-found, no-redef]

ROUNDS = 3


def cifar_data(smoke: bool) -> Dataset:
    """CIFAR-10; in the smoke test noise around ten colours."""
    if not smoke:
        for name in ("cifar10-lossless", "cifar10"):
            try:
                return fovea.dataset(name, val_fraction=0.0)
            except fovea.FoveaError as error:
                problem = error
        raise problem
    generator = np.random.default_rng(0)
    targets = np.arange(160) % 10
    colours = generator.integers(40, 215, (10, 1, 1, 3))
    images = np.clip(colours[targets] + generator.integers(-40, 41, (160, 32, 32, 3)), 0, 255).astype(np.uint8)
    return fovea.from_arrays((images[:128], targets[:128]), test=(images[128:], targets[128:]), val_fraction=0.0)


def cifar(options: argparse.Namespace, engine: Engine) -> dict[str, Any]:
    """Both sides on the same data from the same weights, seed after seed."""
    data = cifar_data(options.smoke)
    recipe = airbench.Recipe()
    if options.smoke:
        recipe = airbench.Recipe(epochs=2, batch_size=32, widths=(8, 8, 8), lr=0.1, workers=0)
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for seed in range(options.seeds):
        ours, theirs = (airbench.first_model(data, recipe, seed) for _ in range(2))
        found["ours"].append(airbench.train_ours(ours, data, recipe, engine, options.device, options.precision, seed))
        found["theirs"].append(
            airbench.train_by_hand(theirs, data, recipe, options.device, options.precision, seed, options.compiled)
        )
    ours, theirs = (
        {"seconds": statistics.median(s for s, _ in rows), "accuracy": statistics.mean(a for _, a in rows)}
        for rows in found.values()
    )
    ratio = theirs["seconds"] / ours["seconds"]
    return {"what": f"{data.name}, airbench, {recipe.epochs} epochs", "ours": ours, "theirs": theirs, "ratio": ratio}


def resnet50(options: argparse.Namespace, engine: Engine) -> dict[str, Any]:
    """Images a second of whole training steps."""
    side, batch, steps = (64, 2, 1) if options.smoke else (224, options.batch_size, 30)
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    targets = np.arange(batch) % 1000
    sides = {
        "ours": our_steps(images, targets, options, engine),
        "theirs": their_steps(images, targets, options),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for step in sides.values():
        for _ in range(1 if options.smoke else 8):
            step()
    for _ in range(ROUNDS):
        for name, step in sides.items():
            begin = time.perf_counter()
            losses = [step() for _ in range(steps)]
            float(losses[-1])  # waits for the GPU
            rates[name].append(steps * batch / (time.perf_counter() - begin))
    ours, theirs = ({"images_per_second": statistics.median(found)} for found in rates.values())
    ratio = ours["images_per_second"] / theirs["images_per_second"]
    return {"what": f"ResNet-50, {side}x{side}, batch {batch}", "ours": ours, "theirs": theirs, "ratio": ratio}


def our_steps(
    images: np.ndarray, targets: np.ndarray, options: argparse.Namespace, engine: Engine
) -> Callable[[], Any]:
    """One training step of fovea, to be called again and again."""
    model = fovea.models.resnet50(num_classes=1000, input_shape=images.shape[1:], seed=0)
    model.preprocessing = fovea.Preprocessing(
        size=images.shape[1:3], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    plan = model.compile(
        engine, len(images), pixels=True, training=True, device=options.device, precision=options.precision,
        loss=fovea.SoftmaxCrossEntropy(), optimizer=fovea.SGD(momentum=0.9, weight_decay=5e-5),
    )  # fmt: skip
    return lambda: plan.train_step(images, targets, lr=0.01).loss


def their_steps(images: np.ndarray, targets: np.ndarray, options: argparse.Namespace) -> Callable[[], Any]:
    """One training step as PyTorch's guides write it."""
    import torch

    device = torch.device(options.device)
    network = _network().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-5, fused=True)
    run = torch.compile(network) if options.compiled else network
    x, y = torch.from_numpy(images), torch.from_numpy(targets)
    if device.type == "cuda":
        x, y = x.pin_memory(), y.pin_memory()
    mean, std = (255 * torch.tensor(given, device=device) for given in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def step() -> Any:
        inputs = ((x.to(device, non_blocking=True).float() - mean) / std).permute(0, 3, 1, 2)  # channels_last
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(run(inputs), y.to(device, non_blocking=True))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _network() -> Any:
    try:
        from bench.resnet50 import resnet50 as network
    except ImportError:  # as above
        from resnet50 import resnet50 as network  # type: ignore[import-not-found, no-redef]
    return network()


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'':34} {'fovea':>22} {'PyTorch by hand':>22} {'ratio':>6}"]
    for row in rows:
        cells = [
            f"{one['seconds']:.2f} s, {one['accuracy']:.2%}"
            if "seconds" in one
            else f"{one['images_per_second']:.1f} images/s"
            for one in (row["ours"], row["theirs"])
        ]
        lines.append(f"{row['what']:34} {cells[0]:>22} {cells[1]:>22} {row['ratio']:6.2f}")
    return "\n".join(lines)


def machine(device: str) -> str:
    """What it runs on, in words."""
    import torch

    name = (
        torch.cuda.get_device_name(device)
        if device != "cpu"
        else "no GPU was at hand: the CPU, which says nothing about one"
    )
    return f"{name}; PyTorch {torch.__version__}, fovea {fovea.__version__}"


def main(words: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="cifar,resnet50", help="of cifar, resnet50")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each side")
    parser.add_argument("--batch-size", type=int, default=256, help="of ResNet-50")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="bf16")
    parser.add_argument("--compiled", action="store_true", help="torch.compile on both sides")
    parser.add_argument("--smoke", action="store_true", help="a tiny setting on the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(words)
    parts = {"cifar": cifar, "resnet50": resnet50}
    chosen = options.parts.split(",")
    if not set(chosen) <= set(parts):
        parser.error(f"expected --parts of {', '.join(parts)}, got {options.parts!r}")
    import torch

    if not torch.cuda.is_available() and not options.smoke:
        print("no GPU was at hand; nothing was measured (--smoke runs a tiny setting on the CPU)")
        return 1
    options.device = "cpu" if options.smoke else "cuda"
    if options.smoke:
        options.seeds = 1
    engine = get_engine("torch").configured(compiled=options.compiled)
    print(machine(options.device), flush=True)
    rows = [parts[name](options, engine) for name in chosen]
    print(table(rows))
    if options.json:
        record = {"machine": machine(options.device), "precision": options.precision, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except fovea.FoveaError as error:
        sys.exit(str(error))
