"""bfloat16 in NumPy: arrays of uint16 that hold the upper halves of float32 numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
HALF_STEP = 2.0**-8  # what rounding to 8 bits of significand changes at most, relative


def to_bf16(values: Array) -> Array:
    """Round to nearest, ties to even; a NaN stays one."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    chosen = np.where(np.isnan(values), bits | np.uint32(0x400000), rounded)
    return (chosen >> np.uint32(16)).astype(np.uint16)


def to_float(values: Array) -> Array:
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
