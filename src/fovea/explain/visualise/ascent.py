"""Gradient ascent with Adam on a canvas, for any objective of any node."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Adam"]

F32 = npt.NDArray[np.float32]


class Adam:
    """Steps of Adam uphill, each image on its own (Kingma and Ba 2015, algorithm 1).

    Only ratios of gradients matter: they are first divided by their root mean square at the first step, so that eps
    has the same meaning for every objective.
    """

    def __init__(self, lr: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-6) -> None:
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self._mean: Any = 0.0
        self._square: Any = 0.0
        self._unit: Any = None
        self._steps = 0

    def step(self, gradient: F32, share: float = 1.0) -> F32:
        """What to add for this gradient N,...; ``share`` of the learning rate."""
        if self._unit is None:
            axes = tuple(range(1, gradient.ndim))
            self._unit = np.sqrt((gradient.astype(np.float64) ** 2).mean(axis=axes, keepdims=True))
            self._unit = np.where(self._unit > 0, self._unit, 1.0).astype(np.float32)
        scaled = gradient / self._unit
        self._steps += 1
        self._mean = self.beta1 * self._mean + (1 - self.beta1) * scaled
        self._square = self.beta2 * self._square + (1 - self.beta2) * scaled * scaled
        mean = self._mean / (1 - self.beta1**self._steps)
        square = self._square / (1 - self.beta2**self._steps)
        return np.asarray(share * self.lr * mean / (np.sqrt(square) + self.eps), np.float32)
