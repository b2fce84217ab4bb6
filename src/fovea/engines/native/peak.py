"""What this machine can do at most, measured now on the threads that plans use."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fovea.engines.native.executable import core

__all__ = ["Peak", "Rate", "measure_peak"]

_SHORT = 0.002
"""Seconds of one call, about: long enough for all threads to wake, short enough to fit between two disturbances."""
_FLOATS = 32 << 20
"""Of the arrays whose reading and copying is timed: 128 MB each, more than most caches hold."""


@dataclass(frozen=True)
class Rate:
    """10^9 per second: the best call, and the median one, which a disturbance lowers."""

    best: float
    median: float


@dataclass(frozen=True)
class Peak:
    """``operations``: GFLOP/s by precision (int8: GOP/s), those that the CPU has instructions for. ``bandwidth``: GB/s
    of reading alone and of copying (read plus written). ``steps``: 10^9 short integer instructions a second."""

    operations: dict[str, Rate]
    bandwidth: dict[str, Rate]
    steps: Rate

    def of(self, precision: str) -> float:
        """The best GFLOP/s of a precision; of float32 where the CPU has no instruction for it."""
        return self.operations.get(precision, self.operations["fp32"]).best

    @property
    def gbytes(self) -> float:
        """The better of reading and copying, GB/s."""
        return max(rate.best for rate in self.bandwidth.values())

    def better(self, other: Peak) -> Peak:
        """The best calls of two measurements, rate by rate."""
        return Peak(
            {key: _better(rate, other.operations[key]) for key, rate in self.operations.items()},
            {key: _better(rate, other.bandwidth[key]) for key, rate in self.bandwidth.items()},
            _better(self.steps, other.steps),
        )


def _better(a: Rate, b: Rate) -> Rate:
    return a if a.best >= b.best else b


def _rate(work: Callable[[], float], seconds: float) -> Rate:
    work()
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while len(rates) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        done = work()
        rates.append(done / (time.perf_counter() - start) * 1e-9)
    return Rate(max(rates), float(np.median(rates)))


def _loop(loop: Callable[[int], float], seconds: float) -> Rate | None:
    """The rate of a loop in registers, its rounds chosen so that a call takes ``_SHORT``; None when it does nothing."""
    rounds = 100
    loop(rounds)
    start = time.perf_counter()
    if not loop(rounds):
        return None
    rounds = max(1, round(rounds * _SHORT / (time.perf_counter() - start)))
    return _rate(lambda: loop(rounds), seconds)


def measure_peak(seconds: float = 0.2) -> Peak:
    """``seconds`` for each rate; it needs 256 MB of memory for a moment. Raises EngineError without the core."""
    module = core()
    loops = {"fp32": module.peak_fma, "bf16": module.peak_bf16, "int8": module.peak_int8}
    found = {name: _loop(loop, seconds) for name, loop in loops.items()}
    steps = _loop(module.peak_steps, seconds)
    assert steps is not None
    source = np.ones(_FLOATS, np.float32)
    target = np.empty_like(source)
    bandwidth = {
        "read": _rate(lambda: float(module.read_memory(source)), seconds),
        "copy": _rate(lambda: float(module.copy_memory(source, target)), seconds),
    }
    return Peak({name: rate for name, rate in found.items() if rate is not None}, bandwidth, steps)
