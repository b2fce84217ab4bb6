"""What is climbed: a channel, a neuron, a class; and how images of one channel are kept from being all the same.

Each is a function of one node's output, N,...: values N, and their gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Objective", "diversity", "units", "with_diversity"]

Array = npt.NDArray[Any]
Objective = Callable[[Array], tuple[Array, Array]]


LEAK = 0.1
"""Of what lies below 0 a tenth counts: a channel that is silent everywhere has a slope all the same."""


def units(channels: Sequence[int], position: tuple[int, ...] | None) -> Objective:
    """For image i how strongly ``channels[i]`` answers: its value at one ``position`` (a neuron), else the mean over
    all positions of what a rectifier would pass, ``max(z, 0) + LEAK min(z, 0)``.

    The plain mean of a linear layer would be the answer to the mean of the image: of an edge, which raises it here and
    lowers it there, nothing would remain.
    """
    chosen = np.asarray(channels)

    def climbed(outputs: Array) -> tuple[Array, Array]:
        rows = np.arange(len(outputs))
        gradient = np.zeros_like(outputs)
        flat, back = (array.reshape(len(outputs), -1, outputs.shape[-1]) for array in (outputs, gradient))
        if position is None and flat.shape[1] > 1:
            own = flat[rows, :, chosen]
            slope = np.where(own > 0, 1.0, LEAK).astype(outputs.dtype)
            back[rows, :, chosen] = slope / flat.shape[1]
            return (own * slope).mean(axis=1), gradient
        at = int(np.ravel_multi_index(position, outputs.shape[1:-1])) if position is not None and position else 0
        back[rows, at, chosen] = 1.0
        return flat[rows, at, chosen], gradient

    return climbed


def diversity(outputs: Array) -> tuple[Array, Array]:
    """How unlike the images of a batch are in style: minus the mean cosine between their Gram matrices; and gradient.

    With the output as a matrix F (positions, channels) and G = F'F, value_i = -mean over j of
    cos_ij = <G_i, G_j> / (|G_i| |G_j|). The gradient is that of half the sum of the values, in which every pair counts
    once: at F_i it is -2 F_i mean_j (G'_j - cos_ij G'_i) / |G_i| with G' = G / |G|.
    Source: Olah et al. 2017, "Feature Visualization", "Diversity".
    """
    n, channels = len(outputs), outputs.shape[-1]
    flat = outputs.reshape(n, -1, channels)
    gram = np.matmul(flat.transpose(0, 2, 1), flat).reshape(n, -1)
    length = np.linalg.norm(gram, axis=1, keepdims=True) + 1e-12
    unit = gram / length
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, 0)
    others = max(n - 1, 1)
    towards = (unit.sum(axis=0) - unit - cosines.sum(axis=1, keepdims=True) * unit) / (length * others)
    gradient = -2 * np.matmul(flat, towards.reshape(n, channels, channels))
    return -cosines.sum(axis=1) / others, gradient.reshape(outputs.shape)


def with_diversity(objective: Objective, groups: Sequence[int], strength: float) -> Objective:
    """The objective plus ``strength`` times the diversity of the images of each group, both gradients brought to the
    same length, so that the strength means the same in every layer. The values stay those of the objective."""
    members = np.asarray(groups)

    def climbed(outputs: Array) -> tuple[Array, Array]:
        values, gradient = objective(outputs)
        gradient = gradient.copy()
        for group in np.unique(members):
            rows = np.flatnonzero(members == group)
            if len(rows) > 1:
                other = diversity(outputs[rows])[1]
                size, wanted = np.linalg.norm(other), np.linalg.norm(gradient[rows])
                gradient[rows] += other * (strength * wanted / max(float(size), 1e-30))
        return values, gradient

    return climbed
