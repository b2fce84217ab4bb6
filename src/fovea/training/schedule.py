"""Learning rate schedules: pure functions of (step, total) that give the factor on ``lr``; steps count from 0."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fovea.errors import ConfigError
from fovea.ops.base import is_number

__all__ = ["SCHEDULES", "Constant", "Cosine", "OneCycle", "Schedule", "Step", "schedule_from_dict"]

SCHEDULES: dict[str, type[Schedule]] = {}
"""Every schedule by name; filled as the classes are declared."""


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine wave from start (share 0) to end (share 1)."""
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True)
class Schedule(abc.ABC):
    """``warmup``: share of all steps in which lr rises linearly, reaching its full value at the last of them."""

    kind: ClassVar[str] = ""
    warmup: float = 0.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = cls.__name__.lower()
        SCHEDULES[cls.kind] = cls

    def __post_init__(self) -> None:
        self._between("warmup", self.warmup, 0.0, 1.0)

    def _between(self, name: str, value: Any, low: float, high: float) -> None:
        if not is_number(value) or not low <= value <= high:
            raise ConfigError(
                self.kind, f"expected {name} as a number from {low:g} to {high:g}, got {value!r}; choose one"
            )

    def factor(self, step: int, total: int) -> float:
        """The factor on lr at one of ``total`` steps; it stays within 0 to 1."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / warm
        return self.decay((step - warm) / max(1, total - warm))

    @abc.abstractmethod
    def decay(self, share: float) -> float:
        """The factor after warm-up, when ``share`` (from 0, below 1) of the steps that follow it are done."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields with the kind."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Constant(Schedule):
    """The same lr throughout."""

    def decay(self, share: float) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """lr times ``drop`` at each milestone, a share of the steps after warm-up.

    He et al. 2016, section 4.2, divide by 10 at about 1/2 and 3/4 of the training.
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    drop: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.milestones
        object.__setattr__(self, "milestones", tuple(given) if isinstance(given, (tuple, list)) else (given,))
        for milestone in self.milestones:
            self._between("milestones", milestone, 0.0, 1.0)
        self._between("drop", self.drop, 0.0, 1.0)

    def decay(self, share: float) -> float:
        """``drop`` to the power of the milestones passed."""
        return float(self.drop ** sum(share >= milestone for milestone in self.milestones))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine wave from 1 to ``final`` (Loshchilov and Hutter 2017, equation 5, without restarts)."""

    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._between("final", self.final, 0.0, 1.0)

    def decay(self, share: float) -> float:
        """``final + (1 - final) (1 + cos(pi share)) / 2``."""
        return _cosine(1.0, self.final, share)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from ``start`` to 1 in the first ``warmup`` of the steps, then down to ``final``, both by half a cosine wave.

    Smith and Topin 2018, "Super-convergence", in the two-phase form of PyTorch's OneCycleLR: the peak lies at step
    ``warmup * total - 1``, ``final`` is reached at the last step. Momentum stays as it is.
    """

    warmup: float = 0.25
    start: float = 0.04
    final: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._between("start", self.start, 0.0, 1.0)
        self._between("final", self.final, 0.0, 1.0)

    def factor(self, step: int, total: int) -> float:
        """The factor on lr at one of ``total`` steps."""
        peak = self.warmup * total - 1.0
        if step < peak:
            return _cosine(self.start, 1.0, step / peak)
        return self.decay((step - max(peak, 0.0)) / max(1.0, total - 1.0 - max(peak, 0.0)))

    def decay(self, share: float) -> float:
        """The way down."""
        return _cosine(1.0, self.final, min(share, 1.0))


def schedule_from_dict(fields: Mapping[str, Any]) -> Schedule:
    """The schedule that ``to_dict`` described. Raises ConfigError."""
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in SCHEDULES:
        raise ConfigError("schedule", f"expected one of {', '.join(SCHEDULES)}, got {kind!r}; choose one of them")
    try:
        return SCHEDULES[kind](**{name: value for name, value in fields.items() if name != "kind"})
    except TypeError as error:
        raise ConfigError("schedule", f"expected the fields of {kind}, got: {error}; see its docstring") from None
