"""World: the processes that train one model together. One process is the world of most, and needs nothing.

A batch of the training is cut into consecutive shares, one for each process; what the loop adds up over its samples is
added up over all processes; the first process alone writes files. The training loop speaks to a World and contains no
branch for several processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy.typing as npt

__all__ = ["World", "launched_processes"]

Array = npt.NDArray[Any]
T = TypeVar("T")


class World:
    """One process. Engines that know several give a subclass."""

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def restarts(self) -> int:
        """How often the processes were started again after one had died."""
        return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))

    def share(self, count: int) -> slice:
        """This process's part of ``count`` consecutive samples; parts differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def total(self, values: Sequence[float]) -> list[float]:
        """Each value, added up over all processes."""
        return list(values)

    def joined(self, array: Array) -> Array:
        """The rows of all processes, in order."""
        return array

    def first(self, work: Callable[[], T]) -> T:
        """What ``work`` gives in the first process, which alone does it; all wait. Its error is raised in all."""
        return work()

    def close(self) -> None:
        """Take leave of the others."""


def launched_processes() -> int:
    """How many processes torchrun has started, in its own words."""
    text = os.environ.get("WORLD_SIZE", "1")
    return int(text) if text.isdigit() else 1
