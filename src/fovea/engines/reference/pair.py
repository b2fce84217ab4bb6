"""What every op of this engine is: a pair of functions with one signature, tuples in and out.

    forward(op, inputs, params, buffers, *, training, key)  -> outputs, saved, new_buffers
    backward(op, grad_outputs, saved, params, *, needs)     -> grad_inputs, grad_params

Arrays are N,*spatial,C. The dtype follows the inputs: float32 gives float32, float64 gives float64 everywhere, losses
and statistics too. ``saved`` is what forward leaves for its own backward. ``key`` is given to ops that draw random
numbers in training. ``grad_inputs`` may hold None where ``needs`` did not ask. No function changes an array that it
was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Arrays", "Backward", "Forward", "Key", "Needs", "Pair", "Params"]

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
Params = Mapping[str, Array]
Key = np.uint64 | None
ForwardResult = tuple[Arrays, Any, dict[str, Array]]
BackwardResult = tuple[tuple[Array | None, ...], dict[str, Array]]
Forward = Callable[..., ForwardResult]
Backward = Callable[..., BackwardResult]


class Needs(NamedTuple):
    """Which inputs and which parameters of one node want a gradient."""

    inputs: tuple[bool, ...]
    params: frozenset[str] = frozenset()

    @property
    def any(self) -> bool:
        """Whether backward has anything to compute."""
        return any(self.inputs) or bool(self.params)


class Pair(NamedTuple):
    """Forward and backward of one kind of op."""

    forward: Forward
    backward: Backward
