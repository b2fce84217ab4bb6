"""Images by their Fourier coefficients: gradient ascent in them does not prefer high frequencies, as pixels do.

An image u (``*spatial``, real) is written as

    u = irfftn(amplitude * z),    amplitude(f) ~ max(|f|, 1 / longest side)^-1.25

with the coefficients z as unknowns (real and imaginary part of the half spectrum). Natural images have amplitudes that
fall like 1 / |f| (Field 1987), so with z of equal size at all frequencies u looks like one; falling a little faster
gave clearer pictures of classes. Ascent in z is ascent in u under another metric, with the same maxima; what changes is
which of them is found (Olah et al. 2017, "Feature Visualization", "Preconditioning and parameterization").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Spectrum"]

F32 = npt.NDArray[np.float32]
FALL = 1.25
"""The exponent, by eye on MobileNetV2: at 1 fine patterns cover the parts of an object, at 1.6 they are blurred."""


class Spectrum:
    """The coefficients of images ``N,*spatial,C``: float32 ``N,*half,C,2`` (the last axis: real, imaginary).

    Standard normal coefficients give values of mean 0 and variance 1.
    """

    def __init__(self, spatial: tuple[int, ...]) -> None:
        self.spatial = spatial
        self.half = (*spatial[:-1], spatial[-1] // 2 + 1)
        self._axes = tuple(range(1, len(spatial) + 1))
        axes = [np.fft.fftfreq(size) for size in spatial[:-1]] + [np.fft.rfftfreq(spatial[-1])]
        squared = sum(one**2 for one in np.meshgrid(*axes, indexing="ij"))
        amplitude = np.maximum(np.sqrt(squared), 1.0 / max(spatial)) ** -FALL
        # an element of the half spectrum stands for two of the whole one, but for those that are their own mirror image
        self._pairs = np.full(self.half[-1], 2.0)
        self._pairs[0] = 1.0
        if spatial[-1] % 2 == 0:
            self._pairs[-1] = 1.0
        variance = float(((self._pairs * amplitude) ** 2).sum()) / float(np.prod(spatial))
        self._amplitude = (amplitude / np.sqrt(variance)).astype(np.float32)[..., None]

    def shape(self, n: int, channels: int) -> tuple[int, ...]:
        """Of the coefficients of n images."""
        return (n, *self.half, channels, 2)

    def image(self, coefficients: F32) -> F32:
        """N,*half,C,2 -> N,*spatial,C."""
        z = (coefficients[..., 0] + np.complex64(1j) * coefficients[..., 1]) * self._amplitude
        return np.fft.irfftn(z, self.spatial, self._axes, "ortho").astype(np.float32)

    def adjoint(self, gradient: F32) -> F32:
        """The transpose of ``image``: N,*spatial,C -> N,*half,C,2.

        u is a sum over the whole spectrum, in which a pair of mirror images shares one coefficient: the gradient with
        respect to it is twice the transform of the gradient.
        """
        z = np.fft.rfftn(gradient, None, self._axes, "ortho")
        z = z * (self._amplitude * self._pairs.astype(np.float32)[:, None])
        return np.stack([z.real, z.imag], axis=-1).astype(np.float32)
