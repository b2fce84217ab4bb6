"""Arrays as a ``state_dict`` on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["MODULE_NAMES", "save_state"]

MODULE_NAMES = frozenset(dir(torch.nn.Module()))
"""What every module has already: no layer in it can be called so."""


def save_state(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a plain ``state_dict``: a dict of tensors that ``torch.load(path, weights_only=True)`` gives back."""
    torch.save({name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}, path)
