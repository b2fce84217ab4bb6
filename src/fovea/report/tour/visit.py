"""What a tour is made of: the model, the pictures and data it is shown with, and the time that it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from fovea import progress
from fovea.errors import FoveaError, GraphError
from fovea.explain.channels import activation_layers
from fovea.features.depth import depths
from fovea.graph.graph import Graph

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset, Split
    from fovea.data.preprocess import Preprocessing
    from fovea.model import Model
    from fovea.tasks.base import Prediction

__all__ = ["Visit", "evenly"]

Array = npt.NDArray[Any]
T = TypeVar("T")
_POOLED = frozenset({"globalavgpool", "globalmaxpool", "adaptiveavgpool", "reduce", "flatten", "reshape", "dropout"})
_WINDOWS = frozenset({"maxpool", "avgpool"})
"""What they give is a map again, with the channels, and the exciting patches, of the one below: nothing new to see."""


@dataclass(eq=False)
class Visit:
    """One tour. ``given``: pictures as they came, ``images``: as the network sees them, N,*spatial,C before the pixel
    half (none: an empty array), ``names``. ``data``: decoded as the model needs it; ``labelled``: whether its classes
    mean anything. ``seconds``: what the whole tour may take."""

    model: Model
    known: Preprocessing
    given: list[Array]
    images: Array
    names: tuple[str, ...]
    data: Dataset | None
    labelled: bool
    seconds: float
    seed: int = 0
    engine: str | None = None
    most: int = 2000
    started: float = field(default_factory=time.monotonic)
    left_out: list[str] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.seconds - (time.monotonic() - self.started)

    def attempt(self, what: str, make: Callable[[], T], seconds: float = 0.0) -> T | None:
        """The result, or None with a line among what was left out: when fewer than ``seconds`` remain (0: it is cheap,
        and done in any case), or where this network or these data do not allow it."""
        if seconds > 0 and self.left < seconds:
            self.left_out.append(f"{what}: about {progress.seconds_as_text(seconds)} were needed, less was left")
            return None
        begun = time.monotonic()
        try:
            return make()
        except FoveaError as error:
            self.left_out.append(f"{what}: {error.message}")
            return None
        finally:
            self.spent[what] = self.spent.get(what, 0.0) + time.monotonic() - begun

    @property
    def is_classifier(self) -> bool:
        """Whether there are classes to explain."""
        return self.model.task.kind == "classification" and len(self.model.graph.outputs) == 1

    @property
    def is_detector(self) -> bool:
        """Whether there are boxes to explain."""
        return self.model.task.kind == "detection"

    @cached_property
    def explained(self) -> list[int]:
        """Rows of the images whose first class, or surest box, can be explained."""
        if self.known.kind != "image":
            return []
        if self.is_detector:
            return [row for row, said in enumerate(self.predictions) if said.objects]  # type: ignore[attr-defined]
        return list(range(len(self.images))) if self.is_classifier else []

    @property
    def has_gradients(self) -> bool:
        """Whether images can be made: not of int8 networks."""
        return self.model.quantization is None

    @cached_property
    def graph(self) -> Graph:
        """The network's graph at the size that it is shown with."""
        own = self.model.graph.input_shapes[0]
        size = self.images.shape[1:-1] if len(self.images) else self.known.size or own[:-1]
        if None in size and self.data is not None:
            size = self.data.input_shape[:-1]
        return self.model.graph.at((*size, own[-1]))

    @cached_property
    def stops(self) -> list[str]:
        """Layers with space at which the tour stops, from first to last: ends of blocks, spread over the depth."""
        names = list(dict.fromkeys(name for one in self._depths() if (name := self._map_of(one)) is not None))
        return [names[row] for row in evenly(len(names), 5)]

    def _depths(self) -> list[str]:
        try:
            return depths(self.graph, 24)
        except GraphError:  # no classifier at the end: every map counts
            axes = len(self.graph.input_shapes[0])
            return [name for name in activation_layers(self.graph) if len(self.graph.shape(name)) == axes]

    def _map_of(self, name: str) -> str | None:
        """The map with more than one position that a node is, or pools; None where there is none."""
        axes = len(self.graph.input_shapes[0])
        while True:
            node, shape = self.graph.node(name), self.graph.shape(name)
            if not node.inputs or node.op.kind == "input":
                return None
            has_space = len(shape) == axes and any(size != 1 for size in shape[:-1])
            if has_space and node.op.kind not in _WINDOWS:
                return name
            if node.op.kind not in _POOLED | _WINDOWS:
                return None
            name = node.inputs[0].node

    @cached_property
    def samples(self) -> Split | None:
        """Samples of the train split, evenly drawn where there are very many; None without data."""
        return None if self.data is None else self.data.train.take(evenly(len(self.data.train), self.most))

    @cached_property
    def predictions(self) -> list[Prediction]:
        """What the network says of the images; nothing where its task cannot read its outputs."""
        if not len(self.images):
            return []
        count = len(self.model.graph.outputs)
        if count > 1 and self.model.task.kind != "detection":
            self.left_out.append(f"answers: a task of {self.model.task.kind} has one output, this network {count}")
            return []

        def decode() -> list[Prediction]:
            outputs = self.model.logits(self.images)
            return self.model.task.decode(outputs, classes=self.model.classes, top_k=5)

        return self.attempt("answers", decode) or []


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``, from the first to the last, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)).tolist() if count else []
