"""Signals: louder, softer, noisier. (A shift is ``ShiftCrop``, which has any number of axes.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment.base import Keys, Step, check_pair, check_range

__all__ = ["SignalGain", "SignalNoise"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SignalGain(Step):
    """Times one random factor between ``low`` and ``high`` a sample."""

    name: ClassVar[str] = "gain"
    kinds: ClassVar[tuple[str, ...]] = ("signal", "volume")
    low: float = 0.7
    high: float = 1.4

    def __post_init__(self) -> None:
        check_pair(self.name, "low, high", (self.low, self.high), 0, 100)

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        factors = random.uniform(keys, 1, self.low, self.high)
        return (inputs * factors.reshape(-1, *(1,) * (inputs.ndim - 1))).astype(inputs.dtype)


@dataclass(frozen=True)
class SignalNoise(Step):
    """Plus normal noise of ``std`` times the sample's own standard deviation."""

    name: ClassVar[str] = "noise"
    kinds: ClassVar[tuple[str, ...]] = ("signal", "volume")
    std: float = 0.05

    def __post_init__(self) -> None:
        check_range(self.name, "std", self.std, 0, 10)

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        noise = random.normal(keys, int(np.prod(inputs.shape[1:]))).reshape(inputs.shape)
        # one sample at a time: a sum over a cut batch could be added in another order
        own = np.array([sample.std(dtype=np.float64) for sample in inputs], np.float32)
        strength = (np.float32(self.std) * own).reshape(-1, *(1,) * (inputs.ndim - 1))
        return (inputs + noise * strength).astype(inputs.dtype)
