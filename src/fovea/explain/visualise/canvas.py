"""What is optimised, and how it becomes network input: coefficients -> image -> moved image -> pixels -> input.

Every step stands beside its transpose; the gradient of an objective with respect to the network's input goes back
through them to the coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.preprocess import SPATIAL_AXES, Preprocessing
from fovea.explain.visualise.colours import Colours
from fovea.explain.visualise.spectrum import Spectrum
from fovea.explain.visualise.transforms import Movement, Warp

__all__ = ["Canvas", "Painted"]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
CONTRAST = 0.6
"""Ascent makes images of ever stronger contrast, until colours are black, white and pure; this keeps them apart."""


@dataclass(frozen=True, eq=False)
class Painted:
    """``x``: network input N,*spatial,C. The rest is what the way back needs."""

    x: F32
    shown: F32
    warps: tuple[Warp, ...]


class Canvas:
    """Images of ``spatial`` size for a model with this preprocessing, written as coefficients of a larger canvas.

    Images and clips have pixels from 0 to 1 in decorrelated colours; signals and volumes are network input themselves,
    with a mean square of 1 as standardised samples have. ``detail``: elements of the canvas for each of the image along
    an axis; below 1 the finest frequencies do not exist.
    """

    def __init__(
        self, known: Preprocessing, spatial: tuple[int, ...], colours: Colours | None, movement: Movement, detail: float
    ) -> None:
        self.known, self.spatial, self.colours, self.movement = known, spatial, colours, movement
        self._turns = known.kind in ("image", "clip", "signal")
        canvas = tuple(max(2, int(np.ceil((n + 2 * movement.margin(n)) * detail))) for n in spatial)
        self.spectrum = Spectrum(canvas)
        self._detail = detail
        self._still = self._warp(np.eye(len(spatial)), np.zeros(len(spatial)))
        assert len(spatial) == SPATIAL_AXES[known.kind]

    def start(self, seed: int, numbers: npt.NDArray[np.int64], contrast: float) -> F32:
        """Coefficients of faint noise for the images of these numbers, each from a key of its own."""
        shape = self.spectrum.shape(len(numbers), self.known.channels)
        keys = random.fold_in(random.key(seed, "visualise start"), numbers)
        return np.asarray(random.normal(keys, int(np.prod(shape[1:]))).reshape(shape) * np.float32(contrast))

    def held(self, coefficients: F32) -> F32:
        """The same with at most ``CONTRAST`` of a photograph's contrast: its decorrelated values have mean square 1."""
        axes = tuple(range(1, coefficients.ndim))
        contrast = np.sqrt((coefficients.astype(np.float64) ** 2).mean(axis=axes, keepdims=True))
        return np.asarray(coefficients * np.minimum(1.0, CONTRAST / np.maximum(contrast, 1e-12)), np.float32)

    def paint(self, coefficients: F32, keys: Any = None) -> Painted:
        """The network input that coefficients stand for; with ``keys``, one for each image, moved at random."""
        u = self.spectrum.image(coefficients)
        if keys is None:
            warps = (self._still,) * len(u)
        else:
            warps = tuple(self._moved(key) for key in keys)
        moved = np.stack([warp.apply(one) for warp, one in zip(warps, u, strict=True)])
        if self.colours is None:
            return Painted(*_standardised(moved), warps)
        pixels = self.colours.pixels(moved)
        return Painted(self.known.apply_pixels(pixels * np.float32(255)), pixels, warps)

    def adjoint(self, painted: Painted, gradient: F32, at_pixels: F32 | float = 0.0) -> F32:
        """The gradient with respect to the coefficients, from that with respect to the network input and, of images,
        what else there is with respect to the pixels 0..1 that were painted."""
        if self.colours is None:
            moved = _standardised_adjoint(painted.x, painted.shown, gradient)
        else:
            scaled = self.known.apply_pixels_adjoint(gradient) * np.float32(255) + np.float32(at_pixels)
            moved = self.colours.adjoint(painted.shown, scaled)
        u = np.stack([warp.adjoint(one) for warp, one in zip(painted.warps, moved, strict=True)])
        return self.spectrum.adjoint(u)

    def _warp(self, matrix: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]) -> Warp:
        return Warp(self.spectrum.spatial, self.spatial, matrix * self._detail, shift * self._detail)

    def _moved(self, key: np.uint64) -> Warp:
        return self._warp(*self.movement.drawn(key, self.spatial, self._turns))


def _standardised(u: F32) -> tuple[F32, F32]:
    """Each sample divided by its root mean square, and that root: N,1,...."""
    root = np.sqrt((u * u).mean(axis=tuple(range(1, u.ndim)), keepdims=True)) + np.float32(1e-12)
    return u / root, root


def _standardised_adjoint(x: F32, root: F32, gradient: F32) -> F32:
    """x = u / r(u): dL/du = (g - x mean(g x)) / r."""
    along = (gradient * x).mean(axis=tuple(range(1, x.ndim)), keepdims=True)
    return np.asarray((gradient - x * along) / root, np.float32)
