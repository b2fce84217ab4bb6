"""Peak resident memory of a process that trains, ours and PyTorch's: the same network, batch and recipe.

    python bench/memory.py                          # resnet20 at batch 128, resnet18 at batch 16
    python bench/memory.py mobilenetv2 --json memory.json

Each side runs alone in a process of its own that imports what it needs, trains for a few steps on one batch and then
reports its ``ru_maxrss``. PyTorch runs in channels_last with its fused optimiser, mostly its
fastest setting. The ratio is PyTorch's peak / ours: above 1 we need less.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

STEPS = 4
DEFAULT = ("resnet20", "resnet18")


def peak() -> int:
    """Largest resident memory of this process so far, in bytes.

    On Linux a new process begins with the peak of the one that started it: this file's own imports stay small.
    """
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def train_ours(name: str, batch: int, threads: int) -> float:
    """The loss of the last step."""
    import fovea
    from fovea.bench import networks

    fovea.set_threads(threads)
    model = networks.create(name)
    x, y = networks.example(model, batch)
    plan = networks.compiled(model, "native", batch)
    return [plan.train_step(x, y, lr=networks.LR).loss for _ in range(STEPS)][-1]


def train_torch(name: str, batch: int, threads: int) -> float:
    """The loss of the last step."""
    import torch
    import torch.nn.functional as F

    from fovea.bench.twins import INPUT, TWINS

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = TWINS[name]().to(memory_format=torch.channels_last)
    x = torch.randn(batch, *INPUT[name]).contiguous(memory_format=torch.channels_last)
    y = torch.zeros(batch, dtype=torch.int64)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


def child(side: str, name: str, batch: int, threads: int) -> None:
    """Train in this process, then print what it took."""
    loss = {"ours": train_ours, "torch": train_torch}[side](name, batch, threads)
    print(json.dumps({"peak": peak(), "loss": loss}))


def measure(name: str, batch: int, threads: int) -> dict[str, Any]:
    """One row: the peaks of both sides in MB (10^6 bytes)."""
    peaks = {}
    for side in ("ours", "torch"):
        arguments = [sys.executable, __file__, name, "--batch", str(batch), "--threads", str(threads), "--side", side]
        done = subprocess.run(arguments, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"[bench] {name}: expected the process of {side} to train, got:\n{done.stderr}")
        peaks[side] = json.loads(done.stdout)["peak"] / 1e6
    return {
        "network": name, "batch": batch, "mode": "train", "precision": "fp32",
        "ours_mb": peaks["ours"], "peer": "torch", "peer_mb": peaks["torch"], "ratio": peaks["torch"] / peaks["ours"],
    }  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"default {' '.join(DEFAULT)}")
    parser.add_argument("--batch", type=int, help="default 128, for 224x224 input 16")
    parser.add_argument("--threads", type=int, default=2, help="of both sides")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--side", choices=("ours", "torch"), help="train one network in this process")
    args = parser.parse_args()
    if args.side:  # before anything else is imported
        child(args.side, args.networks[0], args.batch, args.threads)
        return
    from fovea.bench import networks
    from fovea.bench.machine import facts, installed

    names = args.networks or list(DEFAULT)
    unknown = [name for name in names if name not in networks.NAMES]
    if unknown:
        parser.error(f"expected networks of {', '.join(networks.NAMES)}, got {unknown[0]!r}")
    setting = facts(args.threads, installed())
    print(", ".join(f"{key} {value}" for key, value in setting.items()), flush=True)
    rows = [measure(name, args.batch or networks.TRAIN_BATCH[name], args.threads) for name in names]
    print(f"{'network':12} {'batch':>5} {'ours MB':>9} {'torch MB':>9} {'ratio':>6}")
    for row in rows:
        print(f"{row['network']:12} {row['batch']:5d} {row['ours_mb']:9.0f} {row['peer_mb']:9.0f} {row['ratio']:6.2f}")
    if args.json:
        args.json.write_text(json.dumps({"machine": setting, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
