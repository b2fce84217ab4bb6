"""Feature maps: what layers make of samples, whole and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.registry import get_engine
from fovea.errors import ConfigError, GraphError
from fovea.features.passes import cut, passes
from fovea.features.samples import samples_of
from fovea.graph.graph import Graph
from fovea.model import Model

__all__ = ["Piece", "activations", "layer_names", "stream"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Piece:
    """Some consecutive samples: ``first`` is the number of the first among the readable ones, ``inputs`` what the
    network sees before the pixel half, ``outputs`` the output of each layer, N,*spatial,C."""

    first: int
    inputs: Array
    outputs: dict[str, Array]


def stream(
    model: Model, samples: Any, layers: Sequence[str], *, engine: str | None = None, what: str = "activations"
) -> Iterator[Piece]:
    """The outputs of layers for samples (a split, images, paths), piece by piece in one pass and bounded memory.

    Raises GraphError with near names for an unknown layer, DataError for samples that cannot be read.
    """
    names = layer_names(model.graph, layers)
    done = 0
    for inputs, outputs in passes(cut(model, names, None), samples_of(model, samples), get_engine(engine), None, what):
        yield Piece(done, inputs, dict(zip(names, outputs, strict=True)))
        done += len(inputs)


def activations(
    model: Model, samples: Any, layers: str | Sequence[str], *, engine: str | None = None
) -> dict[str, Array]:
    """Feature maps by layer, N,*spatial,C, for samples (uint8 images, paths, a split): what each node itself returns.

    Everything is kept: for data sets of any size see ``channel_statistics``, ``exciting`` and ``fovea.codes``. Raises
    the errors of ``stream``.

    >>> import fovea
    >>> model = fovea.models.lenet5(preprocessing=fovea.Preprocessing(size=(28, 28), channels=1))
    >>> activations(model, np.zeros((2, 28, 28, 1), np.uint8), "conv1")["conv1"].shape
    (2, 28, 28, 6)
    """
    names = [layers] if isinstance(layers, str) else layers
    parts = [piece.outputs for piece in stream(model, samples, names, engine=engine)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def layer_names(graph: Graph, layers: Sequence[str]) -> list[str]:
    """The names, each once, checked. Raises ConfigError for what is no list of names, GraphError with near names."""
    if isinstance(layers, str) or not isinstance(layers, (list, tuple)) or not layers:
        raise ConfigError("activations", f"expected layers as a list of names, got {layers!r}; see model.summary()")
    for name in layers:
        if graph.node(name).op.kind in ("input", "constant"):
            raise GraphError(name, f"expected a layer, got an {graph.node(name).op.kind}; see model.summary()")
    return list(dict.fromkeys(layers))
