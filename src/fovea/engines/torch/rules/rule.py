"""What a rule is: it reads a node once, when a plan is compiled, and gives the function that computes it.

    rule(node, mode)     -> run
    run(layer, *inputs)  -> one tensor, or a tuple of them

``inputs`` have our axes N,*spatial,C; ``layer`` holds the node's parameters and buffers under their short names, with
PyTorch's axes (``fovea.engines.torch.layout``). The geometry of windows is resolved by the rule, from closed shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from fovea.graph.graph import Node

__all__ = ["Fixed", "Layer", "Mode", "Rule", "Run"]


class Layer(torch.nn.Module):
    """What one node owns: its parameters and buffers.

    ``key``: of ops that draw random numbers in a plan: int64, the two words of the key and the first sample's position.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor
    value: torch.Tensor
    key: torch.Tensor | None = None


Run = Callable[..., Any]


@dataclass(frozen=True)
class Mode:
    """How a node is computed. ``keyed``: masks by fovea.random's keys, else by PyTorch's own generator.

    ``synchronized``: batch statistics are those of all processes.
    """

    training: bool = False
    keyed: bool = True
    synchronized: bool = False


Rule = Callable[[Node, Mode], Run]


class Fixed:
    """Numbers that a rule has computed, as tensors: one for each device and dtype that asked."""

    def __init__(self, values: npt.ArrayLike) -> None:
        self._values = torch.as_tensor(values)
        self._made: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def like(self, x: torch.Tensor) -> torch.Tensor:
        """The numbers on the device and in the dtype of ``x``."""
        return self._on(x.device, x.dtype)

    def index(self, x: torch.Tensor) -> torch.Tensor:
        """As int64 on the device of ``x``."""
        return self._on(x.device, torch.int64)

    def _on(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        if (device, dtype) not in self._made:
            self._made[device, dtype] = self._values.to(device, dtype)
        return self._made[device, dtype]
