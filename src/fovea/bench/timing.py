"""Sides that take turns, so that a machine that slows down for a while slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Step", "in_turn", "seconds"]

Step = Callable[[], Any]

PAUSE = 0.025
"""Seconds between the sides: worker threads that spin after their last region let go of their core."""
TURN = 0.1
"""About how many seconds one turn of a side takes."""
LEAST_ROUNDS = 2
"""Turns of every side, also of those that take longer than the limit."""


def seconds(step: Step, count: int) -> list[float]:
    """Wall time of each of ``count`` steps."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def in_turn(sides: Sequence[Step], rounds: int, most: int = 20, limit: float = 30.0) -> list[list[float]]:
    """A B A B: in each turn a step to wake the threads up, then timed steps for ``TURN`` (2 to ``most`` of them).

    Returns the times of each side. After ``limit`` seconds no round begins, but for the first two.
    """
    counts = [max(2, min(most, round(TURN / min(seconds(step, 2))))) for step in sides]
    times: list[list[float]] = [[] for _ in sides]
    end = time.perf_counter() + limit
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() > end:
            break
        for side, step in enumerate(sides):
            time.sleep(PAUSE)
            seconds(step, max(1, counts[side] // 10))
            times[side].extend(seconds(step, counts[side]))
    return times
