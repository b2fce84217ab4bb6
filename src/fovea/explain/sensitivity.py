"""How the score changes with each pixel: the gradient, and the gradient times the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.base import Found, method
from fovea.explain.question import Question

__all__ = ["gradient", "gradient_x_input", "strongest"]

Array = npt.NDArray[Any]


def strongest(raw: Array) -> Array:
    """N,H,W,C -> N,H,W: the largest absolute value of the channels (Simonyan et al. 2014, section 3.1)."""
    largest: Array = np.abs(raw).max(-1)
    return largest


@method("gradient", signed=False)
def gradient(question: Question) -> Found:
    """Saliency: ``values = max_c |dS/dx_c|``; ``raw`` holds ``dS/dx``, N,H,W,C.

    Source: Simonyan et al. 2014, "Deep inside convolutional networks", section 3.
    """
    raw = question.gradients().wrt[question.graph.inputs[0]]
    return Found(strongest(raw), raw)


@method("gradient x input")
def gradient_x_input(question: Question) -> Found:
    """``raw = x dS/dx``, N,H,W,C, and its sum over the channels: what each pixel adds, if the network were linear.

    Source: Shrikumar et al. 2016, "Not just a black box", section 2.
    """
    raw = question.x * question.gradients().wrt[question.graph.inputs[0]]
    return Found(raw.sum(-1), raw)
