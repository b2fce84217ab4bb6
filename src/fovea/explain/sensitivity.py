"""How the score changes with each pixel: the gradient, times the input, and averaged over noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.errors import ConfigError
from fovea.explain.base import Found, method
from fovea.explain.gradients import capacity_of
from fovea.explain.question import Question

__all__ = ["gradient", "gradient_x_input", "smoothgrad", "strongest", "vargrad"]

Array = npt.NDArray[Any]


def strongest(raw: Array) -> Array:
    """N,*spatial,C -> N,*spatial: the largest absolute value of the channels (Simonyan et al. 2014, section 3.1)."""
    return np.asarray(np.abs(raw).max(-1))


@method("gradient", signed=False)
def gradient(question: Question) -> Found:
    """Saliency: ``values = max_c |dS/dx_c|``; ``raw`` holds ``dS/dx``, N,*spatial,C.

    Source: Simonyan et al. 2014, "Deep inside convolutional networks", section 3.
    """
    scores, raw = question.input_gradients()
    return Found(strongest(raw), raw, scores=scores)


@method("gradient x input")
def gradient_x_input(question: Question) -> Found:
    """``raw = x dS/dx``, N,*spatial,C, and its sum over the channels: what each pixel adds, if the network were linear.

    Source: Shrikumar et al. 2016, "Not just a black box", section 2.
    """
    scores, slopes = question.input_gradients()
    raw = question.x * slopes
    return Found(raw.sum(-1), raw, scores=scores)


@method("SmoothGrad", signed=False)
def smoothgrad(question: Question, *, samples: int = 50, noise: float = 0.15, seed: int = 0) -> Found:
    """``raw = mean_i dS/dx(x + n_i)``, N,*spatial,C; ``values`` its largest absolute value over the channels.

    ``samples`` draws of normal noise with a standard deviation of ``noise`` times ``max x - min x``.
    Source: Smilkov et al. 2017, "SmoothGrad", section 2.
    """
    mean, _ = _moments(question, samples, noise, seed)
    return Found(strongest(mean), mean)


@method("VarGrad", signed=False)
def vargrad(question: Question, *, samples: int = 50, noise: float = 0.15, seed: int = 0) -> Found:
    """``raw = var_i dS/dx(x + n_i)``, N,*spatial,C, with the noise of ``smoothgrad``; ``values`` its sum over channels.

    Source: Adebayo et al. 2018, "Local explanation methods", section 2; Hooker et al. 2019, section 3.2.
    """
    mean, squares = _moments(question, samples, noise, seed)
    raw = np.maximum(squares - mean * mean, 0)
    return Found(raw.sum(-1), raw)


def _moments(question: Question, samples: int, noise: float, seed: int) -> tuple[Array, Array]:
    """Mean and mean square of the gradients of noisy inputs, batch by batch: each N,*spatial,C."""
    if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= 1 << 20:
        raise ConfigError("samples", f"expected an integer of at least 1, got {samples!r}; 50 is usual")
    if not isinstance(noise, (int, float)) or not 0 <= noise <= 10:
        raise ConfigError("noise", f"expected a share of the range of the input, 0 to 10, got {noise!r}; 0.15 is usual")
    x = question.x
    mean, squares = np.zeros_like(x), np.zeros_like(x)
    keys = random.fold_in(random.key(seed, "smoothgrad"), np.arange(samples))
    room = capacity_of(question.model, x.shape[1:], samples)
    for i, one in enumerate(x):
        deviation = np.float32(noise * float(one.max() - one.min()))
        for start in range(0, samples, room):
            drawn = random.normal(keys[start : start + room], one.size).reshape(-1, *one.shape)
            _, slopes = question.input_gradients(one + deviation * drawn, [question.scores[i]], room=room)
            mean[i] += slopes.sum(0)
            squares[i] += np.einsum("n...,n...->...", slopes, slopes)
    return mean / samples, squares / samples
