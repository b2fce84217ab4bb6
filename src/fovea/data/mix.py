"""MixUp and CutMix: two samples in one, with the targets in the same proportion.

A sample's partner is the one half an epoch further on in the epoch's order, changed by its own augmentation, so a mixed
sample depends on (seed, epoch, position) and not on how batches are cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.augment.base import Keys, check_range

__all__ = ["CutMix", "Mix", "MixUp", "one_hot", "symmetric_beta"]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]


class Mix:
    """``mix(inputs, targets, partner_inputs, partner_targets, keys)``; targets are probabilities ``float32 (N, K)``."""

    def __call__(
        self, inputs: Array, targets: F32, partners: Array, partner_targets: F32, keys: Keys
    ) -> tuple[Array, F32]:
        raise NotImplementedError


@dataclass(frozen=True)
class MixUp(Mix):
    """``x = lam * x_a + (1 - lam) * x_b`` and the same for targets, ``lam ~ Beta(alpha, alpha)`` (Zhang et al. 2017).

    uint8 inputs are rounded back to uint8.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_range("mixup", "alpha", self.alpha, 0.01, 100)

    def __call__(
        self, inputs: Array, targets: F32, partners: Array, partner_targets: F32, keys: Keys
    ) -> tuple[Array, F32]:
        share = symmetric_beta(keys, self.alpha)
        weight = share.reshape(-1, *(1,) * (inputs.ndim - 1))
        mixed = inputs.astype(np.float32) * weight + partners.astype(np.float32) * (1 - weight)
        if inputs.dtype == np.uint8:
            mixed = np.clip(np.rint(mixed), 0, 255)
        column = share[:, None]
        return mixed.astype(inputs.dtype), targets * column + partner_targets * (1 - column)


@dataclass(frozen=True)
class CutMix(Mix):
    """A box of the partner replaces a box of the sample; targets in proportion of the areas (Yun et al. 2019).

    The box has ``1 - lam`` of the area, ``lam ~ Beta(alpha, alpha)``, about a random centre, cut at the border. Works
    on the last two spatial axes, or on the only one of a signal.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_range("cutmix", "alpha", self.alpha, 0.01, 100)

    def __call__(
        self, inputs: Array, targets: F32, partners: Array, partner_targets: F32, keys: Keys
    ) -> tuple[Array, F32]:
        sides = inputs.shape[max(1, inputs.ndim - 3) : -1]
        share = symmetric_beta(keys, self.alpha).astype(np.float64)
        centres = random.uniform(random.fold_in(keys, 1), len(sides)).astype(np.float64)
        inside = np.ones((len(inputs), *sides), bool)
        part = (1 - share) ** (1 / len(sides))
        for axis, side in enumerate(sides):
            half = np.rint(part * side) / 2
            centre = np.floor(centres[:, axis] * side)
            places = np.arange(side) + 0.5
            line = np.abs(places - centre[:, None]) < half[:, None]  # N,side
            inside &= line.reshape(len(inputs), *(side if index == axis else 1 for index in range(len(sides))))
        taken = inside.reshape(len(inputs), -1).mean(axis=1)[:, None].astype(np.float32)
        cover = inside.reshape(len(inputs), *(1,) * (inputs.ndim - 2 - len(sides)), *sides, 1)
        return np.where(cover, partners, inputs), targets * (1 - taken) + partner_targets * taken


def one_hot(targets: Array, num_classes: int) -> F32:
    """``int64 (N,)`` to ``float32 (N, K)``."""
    result = np.zeros((len(targets), num_classes), np.float32)
    result[np.arange(len(targets)), targets] = 1
    return result


def symmetric_beta(keys: Keys, alpha: float) -> F32:
    """One draw of Beta(alpha, alpha) per key, by inverting a table of the distribution.

    With ``x = t**(1 / alpha) / 2`` the density of the lower half is ``(1 - x)**(alpha - 1)`` in ``t``, which is smooth
    for every alpha; the upper half is its mirror image.
    """
    draws = random.bits(keys, 2)
    if alpha == 1.0:
        return (draws[:, 0] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    table = np.linspace(0, 1, 4097)
    density = (1 - 0.5 * table ** (1 / alpha)) ** (alpha - 1)
    steps = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    uniform = (draws[:, 0] >> np.uint32(8)).astype(np.float64) * 2.0**-24
    lower = 0.5 * np.interp(uniform, steps / steps[-1], table) ** (1 / alpha)
    return np.where(draws[:, 1] >> np.uint32(31), 1 - lower, lower).astype(np.float32)
