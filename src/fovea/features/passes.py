"""One pass over samples through the part of a network that some nodes need, piece by piece in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import progress
from fovea.engines.base import Engine, Plan
from fovea.errors import DataError
from fovea.features.samples import Samples
from fovea.graph.graph import Graph, Ref
from fovea.graph.objective import free_name
from fovea.model import Model
from fovea.ops import Flatten, GlobalAvgPool, GlobalMaxPool
from fovea.ops.base import Op, size_of

__all__ = ["POOLINGS", "cut", "passes"]

Array = npt.NDArray[Any]
POOLINGS: dict[str, Op] = {"mean": GlobalAvgPool(), "max": GlobalMaxPool(), "none": Flatten()}
"""What becomes of a map N,*spatial,C: its mean or maximum over the positions, N,C, or all of it, N,D."""
_PIECE_BYTES = 512 << 20
"""What the largest layer reads and writes of one piece of the data stays below this."""
_MOST = 32


def cut(model: Model, nodes: Sequence[str], pooling: str | None = "mean") -> Model:
    """The part of a network that the given nodes need, with their pooled values N,D as outputs (None: as they are,
    N,*spatial,C); shares the weights."""
    graph = model.graph.pruned([Ref(node) for node in nodes])
    entries: list[tuple[str, Op, tuple[Ref, ...]]] = [(one.name, one.op, one.inputs) for one in graph.nodes.values()]
    outputs = []
    for node in nodes:
        if pooling is None or len(graph.shape(node)) == 1:
            outputs.append(Ref(node))
            continue
        name = free_name(f"{node}.code", graph.nodes)
        entries.append((name, POOLINGS[pooling], (Ref(node),)))
        outputs.append(Ref(name))
    made = Model.from_store(
        Graph.from_nodes(entries, graph.inputs, outputs), model.store, None, model.preprocessing, None, model.name,
        quantization=model.quantization,
    )  # fmt: skip
    made.precision = model.precision
    return made


def passes(
    part: Model, stream: Samples, engine: Engine, batch_size: int | None = None, what: str = "codes"
) -> Iterator[tuple[Array, tuple[Array, ...]]]:
    """Every piece of the samples, as the network sees it before the pixel half, and the outputs of ``part`` for it.

    ``what``: the word of the progress bar. Raises DataError when no sample can be read.
    """
    plan: Plan | None = None
    done = 0
    with progress.bar(len(stream), what) as bar:
        size = _piece_size(part, stream, batch_size)
        for piece in stream.pieces(size):
            plan = plan or _plan(part, piece, engine, size)
            values = plan.forward(piece)
            yield piece, tuple(np.asarray(value) for value in (values if isinstance(values, tuple) else (values,)))
            done += len(piece)
            bar.update(len(piece))
    if not done:
        raise DataError(what, "expected at least one sample that can be read, got none; see fovea data check")


def _piece_size(part: Model, stream: Samples, batch_size: int | None) -> int:
    """As asked, else what keeps the activations in bounds; for networks of open size a guess that is small."""
    if batch_size is None:
        shapes, known = part.graph.input_shapes, part.preprocessing
        if known is not None and known.size is not None:
            shapes = ((*known.size, known.channels),)
        batch_size = 8
        if not any(size is None for shape in shapes for size in shape):
            nodes = part.graph.at(*shapes).nodes.values()
            largest = max(sum(map(size_of, (*node.input_shapes, *node.output_shapes))) for node in nodes)
            batch_size = max(1, min(_MOST, _PIECE_BYTES // (4 * largest)))
    return min(batch_size, len(stream))


def _plan(part: Model, piece: Array, engine: Engine, capacity: int) -> Plan:
    pixels = part.preprocessing is not None
    return part.compile(engine, capacity, pixels=pixels, input_shape=piece.shape[1:], precision=part.precision)
