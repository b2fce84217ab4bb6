"""What a code still knows of its image: another image with the same code, as smooth as natural ones are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import progress
from fovea.data.given import as_samples
from fovea.errors import ConfigError, GraphError
from fovea.explain.visualise.ascent import Adam
from fovea.explain.visualise.canvas import Canvas
from fovea.explain.visualise.colours import colours_for
from fovea.explain.visualise.part import image_model, part_of
from fovea.explain.visualise.transforms import Movement
from fovea.graph.graph import Ref
from fovea.model import Model

__all__ = ["Inversion", "alpha_norm", "invert", "total_variation"]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
ALPHA, BETA = 6.0, 2.0
_RANGE_WEIGHT, _SMOOTH_WEIGHT = 0.01, 0.5
"""Of the two priors beside a loss that is 1 for a code of zeros; chosen by eye on photographs, at several depths."""


@dataclass(frozen=True, eq=False)
class Inversion:
    """``images``: uint8 N,H,W,C as the network saw them; ``inverted``: made from their codes alone. ``errors``: N,
    |code of the inverted - code| / |code|."""

    images: npt.NDArray[np.uint8]
    inverted: npt.NDArray[np.uint8]
    layer: str
    errors: npt.NDArray[np.float32]


def invert(
    model: Model,
    images: Any,
    layer: str,
    *,
    steps: int = 256,
    smoothness: float = 1.0,
    seed: int = 0,
    engine: str | None = None,
) -> Inversion:
    """Images whose output at a layer is that of the given ones (uint8 N,H,W,C, a list of H,W,C, or paths).

    Minimises, by Adam on Fourier coefficients from faint noise,

        |Phi(x) - Phi_0|^2 / |Phi_0|^2  +  w_R mean |v|^alpha  +  w_V mean (dv/dx^2 + dv/dy^2)^(beta / 2)

    with v the pixels from -1 to 1: the alpha norm (alpha = 6) keeps them in range, the total variation (beta = 2)
    smooth; ``smoothness`` is a factor on it. What the layer has forgotten, such as positions or colours, is filled in.
    Raises GraphError with near names, ConfigError, DataError or EngineError in one line.
    Source: Mahendran and Vedaldi 2015, "Understanding deep image representations by inverting them".
    """
    known = image_model(model, "invert")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 100_000:
        raise ConfigError("invert", f"expected steps as an integer from 1 to 100000, got {steps!r}; 256 is usual")
    if isinstance(smoothness, bool) or not isinstance(smoothness, (int, float)) or not 0 <= smoothness <= 1e6:
        raise ConfigError("invert", f"expected smoothness as a number of at least 0, got {smoothness!r}; 1 is usual")
    node = model.graph.node(layer)
    if node.op.kind in ("input", "constant"):
        raise GraphError(layer, f"expected a layer, got an {node.op.kind}; see fovea summary")
    seen = known.apply_spatial(as_samples(images, known))
    size = tuple(int(n) for n in seen.shape[1:3])
    part = part_of(model, Ref(layer), "invert", size=size, engine=engine, batch_size=len(seen))
    wanted = part.outputs(known.apply_pixels(seen))
    scale = np.maximum((wanted.astype(np.float64) ** 2).reshape(len(seen), -1).sum(axis=1), 1e-30)
    shape = (-1, *(1,) * (wanted.ndim - 1))

    def apart(outputs: Array) -> tuple[Array, Array]:
        difference = outputs - wanted
        values = (difference.astype(np.float64) ** 2).reshape(len(seen), -1).sum(axis=1) / scale
        return -values, -2 * difference / scale.reshape(shape)

    canvas = Canvas(known, size, colours_for(known), Movement(0, 0, 0), 1.0)
    coefficients, adam = canvas.start(seed, np.arange(len(seen)), 0.01), Adam(0.05)
    with progress.bar(steps, f"inverting {layer}", unit="steps") as bar:
        for step in range(steps):
            painted = canvas.paint(coefficients)
            values, gradient = part.climb(painted.x, apart)
            prior = prior_slope(painted.shown, smoothness)
            share = min(1.0, 2.0 * (1.0 - step / steps))
            coefficients = coefficients + adam.step(canvas.adjoint(painted, gradient, -prior), share)
            bar.update(1, error=float(np.sqrt(-values).mean()))
    painted = canvas.paint(coefficients)
    made = np.round(painted.shown * 255).astype(np.uint8)
    errors = np.sqrt(-apart(part.outputs(known.apply_pixels(made)))[0])
    return Inversion(seen, made, layer, errors.astype(np.float32))


def prior_slope(pixels: F32, smoothness: float) -> F32:
    """The gradient of both priors with respect to pixels 0..1, N,H,W,C."""
    v = 2 * pixels - 1
    return np.asarray(
        2 * (_RANGE_WEIGHT * alpha_norm(v)[1] + smoothness * _SMOOTH_WEIGHT * total_variation(v)[1]), np.float32
    )


def alpha_norm(v: F32) -> tuple[Array, F32]:
    """mean |v|^alpha over each image: N, and its gradient alpha sign(v) |v|^(alpha - 1) / count."""
    count = v[0].size
    size = np.abs(v)
    gradient = ALPHA * np.sign(v) * size ** (ALPHA - 1) / count
    return (size**ALPHA).reshape(len(v), -1).mean(axis=1), np.asarray(gradient, np.float32)


def total_variation(v: F32) -> tuple[Array, F32]:
    """mean (d_y^2 + d_x^2)^(beta / 2) with differences of neighbours, 0 beyond the border: N, and its gradient.

    d/dv adds beta (.)^(beta / 2 - 1) d to the pixel behind a difference and takes it from the one before.
    """
    count = v[0].size
    dy, dx = np.zeros_like(v), np.zeros_like(v)
    dy[:, :-1], dx[:, :, :-1] = v[:, 1:] - v[:, :-1], v[:, :, 1:] - v[:, :, :-1]
    square = dy * dy + dx * dx
    slope = BETA * (square + 1e-12) ** (BETA / 2 - 1) / count
    gradient = -slope * (dy + dx)
    gradient[:, 1:] += (slope * dy)[:, :-1]
    gradient[:, :, 1:] += (slope * dx)[:, :, :-1]
    return (square ** (BETA / 2)).reshape(len(v), -1).mean(axis=1), np.asarray(gradient, np.float32)
