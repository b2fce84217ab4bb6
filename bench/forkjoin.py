"""What parallel regions cost, and which of them have too few pieces for many cores.

    python bench/forkjoin.py                      # all networks, training and inference
    python bench/forkjoin.py resnet18 --few 64

The first lines time regions with nothing to do, opened one by one, as a plan opens them: handing over, taking part, and
waiting for the last. Then each network runs once, and every instruction whose longest region has fewer than ``--few``
pieces is listed with its share of the time: as many cores would wait for each other there. Only what takes at least a
hundredth of the run is shown.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import fovea.engines.native._core as core
import numpy as np

import fovea
from fovea.bench import networks
from fovea.bench.machine import facts
from fovea.engines.base import Plan
from fovea.engines.native.program import Section

SHOWN = 0.01
"""The share of the time from which on an instruction is listed."""


def microseconds(pieces: int, count: int = 20000) -> float:
    """Per region."""
    core.open_regions(1000, pieces)
    start = time.perf_counter()
    core.open_regions(count, pieces)
    return 1e6 * (time.perf_counter() - start) / count


def instructions(plan: Plan) -> list[tuple[float, int, int, Any]]:
    """Nanoseconds, regions, pieces of the longest, and the instruction, of what ran since timing was switched on."""
    program = plan._program  # type: ignore[attr-defined]  # a native plan; pieces are of no use to other callers
    rows = []
    for section in Section:
        own = [one for one in program.instructions if one.section == section]
        measured = zip(program._program.times(section), program._program.regions(section), own, strict=True)
        rows += [(took, *regions, one) for took, regions, one in measured if took]
    return rows


def report(title: str, plan: Plan, run: Callable[[], object], few: int) -> None:
    """One timed run, after one that wakes everything up."""
    run()
    plan._program.timed(True)  # type: ignore[attr-defined]
    run()
    rows = instructions(plan)
    total = sum(row[0] for row in rows)
    print(f"{title}: {total * 1e-6:.2f} ms, {sum(row[1] for row in rows)} regions")
    for took, regions, pieces, one in rows:
        if regions and pieces < few and took >= SHOWN * total:
            positions = "x".join(str(size) for size in one.ints[6:9]) if one.kernel.startswith("conv_") else ""
            print(
                f"    {100 * took / total:5.1f} %  {pieces:3d} pieces  {one.section.name.lower():13} {one.node:28} "
                f"{one.kernel} {one.algorithm} {positions}"
            )


def network(name: str, few: int) -> None:
    """Training at its batch, inference at 1 and 32."""
    model = networks.create(name)
    batch = networks.TRAIN_BATCH[name]
    x, y = networks.example(model, batch)
    plan = networks.compiled(model, "native", batch)
    report(f"{name}, training at batch {batch}", plan, partial(plan.train_step, x, y, lr=networks.LR), few)
    for size in (1, 32):
        images = x.repeat(math.ceil(size / batch), 0)[:size]
        plan = model.compile("native", size)
        report(f"{name}, inference at batch {size}", plan, partial(plan.forward, images), few)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(networks.NAMES)}; default all")
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    unknown = [name for name in args.networks if name not in networks.NAMES]
    if unknown:
        parser.error(f"expected networks of {', '.join(networks.NAMES)}, got {unknown[0]!r}")
    fovea.set_threads(args.threads)
    print(", ".join(f"{key} {value}" for key, value in facts(args.threads, {"numpy": np.__version__}).items()))
    for pieces in (2, 16, 64, 256):
        print(f"a region of {pieces:3d} pieces: {microseconds(pieces):.2f} us")
    for name in args.networks or networks.NAMES:
        network(name, args.few)


if __name__ == "__main__":
    main()
