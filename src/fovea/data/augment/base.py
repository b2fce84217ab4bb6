"""What a step of augmentation is, and the checks of its options."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.errors import ConfigError, DataError

__all__ = ["Keys", "Step", "check_pair", "check_range", "chosen", "need_pictures", "option_error"]

Array = npt.NDArray[Any]
Keys = npt.NDArray[np.uint64]


class Step:
    """A frozen dataclass: options as fields, ``step(inputs, keys)`` as the change."""

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ("image", "clip")
    lasting: ClassVar[bool] = False
    """Whether it draws from keys that a sample keeps in all epochs."""

    def at(self, epoch: int) -> Step:
        """This step as it is in one epoch, counted from 0."""
        return self

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        """Inputs ``N,*spatial,C`` and one key per sample to inputs of the same shape and dtype."""
        raise NotImplementedError


def option_error(step: str, message: str) -> ConfigError:
    """The error of a wrong option of a step."""
    return ConfigError(f"augment {step}", message)


def check_range(step: str, name: str, value: Any, low: float, high: float, whole: bool = False) -> None:
    """Raise ConfigError unless ``low <= value <= high`` (and an integer when ``whole``)."""
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right or not math.isfinite(value) or not low <= value <= high:
        raise option_error(
            step, f"{name} must be {'an integer' if whole else 'a number'} from {low:g} to {high:g}, got {value!r}"
        )


def check_pair(step: str, name: str, value: Any, low: float, high: float) -> None:
    """Raise ConfigError unless ``value`` is ``(a, b)`` with ``low <= a <= b <= high``."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise option_error(step, f"{name} must be two numbers, got {value!r}")
    for number in value:
        check_range(step, name, number, low, high)
    if value[0] > value[1]:
        raise option_error(step, f"{name} must rise, got {value!r}")


def chosen(keys: Keys, probability: float) -> npt.NDArray[np.bool_]:
    """True for ``probability`` of the keys; an integer comparison, equal on every machine."""
    return random.bits(keys, 1)[:, 0] < np.uint64(round(probability * (1 << 32)))


def need_pictures(step: str, images: Array) -> None:
    """Raise DataError unless the batch is uint8 with 1 or 3 channels."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise DataError(
            f"augment {step}", f"needs uint8 N,H,W,C images with 1 or 3 channels, got {images.dtype} {images.shape}"
        )
