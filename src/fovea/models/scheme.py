"""How one library names the layers of one network, and in what its network differs from ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fovea.graph.graph import Graph

__all__ = ["Scheme", "nodes_with_parameters"]


@dataclass(frozen=True)
class Scheme:
    """``names(graph)``: names of the library's layers, one for every node with parameters, in the order of our nodes.

    ``options``: of our network, where the library's differs from our default. ``eps``: of the library's batch norms
    where it is another than ours; a file that tells it itself goes before.
    """

    library: str
    names: Callable[[Graph], list[str]]
    options: Mapping[str, Any] = field(default_factory=dict)
    eps: float | None = None

    @property
    def keras(self) -> bool:
        """Whether layouts are Keras's, which are ours, and not PyTorch's."""
        return self.library.startswith("Keras")

    def plain(self, name: str) -> str:
        """A layer's name as ``names`` spells it: Keras's versions differ in case, and "/BatchNorm" became "_bn"."""
        return name.lower().replace("/", "_").replace("batchnorm", "bn") if self.keras else name


def nodes_with_parameters(graph: Graph) -> list[str]:
    """Names of the nodes that hold weights, in order."""
    return [node.name for node in graph.nodes.values() if node.parameters]
