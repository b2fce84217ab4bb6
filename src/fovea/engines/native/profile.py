"""How long each instruction of a plan takes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from fovea.engines.native.plan import NativePlan

__all__ = ["profile"]


def profile(plan: NativePlan, step: Callable[[], Any], runs: int) -> list[dict[str, Any]]:
    """The rows of ``plan.describe()`` that ``step`` executes, each with ``ms``: the median of ``runs`` calls.

    ``step`` is called once before, so that buffers exist and weights are packed.
    """
    program = plan._program  # of this folder, too
    step()
    taken = []
    try:
        for _ in range(runs):
            program.timed(True)
            step()
            taken.append(program.milliseconds())
    finally:
        program.timed(False)
    medians = [statistics.median(each) for each in zip(*taken, strict=True)]
    return [{**row, "ms": ms} for row, ms in zip(plan.describe(), medians, strict=True) if ms]
