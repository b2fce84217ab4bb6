"""What a computation of a network gave, by name, and how far two such results may be apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Mismatch", "Results", "close", "named"]

Array = npt.NDArray[Any]
Results = dict[str, Array]

EPS = 2.0**-24
MOST_NOISE = 64
"""Times float32's own rounding: other orders of summation, fast convolution, fused steps."""
FLOOR = 256
"""Times eps of the largest element: for sums on which float32 happened to be exact."""
CANCELLED = 16
"""Times eps of the largest element of all results."""


class Mismatch(AssertionError):
    """Two sides that should agree do not."""


def named(
    outputs: Sequence[Array], inputs: Mapping[str, Array], gradients: Mapping[str, Array], buffers: Mapping[str, Array]
) -> Results:
    """One dictionary of everything."""
    result = {f"output {i}": np.array(one) for i, one in enumerate(outputs)}
    result |= {f"gradient of {name}": np.array(one) for name, one in inputs.items()}
    result |= {f"gradient of {path}": np.array(one) for path, one in gradients.items()}
    return result | {f"buffer {path}": np.array(one) for path, one in buffers.items()}


def off(ours: Array, truth: Array) -> float:
    """The largest difference; infinite where one side alone is no number."""
    if ours.shape != truth.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        errors = np.where(ours == truth, 0.0, np.abs(ours - np.asarray(truth, np.float64)))
    return float(np.where(np.isnan(errors), np.inf, errors).max(initial=0.0))


def largest(truth: Array) -> float:
    """The largest absolute element."""
    return float(np.abs(truth).max(initial=0.0))


def close(
    who: str, ours: Results, truth: Results, noise: Mapping[str, float], eps: float = EPS, times: float = MOST_NOISE
) -> None:
    """Raises Mismatch for the first result that is further off than rounding explains.

    ``noise``: what this network makes of rounding, for every result; ``times`` as much is allowed, and some steps of
    the largest elements. ``eps``: half a step of the numbers that ``ours`` was computed with.
    """
    if ours.keys() != truth.keys():
        raise Mismatch(f"{who}: expected {sorted(truth)}, got {sorted(ours)}")
    whole = max(map(largest, truth.values()), default=0.0)  # sums that cancel are as exact as their terms
    for name, exact in truth.items():
        error, magnitude = off(ours[name], exact), largest(exact)
        allowed = times * noise[name] + FLOOR * eps * magnitude + CANCELLED * eps * whole
        if not error <= allowed:
            shapes = "" if ours[name].shape == exact.shape else f", shape {ours[name].shape} for {exact.shape}"
            raise Mismatch(f"{who}: {name} off by {error:.3g}, allowed {allowed:.3g}, largest {magnitude:.3g}{shapes}")
