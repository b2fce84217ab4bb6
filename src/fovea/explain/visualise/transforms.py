"""Small random movements of an image: shift, rotation and scale as one resampling, and the transpose of it.

An output position o takes its value at ``M (o - centre) + centre' + shift`` in the source, linearly between the
neighbours: ``y = A x`` with a sparse A whose rows add up to 1 inside the source. The gradient goes back through the
transpose, ``A' g``. An optimised image that must do well under all such movements cannot rest on a pattern of single
pixels (Mordvintsev et al. 2015; Olah et al. 2017, "Transformation robustness").
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fovea import random

__all__ = ["Movement", "Warp"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Movement:
    """How far images are moved: shifts up to ``shift`` of their size, ``degrees`` of rotation in the plane of the last
    two axes, factors from ``1 - scale`` to ``1 + scale``. Each is drawn evenly, for each image and step on its own."""

    shift: float = 0.1
    degrees: float = 16.0
    scale: float = 0.16

    def margin(self, size: int) -> int:
        """Elements that a canvas needs on every side so that moved images hardly leave it."""
        return int(np.ceil(size * (self.shift + self.scale / 2 + np.sin(np.radians(self.degrees)) / 4)))

    def scaled(self, share: float) -> Movement:
        """The same, weaker or stronger."""
        return Movement(self.shift * share, self.degrees * share, self.scale * share)

    def drawn(
        self, key: np.uint64, sizes: tuple[int, ...], turns: bool
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Matrix and shift of one movement of a source of ``sizes``. ``turns``: whether axes may mix and stretch."""
        axes = len(sizes)
        draws = 2.0 * random.uniform(key, axes + 2).astype(np.float64) - 1.0
        matrix = np.eye(axes)
        if turns:
            matrix *= 1.0 / (1.0 + self.scale * draws[axes])
            if axes > 1:
                angle = np.radians(self.degrees * draws[axes + 1])
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                matrix[-2:, -2:] = matrix[-2:, -2:] @ turn
        return matrix, draws[:axes] * self.shift * np.array(sizes)


class Warp:
    """One resampling of ``*source,C`` to ``*output,C``, linear between elements; outside of the source all is 0."""

    def __init__(
        self, source: tuple[int, ...], output: tuple[int, ...], matrix: npt.NDArray[np.float64], shift: npt.ArrayLike
    ) -> None:
        self.source, self.output = source, output
        axes = len(output)
        centred = [
            (np.arange(size, dtype=np.float32) - (size - 1) / 2).reshape((-1, *(1,) * (axes - 1 - axis)))
            for axis, size in enumerate(output)
        ]
        middle = (np.array(source) - 1) / 2 + np.asarray(shift)
        parts = []  # for every axis: (index, weight) of the lower and of the upper neighbour, as maps of the output
        for axis, size in enumerate(source):
            place = np.full(output, middle[axis], np.float32)
            for other in range(axes):
                if matrix[axis, other] != 0:
                    place += np.float32(matrix[axis, other]) * centred[other]
            low = np.floor(place)
            upper = place - low
            base = low.astype(np.int32)
            parts.append([_inside(base, 1 - upper, size), _inside(base + 1, upper, size)])
        indices, weights = [], []
        for corner in itertools.product((0, 1), repeat=axes):  # 2^axes neighbours
            index, weight = parts[0][corner[0]]
            for axis in range(1, axes):
                index = index * source[axis] + parts[axis][corner[axis]][0]
                weight = weight * parts[axis][corner[axis]][1]
            indices.append(index.reshape(-1))
            weights.append(weight.reshape(-1))
        self._index, self._weight = np.stack(indices), np.stack(weights)  # corners,positions

    def apply(self, image: F32) -> F32:
        """``A x``: *source,C -> *output,C."""
        flat = image.reshape(-1, image.shape[-1])
        moved = np.zeros((self._index.shape[1], image.shape[-1]), np.float32)
        for index, weight in zip(self._index, self._weight, strict=True):
            moved += weight[:, None] * flat[index]
        return moved.reshape(*self.output, image.shape[-1])

    def adjoint(self, gradient: F32) -> F32:
        """``A' g``: *output,C -> *source,C."""
        flat, size = gradient.reshape(-1, gradient.shape[-1]), int(np.prod(self.source))
        index = self._index.reshape(-1)
        planes = [
            np.bincount(index, (self._weight * flat[:, channel]).reshape(-1), size)
            for channel in range(flat.shape[-1])
        ]  # fmt: skip
        return np.stack(planes, axis=-1).astype(np.float32).reshape(*self.source, flat.shape[-1])


def _inside(index: npt.NDArray[np.int32], weight: F32, size: int) -> tuple[npt.NDArray[np.int32], F32]:
    """What lies outside gets weight 0, at some index that exists."""
    return np.clip(index, 0, size - 1), np.where((index >= 0) & (index < size), weight, np.float32(0))
