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
from fovea.engines.native.peak import Peak, measure_peak, measure_speed

__all__ = ["PEERS", "Watch", "facts", "installed"]

PEERS = ("torch", "onnxruntime", "openvino")
LOADED = 0.5
"""A load average above this means that other programs are running."""
SETTLE = 0.05
"""Seconds before the loops run: idle threads of some libraries hold their core for milliseconds."""
CHANGED = 0.9
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
    """Measures the peaks at the start, and the speed of two loops again and again.

    One loop is bound by arithmetic, the other by the number of instructions. A program on the other hyperthread of a
    core, perhaps of another tenant of the machine, halves the second and may leave the first as it is.
    """

    def __init__(self, peak_seconds: float = 0.2, look_seconds: float = 0.05) -> None:
        self._seconds = look_seconds
        self.peak: Peak = measure_peak(peak_seconds)
        self._looks: list[dict[str, float]] = []
        self.look()

    def look(self) -> dict[str, float]:
        """Median rates now: ``fma`` in GFLOP/s, ``steps`` in 10^9 instructions a second."""
        time.sleep(SETTLE)
        speed = measure_speed(self._seconds)
        self.peak = self.peak.with_speed(speed)
        self._looks.append({"fma": speed.operations["fp32"].median, "steps": speed.steps.median})
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
        """What was not as it should be: other programs, and loops that changed their speed."""
        said = []
        load = os.getloadavg()[0]
        busy = fovea.get_threads() + LOADED
        if load > busy:
            said.append(f"load average {load:.1f}: other programs were running; do not trust these times")
        for key, what, unit in (
            ("fma", "multiply-accumulates", "GFLOP/s"),
            ("steps", "simple instructions", "a nanosecond"),
        ):
            rates = [look[key] for look in self._looks]
            if min(rates) < CHANGED * max(rates):
                said.append(
                    f"the machine changed its speed: a loop of {what} made {min(rates):.1f} to {max(rates):.1f} {unit} "
                    f"(at the start {rates[0]:.1f}, at the end {rates[-1]:.1f}); compare only figures of one turn"
                )
        return said
