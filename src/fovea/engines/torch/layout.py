"""Our layouts and PyTorch's: the same bytes, other orders of axes.

Parameters with two axes or more end in (in, out), or (out / groups, in) for transposed convolutions; PyTorch's begin
with (out, in). So ``*kernel,in,out`` is ``out,in,*kernel`` with its axes permuted, and a dense ``in,out`` is ``out,in``
transposed. With one axis both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["channels_first", "channels_last", "ours", "shared", "theirs", "to_array"]

Array = npt.NDArray[Any]


def theirs(tensor: torch.Tensor) -> torch.Tensor:
    """A parameter with our axes, seen with PyTorch's."""
    return tensor.permute(*_to_theirs(tensor.ndim))


def ours(tensor: torch.Tensor) -> torch.Tensor:
    """A parameter with PyTorch's axes, seen with ours."""
    order = _to_theirs(tensor.ndim)
    return tensor.permute(*np.argsort(order).tolist()) if order else tensor


def _to_theirs(ndim: int) -> Sequence[int]:
    return range(ndim) if ndim < 2 else (ndim - 1, ndim - 2, *range(ndim - 2))


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """N,*spatial,C seen as N,C,*spatial: PyTorch's channels_last format."""
    return x.movedim(-1, 1)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """N,C,*spatial seen as N,*spatial,C."""
    return x.movedim(1, -1)


def shared(array: Array) -> torch.Tensor:
    """A tensor on the memory of an array; a copy where nobody may write, which PyTorch knows no tensors for."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def to_array(tensor: torch.Tensor) -> Array:
    """A float32 copy on the host, C-contiguous, that belongs to the caller."""
    detached = tensor.detach().to("cpu", torch.float32)
    return np.array(detached.numpy(), np.float32, order="C")
