"""Filters: those of the first layer in the colours of the input, deeper ones in slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import GraphError
from fovea.graph.graph import Node
from fovea.model import Model

__all__ = ["Filters", "filters", "first_layer"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Filters:
    """The weights of one convolution: ``weight`` out_channels,*kernel,C_in / groups.

    ``is_first``: whether it reads the input itself, so that the last axis is red, green and blue and a filter is the
    picture to which it answers most, of all with its norm. The filters of deeper layers are no pictures: each has one
    slice for every channel below, and what that channel stands for has to be known to read it. ``norms``: out_channels,
    C_in / groups, the root of the sum of squares of each slice: from which channels an output takes most.
    """

    layer: str
    weight: npt.NDArray[np.float32]
    groups: int
    is_first: bool

    @property
    def norms(self) -> npt.NDArray[np.float64]:
        """out_channels, C_in / groups."""
        axes = tuple(range(1, self.weight.ndim - 1))
        return np.asarray(np.sqrt((self.weight.astype(np.float64) ** 2).sum(axis=axes)))

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel has one position: it mixes channels and sees no shapes."""
        return all(size == 1 for size in self.weight.shape[1:-1])

    def strongest(self, channel: int, count: int) -> list[int]:
        """The channels below (numbers in the layer's input) from which an output channel takes most."""
        row = self.norms[channel]
        offset = channel // (len(self.weight) // self.groups) * len(row)
        return [int(i) + offset for i in np.argsort(-row, kind="stable")[:count]]

    def note(self) -> str:
        """What such a picture is, and is not, in one or two sentences."""
        if self.is_first:
            how = "in the colours of the input" if self.weight.ndim == 4 and self.weight.shape[-1] == 3 else "by itself"
            return f"Each filter {how}: the pattern of the input that it answers to most strongly."
        if self.weight.shape[-1] == 1 and self.groups > 1:
            return ("Depthwise filters: each looks at one channel below, shown in grey. They are no pictures of the "
                    "input: what they mean depends on what that channel stands for.")  # fmt: skip
        if self.is_pointwise and self.weight.shape[-1] > 1:
            below = "channel below" if self.groups == 1 else "channel of its group below"
            return (f"A kernel of one position: a matrix with one row for each channel and one column for each {below} "
                    "(bright raises, dark lowers). It mixes channels and sees no shapes.")  # fmt: skip
        if self.weight.ndim == 3:
            return ("A line for every channel below. These are no pictures of the input: what a line means depends on "
                    "what its channel stands for.")  # fmt: skip
        return ("One slice for every channel below (bright raises, dark lowers), the strongest first. These are no "
                "pictures of the input: what a slice means depends on what its channel stands for. Feature "
                "visualisation and the most exciting patches show what the sum of them looks for.")  # fmt: skip


def filters(model: Model, layer: str | None = None) -> Filters:
    """The filters of a convolution (None: the first one). Raises GraphError with near names, or for other layers."""
    node = first_layer(model) if layer is None else model.graph.node(layer)
    if node.op.kind != "conv":
        raise GraphError(node.name, f"expected a convolution, got {node.op.kind}; see fovea summary")
    weight = np.moveaxis(model.parameters()[f"{node.name}.weight"], -1, 0)
    groups: int = node.op.groups  # type: ignore[attr-defined]  # it is a Conv
    source = model.graph.node(node.inputs[0].node)
    while source.op.kind in ("normalize", "pad"):
        source = model.graph.node(source.inputs[0].node)
    return Filters(node.name, np.ascontiguousarray(weight), groups, source.op.kind == "input")


def first_layer(model: Model) -> Node:
    """The first convolution. Raises GraphError where there is none."""
    for node in model.graph.nodes.values():
        if node.op.kind == "conv":
            return node
    raise GraphError("filters", "expected a network with a convolution, got none; its weights are no filters")
