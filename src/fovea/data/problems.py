"""What ``fovea data check`` says about data: one Problem for each thing found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Problem", "problem"]

_SHOWN = 20  # examples kept for each problem


@dataclass(frozen=True)
class Problem:
    """``severity``: ``"error"`` makes results wrong, ``"warning"`` makes them worse, ``"info"`` is good to know.

    ``count`` is how many were found, ``examples`` the first of them.
    """

    name: str
    severity: str
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()


def problem(name: str, severity: str, message: str, items: Sequence[str]) -> list[Problem]:
    """A Problem of these items, or none without items."""
    return [Problem(name, severity, message, len(items), tuple(items[:_SHOWN]))] if items else []
