"""One op computed from plain numbers, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fovea.ops as ops
from fovea.engines.reference.ops import PAIRS
from fovea.engines.reference.pair import Needs

__all__ = ["Computed", "equal", "image"]

Array = npt.NDArray[Any]


class Computed:
    """One op forward and, for a ``grad``, backward. Keywords are parameters and running statistics."""

    def __init__(self, op: ops.Op, *inputs: Any, grad: Any = None, training: bool = True, **arrays: Any) -> None:
        tensors = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
        buffers = {name: value for name, value in tensors.items() if name.startswith("running")}
        params = {name: value for name, value in tensors.items() if name not in buffers}
        arrays_in = tuple(x if isinstance(x, np.ndarray) else np.asarray(x, np.float64) for x in inputs)
        pair = PAIRS[op.kind]
        outputs, saved, self.new_buffers = pair.forward(op, arrays_in, params, buffers, training=training, key=None)
        self.output = outputs[0]
        if grad is not None:
            needs = Needs((True,) * len(inputs), frozenset(params))
            self.grad_inputs, self.grads = pair.backward(
                op, (np.asarray(grad, np.float64),), saved, params, needs=needs
            )


def image(rows: Any) -> Array:
    """Rows of numbers as one image with one channel: 1,H,W,1; a single row as a signal: 1,L,1."""
    return np.asarray(rows, np.float64)[None, ..., None]


def equal(array: Array, expected: Any) -> None:
    """Exact equality, shapes included."""
    np.testing.assert_array_equal(array, expected, strict=False)
    assert array.shape == np.shape(expected)
