"""What figures depend on: the machine, its peak rates, other programs on it, the versions of the peers."""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fovea
from fovea.engines.native.peak import Peak, measure_peak

__all__ = ["LOADED", "PEERS", "Watch", "facts", "installed"]

PEERS = ("torch", "onnxruntime", "openvino")
LOADED = 0.5
"""A load average above this means that other programs are running."""
SETTLE = 0.05
"""Seconds before the loops run: idle threads of some libraries hold their core for milliseconds."""
CHANGED = {"fma": 0.9, "steps": 0.9, "gbytes": 0.75}
"""A loop that runs below this part of its best speed: the machine was slower for a while."""


def installed() -> dict[str, str]:
    """The peers that are here, with their versions."""
    found = {}
    for name in PEERS:
        if importlib.util.find_spec(name) is not None:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "of unknown version"
    return found


def facts(threads: int, packages: dict[str, str]) -> dict[str, Any]:
    """CPU, cores, threads, load, date, versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
        "fovea": fovea.__version__,
        **packages,
    }


class Watch:
    """Measures the peaks at the start and again and again: each is the best ever seen.

    Some loops are bound by arithmetic, one by the number of instructions. A program on the other hyperthread of a
    core, perhaps of another tenant of the machine, halves that one and may leave the others as they are.
    """

    def __init__(self, peak_seconds: float = 0.2, look_seconds: float = 0.05) -> None:
        self._seconds = look_seconds
        self.peak: Peak = measure_peak(peak_seconds)
        self._looks: list[dict[str, float]] = []

    def look(self) -> dict[str, float]:
        """Median rates now: ``fma`` in GFLOP/s, ``steps`` in 10^9 instructions a second, ``gbytes`` read a second."""
        time.sleep(SETTLE)
        now = measure_peak(self._seconds)
        self.peak = self.peak.better(now)
        self._looks.append(
            {"fma": now.operations["fp32"].median, "steps": now.steps.median, "gbytes": now.bandwidth["read"].median}
        )
        return self._looks[-1]

    def introduction(self) -> str:
        """The peaks, on one line."""
        rates = ", ".join(f"{name} {rate.best:.0f}" for name, rate in self.peak.operations.items())
        memory = ", ".join(f"{name} {rate.best:.1f}" for name, rate in self.peak.bandwidth.items())
        return (
            f"measured peak: {rates} GFLOP/s (int8: GOP/s); memory: {memory} GB/s; "
            f"{self.peak.steps.best:.1f} simple instructions a nanosecond"
        )

    def warnings(self) -> list[str]:
        """Loops that changed their speed: other programs were running, or the machine was slower for a while."""
        said = []
        for key, what, unit in (
            ("fma", "multiply-accumulates", "GFLOP/s"),
            ("steps", "simple instructions", "a nanosecond"),
            ("gbytes", "reads", "GB/s"),
        ):
            rates = [look[key] for look in self._looks]
            if min(rates) < CHANGED[key] * max(rates):
                said.append(
                    f"the machine changed its speed: a loop of {what} made {min(rates):.1f} to {max(rates):.1f} {unit} "
                    f"(at the start {rates[0]:.1f}, at the end {rates[-1]:.1f}); compare only figures of one turn"
                )
        return said
