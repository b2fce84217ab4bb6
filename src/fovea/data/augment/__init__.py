"""Augmentation: array functions of (batch, one key per sample).

What happens to a sample depends on its key alone, so splitting a batch, or computing it on another thread, changes no
bit. Images are ``uint8 N,H,W,C`` and stay so; signals and volumes are ``float32 N,*spatial,C``; a clip
``uint8 N,T,H,W,C`` is changed the same way in all its frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment.base import Step, option_error
from fovea.data.augment.color import ColorJitter
from fovea.data.augment.geometry import (
    AlternatingFlip,
    FlipAxes,
    HorizontalFlip,
    RandomErasing,
    RandomResizedCrop,
    Rotation,
    ShiftCrop,
)
from fovea.data.augment.randaugment import RandAugment
from fovea.data.augment.signal import SignalGain, SignalNoise
from fovea.errors import ConfigError

__all__ = [
    "STEPS",
    "AlternatingFlip",
    "Augment",
    "ColorJitter",
    "FlipAxes",
    "HorizontalFlip",
    "RandAugment",
    "RandomErasing",
    "RandomResizedCrop",
    "Rotation",
    "ShiftCrop",
    "SignalGain",
    "SignalNoise",
    "Step",
]

Array = npt.NDArray[Any]

STEPS: dict[str, type[Step]] = {
    step.name: step
    for step in (
        HorizontalFlip,
        AlternatingFlip,
        ShiftCrop,
        RandomResizedCrop,
        Rotation,
        ColorJitter,
        RandAugment,
        RandomErasing,
        FlipAxes,
        SignalGain,
        SignalNoise,
    )
}


@dataclass(frozen=True)
class Augment:
    """Steps in order; step ``i`` draws from ``fold_in(key of the sample, i)``.

    >>> Augment.from_names("flip,shift_crop", "image", (32, 32, 3)).names
    'flip,shift_crop'
    """

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        steps = tuple(self.steps) if isinstance(self.steps, (tuple, list)) else (self.steps,)
        if not all(isinstance(step, Step) for step in steps):
            raise ConfigError("augment", f"steps must be made like HorizontalFlip(p=0.5), got {steps!r}")
        object.__setattr__(self, "steps", steps)

    def __call__(
        self, inputs: Array, keys: npt.NDArray[np.uint64], lasting: npt.NDArray[np.uint64] | None = None
    ) -> Array:
        """``N,*spatial,C`` and keys ``(N,)`` to augmented inputs of the same shape and dtype. ``lasting``: keys that
        the samples keep in all epochs, for steps that draw from these."""
        for index, step in enumerate(self.steps):
            own = lasting if step.lasting else keys
            if own is None:
                raise ConfigError("augment", f"{step.name} needs keys that last over epochs, got none; give lasting=")
            step_keys = random.fold_in(own, index)
            if inputs.ndim == 5 and inputs.dtype == np.uint8:  # a clip: the same change in every frame
                inputs = np.stack([step(inputs[:, time], step_keys) for time in range(inputs.shape[1])], axis=1)
            else:
                inputs = step(inputs, step_keys)
        return inputs

    def at(self, epoch: int) -> Augment:
        """These steps as they are in one epoch, counted from 0."""
        return Augment(tuple(step.at(epoch) for step in self.steps))

    @property
    def names(self) -> str:
        """The steps' names, joined by commas."""
        return ",".join(step.name for step in self.steps) or "none"

    @classmethod
    def standard(cls, kind: str, input_shape: tuple[int, ...]) -> Augment:
        """What helps nearly always and changes no label.

        Colour images below 64 pixels are flipped and shifted by up to an eighth (the CIFAR recipe), larger ones flipped
        and cut to a random part. Grey images are often digits or letters, which a flip would turn into other ones, so
        they are only shifted. Signals are shifted and made louder or softer, volumes shifted; clips are flipped.
        """
        side = min(input_shape[:-1])
        if kind == "signal":
            return cls((ShiftCrop(max(1, side // 20), "zero"), SignalGain()))
        if kind == "volume":
            return cls((ShiftCrop(max(1, side // 12), "zero"),))
        if kind == "clip":
            return cls((HorizontalFlip(),))
        if input_shape[-1] == 1:
            return cls((ShiftCrop(max(1, side // 14), "zero"),))
        if side >= 64:
            return cls((RandomResizedCrop(), HorizontalFlip()))
        return cls((ShiftCrop(max(1, side // 8)), HorizontalFlip()))

    @classmethod
    def from_names(cls, text: str, kind: str, input_shape: tuple[int, ...]) -> Augment:
        """From ``"standard"``, ``"none"`` or names joined by commas; each step keeps its default strength."""
        steps: list[Step] = []
        for name in (part.strip().lower().replace("-", "_") for part in text.split(",")):
            if name in ("", "none"):
                continue
            if name == "standard":
                steps += cls.standard(kind, input_shape).steps
                continue
            if name not in STEPS:
                raise ConfigError("augment", f"{name!r} is not one of standard, none, {', '.join(STEPS)}")
            if kind not in STEPS[name].kinds:
                raise ConfigError("augment", f"{name!r} is for {'s and '.join(STEPS[name].kinds)}s; these are {kind}s")
            steps.append(STEPS[name]())
        return cls(tuple(steps))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"steps": [{"name": step.name, **asdict(step)} for step in self.steps]}  # type: ignore[call-overload]  # every Step is a dataclass

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Augment:
        """From JSON, every field validated. Raises ConfigError."""
        steps = record.get("steps") if isinstance(record, Mapping) else None
        if not isinstance(steps, (list, tuple)) or set(record) != {"steps"}:
            raise ConfigError("augment", f"expected an object with a list of steps, got {str(record)[:80]}")
        return cls(tuple(_step(item) for item in steps))


def _step(item: Any) -> Step:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str) or item["name"] not in STEPS:
        raise ConfigError("augment", f"{str(item)[:80]} is no step; known names are {', '.join(STEPS)}")
    kind = STEPS[item["name"]]
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in item.items() if name != "name"
    }
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # every Step is a dataclass
    if not set(values) <= known:
        raise option_error(
            kind.name, f"has no {', '.join(sorted(set(values) - known))}; it has {', '.join(sorted(known))}"
        )
    return kind(**values)
