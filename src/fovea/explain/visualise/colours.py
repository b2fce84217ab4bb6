"""Colours as they vary in photographs: three numbers that do not depend on each other instead of red, green and blue.

Red, green and blue of natural images rise and fall together: most of their variance lies along grey. Ascent in channels
that are correlated so makes pictures of garish colours. With the covariance ``S = V diag(s) V'`` of the pixels and the
mixing matrix ``M = V diag(sqrt s) V'``, values ``u`` of unit variance give pixels ``mean + M u`` with covariance S
(Olah et al. 2017, "Feature Visualization": decorrelated colours). Pixels lie between 0 and 1, so it is their logit
that is written so, with the slope of the sigmoid at the mean taken out:

    pixel = sigmoid(logit(mean) + M u / (mean (1 - mean)))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.preprocess import Preprocessing

__all__ = ["PHOTOGRAPHS", "Colours", "colours_for", "colours_of"]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Colours:
    """Mean and covariance of pixels on a scale from 0 to 1, by channel, and where they come from."""

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    source: str

    @property
    def mixing(self) -> npt.NDArray[np.float64]:
        """The symmetric root of the covariance, C,C."""
        values, vectors = np.linalg.eigh(np.array(self.covariance))
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)

    def _curve(self) -> tuple[F32, F32]:
        """logit(mean), C, and the matrix that u is multiplied with, C,C (output, input)."""
        mean = np.clip(np.array(self.mean), 0.05, 0.95)  # of digits most is black: the slope must not vanish
        matrix = self.mixing / (mean * (1 - mean))[:, None]
        return np.log(mean / (1 - mean)).astype(np.float32), matrix.astype(np.float32)

    def pixels(self, u: F32) -> F32:
        """...,C of unit variance -> pixels 0..1."""
        offset, matrix = self._curve()
        return np.asarray(1 / (1 + np.exp(-(offset + u @ matrix.T))), np.float32)

    def adjoint(self, pixels: F32, gradient: F32) -> F32:
        """The gradient with respect to u, from the pixels that ``pixels`` gave and that with respect to them."""
        return np.asarray((gradient * pixels * (1 - pixels)) @ self._curve()[1], np.float32)


PHOTOGRAPHS = Colours(
    (0.46869, 0.44637, 0.40396),
    ((0.07017, 0.06141, 0.0563), (0.06141, 0.06626, 0.06205), (0.0563, 0.06205, 0.07064)),
    "125 photographs",
)
"""One photograph of every eighth class of ImageNet; ``bench/colours.py`` counts them again. Nine tenths of the variance
lie along grey."""


def colours_of(images: Array, source: str) -> Colours:
    """Mean and covariance of the pixels of uint8 images N,*spatial,C: sums of integers, exact in any order."""
    channels = images.shape[-1]
    total, products, count = np.zeros(channels), np.zeros((channels, channels)), 0
    for image in images:
        flat = image.reshape(-1, channels).astype(np.float64)
        total += flat.sum(axis=0)
        products += flat.T @ flat
        count += len(flat)
    mean = total / count
    covariance = (products / count - np.outer(mean, mean)) / 255**2
    return Colours(tuple((mean / 255).tolist()), tuple(map(tuple, covariance.tolist())), source)


def colours_for(known: Preprocessing, images: Array | None = None) -> Colours:
    """Of the images where some are given; else of photographs for a model of colour images, else what the model's
    preprocessing knows of its training images: mean and deviation, the channels taken as independent."""
    if images is not None and len(images):
        return colours_of(images, f"{len(images)} images")
    if known.channels == 3:
        return PHOTOGRAPHS
    backwards = slice(None, None, -1 if known.order == "bgr" else 1)
    span = abs(known.scale) * 255
    mean, deviation = np.array(known.mean)[backwards] / span, np.array(known.std)[backwards] / span
    covariance = tuple(tuple(row) for row in np.diag(np.minimum(deviation, 0.5) ** 2).tolist())
    return Colours(tuple(np.clip(mean, 0, 1).tolist()), covariance, "the model's preprocessing")
