"""Networks through torch.compile: one compilation for each plan, and what is told where none is possible."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from fovea.errors import EngineError

__all__ = ["Compiled"]

_APART: dict[str, Any] = {  # else all plans of a process share eight compilations, and those after them run as they are
    name: True for name in ("isolate_recompiles",) if name in inspect.signature(torch.compile).parameters
}


class Compiled:
    """A network, compiled for the number of samples that first comes twice in a row; others run as they are.

    Compiling takes tens of seconds, a batch of another size (the last of an epoch) comes rarely. The plain run before
    it makes what rules keep for later calls (``Fixed``), which would otherwise make the compilation out of date.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self._compiled: Any = torch.compile(network, dynamic=False, **_APART)
        self._size: int | None = None  # compiled for
        self._last: int | None = None
        self._went_back = False

    def __call__(self, *values: torch.Tensor) -> Any:
        """The network's values. Raises EngineError where PyTorch cannot compile."""
        size = values[0].shape[0]
        if self._size is None and size == self._last:
            self._size = size
        self._last = size
        if size != self._size:
            return self._network(*values)
        try:
            return self._compiled(*values)
        except TorchDynamoException as error:
            raise _refused(error) from error

    def keeps_graph(self) -> bool:
        """Whether the backward that comes now must keep autograd's graph, whatever comes after it.

        PyTorch compiles a backward when it first runs. One that was compiled for a graph that goes (``train_step``)
        refuses graphs that stay (``loss_backward``); one that was compiled for graphs that stay takes both.
        """
        first = self._last == self._size and not self._went_back
        self._went_back |= first
        return first


def _refused(error: Exception) -> EngineError:
    """What the compiler of PyTorch says at such length, in one sentence."""
    inner = getattr(error, "inner_exception", error)
    said = " ".join([type(inner).__name__ + ":", *str(inner).strip().splitlines()[:1]])
    return EngineError("torch", f"expected a network that torch.compile takes, got {said}; leave --compile out")
