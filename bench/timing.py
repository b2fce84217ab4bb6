"""What the benches share: sides that take turns, the machine that figures depend on, the file they are written to."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fovea

__all__ = ["PAUSE", "Step", "in_turn", "introduce", "machine", "seconds", "write_json"]

Step = Callable[[], Any]

PAUSE = 0.025
"""Seconds between the sides: worker threads that spin after their last region let go of their core."""
TURN = 0.1
"""About how many seconds one turn of a side takes."""
LOADED = 0.5
"""A load average above this means that other programs are running."""


def seconds(step: Step, count: int) -> list[float]:
    """Wall time of each of ``count`` steps."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def in_turn(sides: Sequence[Step], rounds: int, most: int = 20) -> list[list[float]]:
    """A B A B: in each turn a step to wake the threads up, then timed steps for ``TURN`` (2 to ``most`` of them).

    Returns the times of each side.
    """
    counts = [max(2, min(most, round(TURN / min(seconds(step, 3))))) for step in sides]
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, step in enumerate(sides):
            time.sleep(PAUSE)
            seconds(step, max(1, counts[side] // 10))
            times[side].extend(seconds(step, counts[side]))
    return times


def machine(threads: int, packages: Sequence[str]) -> dict[str, Any]:
    """What the figures depend on; ``packages`` are named with their versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
        "fovea": fovea.__version__,
        **{name: version(name) for name in packages},
    }


def introduce(setting: dict[str, Any]) -> None:
    """Print what the figures depend on, and a warning when the machine is not quiet."""
    print(", ".join(f"{key} {value}" for key, value in setting.items()), flush=True)
    if setting["load_before"] > LOADED:
        print("other programs are running: these times are not to be trusted", flush=True)


def write_json(path: Path, setting: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """The machine and the rows, for other programs."""
    path.write_text(json.dumps({"machine": setting, "results": rows}, indent=1) + "\n")
