"""Max-sensitivity: how far a map moves when the image changes by less than a person sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.explain.trusting.explainers import Explainer
from fovea.model import Model

__all__ = ["max_sensitivity", "neighbours"]

Array = npt.NDArray[Any]


def max_sensitivity(explainer: Explainer, model: Model, values: Array, near: list[Array]) -> float:
    """``max over images near of |map(near) - map| / |map|``, Frobenius norms; 0 for a map that is 0 everywhere.

    Source: Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", definition 3.
    """
    size = float(np.linalg.norm(values))
    if size == 0:
        return 0.0
    moved = explainer.maps(model, near)
    return float(np.linalg.norm((moved - values).reshape(len(near), -1), axis=1).max()) / size


def neighbours(image: Array, radius: float, count: int, seed: int) -> list[Array]:
    """``count`` images within ``radius`` (a share of the range of values) of this one in every pixel, uniformly drawn.

    Bytes stay bytes between 0 and 255; the radius is then at least one step.
    """
    keys = random.fold_in(random.key(seed, "neighbours"), np.arange(count))
    if image.dtype == np.uint8:
        reach = max(1, round(255 * radius))
        steps = random.integers(keys, image.size, -reach, reach + 1).reshape(count, *image.shape)
        return list(np.clip(image.astype(np.int64) + steps, 0, 255).astype(np.uint8))
    reach_ = radius * float(np.ptp(image) or 1.0)
    steps_ = random.uniform(keys, image.size, -reach_, reach_).reshape(count, *image.shape)
    return list(image + steps_)
