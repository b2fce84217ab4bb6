"""World: the processes that train one model together. One process is the world of most, and needs nothing.

A batch of the training is cut into consecutive shares, one for each process; what the loop adds up over its samples is
added up over all processes; the first process alone writes files. The training loop speaks to a World and contains no
branch for several processes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy.typing as npt

__all__ = ["World", "launch", "launched_processes", "may_restart", "restarts"]

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

    def agree(self, error: Exception | None) -> None:
        """Raise, in all processes, the error of the first that has one; all wait."""
        if error is not None:
            raise error


def launched_processes() -> int:
    """How many processes torchrun has started, in its own words."""
    return _number("WORLD_SIZE", 1)


def restarts() -> int:
    """How often torchrun has started the processes again after one had died."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def may_restart() -> bool:
    """Whether torchrun starts the processes again when one dies."""
    return _number("TORCHELASTIC_MAX_RESTARTS", 0) > 0


def launch() -> str | None:
    """What tells one call of torchrun from others, the same after a restart: its ``--rdzv-id``, else the number of the
    process that watches over this one. None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{socket.gethostname()}:{os.getppid()}" if name == "none" else name


def _number(variable: str, otherwise: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else otherwise
