"""Inference by one model: plans that are kept, for arrays of any length, in chunks that fit into memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fovea.data.preprocess import Preprocessing
from fovea.engines.base import Engine, Plan
from fovea.engines.registry import get_engine
from fovea.errors import ShapeError
from fovea.graph.graph import Graph
from fovea.graph.summary import summarize

__all__ = ["Inference"]

Array = npt.NDArray[Any]
Shapes = tuple[tuple[int, ...], ...]
_CHUNK_BYTES = 256 << 20
"""Activations of one chunk stay below this."""
_MOST_SAMPLES = 256
_CACHED_PLANS = 4


class Compiles(Protocol):
    """What inference needs of a model."""

    graph: Graph
    preprocessing: Preprocessing | None
    precision: str
    device: str | None

    def compile(self, engine: Engine, batch_size: int, *, pixels: bool, **options: Any) -> Plan:
        """A plan that shares its numbers."""


class Inference:
    """The plans of one model, the last used last. Threads that ask it wait for each other: a plan serves one caller."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._bytes: dict[Shapes, int] = {}
        self._lock = threading.Lock()

    def run(
        self, model: Compiles, inputs: Sequence[Array], keep: tuple[str, ...] = (), pixels: bool = False
    ) -> dict[str, Any]:
        """Network inputs N,... -> "outputs", one array or a tuple, and the activations of the nodes ``keep`` by name.

        ``pixels``: inputs are what the spatial half of preprocessing gives. Raises ShapeError for inputs that do not
        fit.
        """
        arrays = [np.asarray(array) for array in inputs]
        _check(model, arrays)
        parts: list[list[Array]] = []
        with self._lock:
            plan = self._plan(model, tuple(tuple(array.shape[1:]) for array in arrays), len(arrays[0]), keep, pixels)
            capacity = plan.spec.batch_size
            for start in range(0, len(arrays[0]), capacity):
                result = plan.forward(*(array[start : start + capacity] for array in arrays))
                outputs = list(result) if isinstance(result, tuple) else [result]
                parts.append(outputs + [plan.kept[name] for name in keep])
        joined = [np.concatenate(column) if len(column) > 1 else column[0] for column in zip(*parts, strict=True)]
        count = len(joined) - len(keep)
        outputs_value = joined[0] if count == 1 else tuple(joined[:count])
        return {"outputs": outputs_value, **dict(zip(keep, joined[count:], strict=True))}

    def _plan(self, model: Compiles, shapes: Shapes, n: int, keep: tuple[str, ...], pixels: bool) -> Plan:
        if shapes not in self._bytes:
            self._bytes[shapes] = summarize(model.graph.at(*shapes)).totals["activation_bytes"]
        limit = max(1, min(_MOST_SAMPLES, _CHUNK_BYTES // max(1, self._bytes[shapes])))
        capacity = min(limit, 1 << (n - 1).bit_length())
        engine, how = get_engine(None, model.device), model.preprocessing if pixels else None
        key = (engine.name, shapes, capacity, keep, pixels, how, model.precision, model.device)
        if key not in self._plans:
            options = {"input_shape": shapes, "keep": keep, "precision": model.precision, "device": model.device}
            self._plans[key] = model.compile(engine, capacity, pixels=pixels, **options)
            while len(self._plans) > _CACHED_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]


def _check(model: Compiles, arrays: Sequence[Array]) -> None:
    """Raise ShapeError unless there is one array for each input, all with the same number of samples."""
    if len(arrays) != len(model.graph.inputs) or any(array.ndim < 1 or len(array) == 0 for array in arrays):
        raise ShapeError(
            "model",
            f"expected {len(model.graph.inputs)} array(s) with at least one sample, got "
            f"{[array.shape for array in arrays]}; one image is image[None]",
        )
    if any(len(array) != len(arrays[0]) for array in arrays):
        raise ShapeError(
            "model",
            f"expected as many samples in every input, got {[len(array) for array in arrays]}; give them in pairs",
        )
