"""A plan's parameter gradients as arrays, made when somebody asks: PyTorch keeps them where it computed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fovea.engines.torch.layout import ours, theirs

__all__ = ["Gradients"]

Array = npt.NDArray[Any]


class Gradients(MutableMapping[str, Array]):
    """Path -> gradient with our axes. On the CPU an array shares memory with PyTorch's tensor; of a GPU it is a copy.

    Setting an entry (an average over machines, say) replaces the gradient that ``update`` takes.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = parameters

    def __getitem__(self, path: str) -> Array:
        gradient = self._parameters[path].grad
        if gradient is None:
            raise KeyError(path)
        array: Array = ours(gradient).cpu().numpy()
        return array

    def __setitem__(self, path: str, value: Array) -> None:
        parameter = self._parameters[path]
        if parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)
        parameter.grad.copy_(theirs(torch.from_numpy(np.array(value, np.float32))))

    def __delitem__(self, path: str) -> None:
        if self._parameters[path].grad is None:
            raise KeyError(path)
        self._parameters[path].grad = None

    def __iter__(self) -> Iterator[str]:
        return (path for path, parameter in self._parameters.items() if parameter.grad is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Gradients({list(self)})"
