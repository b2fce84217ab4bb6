"""How long a person waits before anything happens: a first prediction, and the compilation of plans.

    python bench/startup.py
    python bench/startup.py --json startup.json

The first figure is the wall time of a whole fresh process (start of Python, import, loading of a saved ResNet-20, one
prediction), seen from outside; beside it what the process itself counts after Python has started. The others compile a
plan of ResNet-18 that infers, with its first inference, and one that trains. Medians of ``--runs`` each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fovea
from fovea.bench import networks
from fovea.bench.machine import facts
from fovea.bench.timing import seconds
from fovea.model import Model

PROGRAM = """
import time
start = time.perf_counter()
import numpy as np
import fovea
image = (np.arange(32 * 32 * 3) % 251).astype(np.uint8).reshape(32, 32, 3)
prediction = fovea.load({path!r}).predict(image)
print(time.perf_counter() - start, prediction[0].label)
"""


def first_prediction(runs: int) -> list[dict[str, Any]]:
    """Fresh processes; one before the timed ones brings the files into memory. Exits when a process fails."""
    outside, inside = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = networks.create("resnet20")
        model.preprocessing = fovea.Preprocessing(size=(32, 32))
        program = PROGRAM.format(path=str(model.save(Path(folder) / "resnet20.safetensors")))
        for _ in range(runs + 1):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            outside.append(time.perf_counter() - start)
            if done.returncode:
                sys.exit(f"[bench] expected a prediction, got:\n{done.stderr}")
            inside.append(float(done.stdout.split()[0]))
    return [
        row("first prediction of a saved ResNet-20, whole process", outside[1:]),
        row("the same after Python has started", inside[1:]),
    ]


def compile_training(model: Model) -> None:
    """A plan of ResNet-18 that trains."""
    networks.compiled(model, "native", networks.TRAIN_BATCH["resnet18"])


def compilation(runs: int) -> list[dict[str, Any]]:
    """Plans of ResNet-18 from a graph that exists."""
    model = networks.create("resnet18")
    image, _ = networks.example(model, 1)
    compile_training(model)
    return [
        row("compile ResNet-18 for inference, batch 1", seconds(lambda: model.compile("native", 1), runs)),
        row(
            "the same with its first inference",
            seconds(lambda: model.compile("native", 1).forward(image), runs),
        ),
        row("compile ResNet-18 for training, batch 16", seconds(lambda: compile_training(model), runs)),
    ]


def row(what: str, times: list[float]) -> dict[str, Any]:
    """The median in milliseconds, and the extremes."""
    low, middle, high = (1e3 * pick(times) for pick in (min, statistics.median, max))
    return {"what": what, "median_ms": middle, "min_ms": low, "max_ms": high, "runs": len(times)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    fovea.set_threads(args.threads)
    setting = facts(args.threads, {"numpy": np.__version__})
    print(", ".join(f"{key} {value}" for key, value in setting.items()), flush=True)
    rows = [*first_prediction(args.runs), *compilation(args.runs)]
    for one in rows:
        print(
            f"{one['what']:54} {one['median_ms']:8.1f} ms   ({one['min_ms']:.1f} to {one['max_ms']:.1f}, "
            f"{one['runs']} runs)"
        )
    if args.json:
        args.json.write_text(json.dumps({"machine": setting, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
