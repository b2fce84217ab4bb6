"""``fovea.verify``: the same model on every engine and in onnxruntime, layer by layer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.reference import ReferenceEngine
from fovea.engines.registry import available_engines, get_engine
from fovea.errors import ConfigError, DataError, EngineError, FoveaError, ShapeError
from fovea.graph.graph import Graph, Ref
from fovea.graph.summary import summarize
from fovea.interop.sides import EngineSide, RuntimeSide, Side, computed
from fovea.interop.sizes import at_its_size
from fovea.model import Model
from fovea.ops.base import is_number

__all__ = ["verify"]

Array = npt.NDArray[Any]

NOISE = 32
"""A side may be so many times further from float64 than the textbook in float32: other orders of summation, fast
convolution, fused steps."""
MOST_NOISE = 0.01
"""Of the largest value: beyond it a layer is too ill-conditioned to excuse anything."""
_CHUNK_BYTES = 256 << 20


@dataclass
class Worst:
    """The largest difference so far, and where it is: sample, position, channel."""

    error: float = -1.0
    index: tuple[int, ...] = ()
    expected: float = 0.0
    got: float = 0.0

    def see(self, array: Array, truth: Array, start: int) -> None:
        """Samples from number ``start`` on. What is not a number here and there is equal; here alone it is infinitely
        far."""
        array = np.broadcast_to(array, truth.shape)  # what depends on constants alone has one sample
        with np.errstate(invalid="ignore"):
            errors = np.abs(array - truth)
        same = (array == truth) | (np.isnan(array) & np.isnan(truth))
        errors = np.where(same, 0.0, np.where(np.isnan(errors), np.inf, errors))
        place = np.unravel_index(int(np.argmax(errors)), errors.shape)
        if errors[place] > self.error:
            self.index = (start + int(place[0]), *(int(i) for i in place[1:]))
            self.error, self.expected, self.got = float(errors[place]), float(truth[place]), float(array[place])


@dataclass
class Row:
    """One value of the network: its largest element in float64, float32's own noise, every side's difference."""

    ref: Ref
    largest: float = 0.0
    noise: float = 0.0
    worst: dict[str, Worst] = field(default_factory=dict)

    def see(self, truth: Array, single: Array | None, sides: dict[str, Array], start: int) -> None:
        """Take the next samples into account."""
        finite = np.abs(truth[np.isfinite(truth)])
        self.largest = max(self.largest, float(finite.max(initial=0.0)))
        if single is not None:
            noise = Worst()
            noise.see(single, truth, start)
            self.noise = max(self.noise, noise.error)
        for name, array in sides.items():
            self.worst.setdefault(name, Worst()).see(array, truth, start)

    def allowed(self, tolerance: float) -> float:
        """How far a side may be off."""
        return tolerance * self.largest + min(NOISE * self.noise, MOST_NOISE * self.largest)

    def differing(self, tolerance: float) -> list[str]:
        """The sides that are off by more."""
        return [name for name, worst in self.worst.items() if worst.error > self.allowed(tolerance)]


def verify(
    model: Model,
    inputs: Array | Sequence[Array] | None = None,
    *,
    images: Any = None,
    input_shape: Sequence[int] | None = None,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute a model on every installed engine, and its export in onnxruntime, and compare all values of all layers.

    ``inputs``: float32 network input N,*spatial,C (one array for each input); ``images``: uint8 images or paths, as
    ``model.predict`` takes; neither: two random samples of ``seed``. ``input_shape`` closes sizes that the model
    leaves open.

    All are compared in float32 with the reference engine in float64, twice: with every value kept, so that nothing is
    fused, and as they run otherwise. A layer may differ by ``tolerance`` times its largest value plus 32 times what
    the reference differs in float32. A quantised model is compared by its float32 weights.

    Returns plain values: ``equal``; ``sides`` (names); ``absent`` (name -> why it was not compared); ``samples``;
    ``layers``, for each value ``node, op, shape, largest, allowed, errors`` (by side; the largest absolute difference);
    ``outputs``, the same for the network as it runs; ``first``, None or the first layer that differs: ``node, op, side,
    fused, error, allowed, index, expected, got``. Raises ConfigError, DataError or ShapeError, in one line.

    >>> import fovea
    >>> fovea.verify(fovea.models.lenet5())["equal"]
    True
    """
    if not isinstance(model, Model):
        raise ConfigError("verify", f"expected a Model, got {type(model).__name__}; fovea.load reads one from a file")
    if not is_number(tolerance) or not 0 <= tolerance < 1:
        raise ConfigError("verify", f"expected tolerance as a number from 0 to 1, got {tolerance!r}; 1e-5 is usual")
    arrays = _inputs(model, inputs, images, input_shape, seed)
    closed = Model.from_store(model.graph.at(*(array.shape[1:] for array in arrays)), model.store, name=model.name)
    count = len(arrays[0])
    per_sample = 3 * summarize(closed.graph).totals["activation_bytes"]  # one in float64, one in float32
    chunk = max(1, min(count, _CHUNK_BYTES // max(1, per_sample)))
    truth = EngineSide("float64", ReferenceEngine(np.float64), closed, chunk)
    sides, absent = _sides(closed, chunk)
    comparison = _Comparison(closed.graph, truth, sides, absent)
    for start in range(0, count, chunk):
        comparison.take([array[start : start + chunk] for array in arrays], start)
    first = comparison.first(tolerance, [array[:chunk] for array in arrays])
    return {
        "equal": first is None,
        "sides": [side.name for side in comparison.sides],
        "absent": absent,
        "samples": count,
        "tolerance": tolerance,
        "layers": [_described(closed.graph, row, tolerance) for row in comparison.layers.values()],
        "outputs": [_described(closed.graph, row, tolerance) for row in comparison.outputs.values()],
        "first": first,
    }


def _sides(model: Model, batch_size: int) -> tuple[list[Side], dict[str, str]]:
    """Whatever can compute the model here, and why the others cannot."""
    sides: list[Side] = []
    absent: dict[str, str] = {}
    for name in available_engines():
        try:
            sides.append(EngineSide(name, get_engine(name), model, batch_size))
        except EngineError as error:
            absent[name] = error.message
    try:
        sides.append(RuntimeSide(model))
    except FoveaError as error:
        absent[RuntimeSide.name] = error.message
    return sorted(sides, key=lambda side: side.name != "reference"), absent


class _Comparison:
    """All rows, filled chunk by chunk."""

    def __init__(self, graph: Graph, truth: Side, sides: list[Side], absent: dict[str, str]) -> None:
        self.graph, self.truth, self.sides, self.absent = graph, truth, sides, absent
        self.layers = {ref: Row(ref) for ref in computed(graph)}
        self.outputs = {ref: Row(ref) for ref in graph.outputs if ref in self.layers}

    def take(self, inputs: list[Array], start: int) -> None:
        """Compare on some more samples."""
        exact, found = self.truth.values(inputs), {}
        for side in list(self.sides):
            try:
                found[side.name] = side.values(inputs), dict(zip(self.graph.outputs, side.outputs(inputs), strict=True))
            except EngineError as error:
                self.absent[side.name] = error.message
                self.sides.remove(side)
        single = found.get("reference", ({}, {}))[0]
        for rows, which in ((self.layers, 0), (self.outputs, 1)):
            for ref, row in rows.items():
                given = {name: pair[which][ref] for name, pair in found.items() if ref in pair[which]}
                row.see(exact[ref], single.get(ref), given, start)

    def first(self, tolerance: float, inputs: list[Array]) -> dict[str, Any] | None:
        """The first layer that differs when all are kept; else the first that differs when layers are fused."""
        for row in self.layers.values():
            for name in row.differing(tolerance):
                return self._difference(row, name, tolerance, False)
        for row in self.outputs.values():
            for name in row.differing(tolerance):
                return self._first_fused(name, tolerance, inputs) or self._difference(row, name, tolerance, True)
        return None

    def _first_fused(self, name: str, tolerance: float, inputs: list[Array]) -> dict[str, Any] | None:
        """Layer by layer, with only that one kept."""
        (side,) = (one for one in self.sides if one.name == name)
        exact = self.truth.values(inputs)
        for ref, row in self.layers.items():
            array = side.alone(ref, inputs)
            if array is None:
                continue
            alone = Row(ref, row.largest, row.noise)
            alone.see(exact[ref], None, {name: array}, 0)
            if alone.differing(tolerance):
                return self._difference(alone, name, tolerance, True)
        return None

    def _difference(self, row: Row, name: str, tolerance: float, fused: bool) -> dict[str, Any]:
        worst = row.worst[name]
        return {
            "node": row.ref.node, "output": row.ref.index, "op": self.graph.node(row.ref.node).op.kind, "side": name,
            "fused": fused, "error": worst.error, "allowed": row.allowed(tolerance), "index": list(worst.index),
            "expected": worst.expected, "got": worst.got,
        }  # fmt: skip


def _described(graph: Graph, row: Row, tolerance: float) -> dict[str, Any]:
    node = graph.node(row.ref.node)
    return {
        "node": node.name, "output": row.ref.index, "op": node.op.kind, "shape": list(graph.shape(row.ref)),
        "largest": row.largest, "allowed": row.allowed(tolerance),
        "errors": {name: worst.error for name, worst in row.worst.items()}, "differs": row.differing(tolerance),
    }  # fmt: skip


def _inputs(model: Model, inputs: Any, images: Any, input_shape: Sequence[int] | None, seed: int) -> list[Array]:
    """One array for each input of the network."""
    if inputs is not None and images is not None:
        raise ConfigError("verify", "expected inputs or images, got both; verify them one after the other")
    if images is not None:
        return [_pixels(model, images)]
    if inputs is None:
        return _random(at_its_size(model).graph if input_shape is None else model.graph, input_shape, seed)
    given = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    arrays = [np.asarray(array) for array in given]
    if len(arrays) != len(model.graph.inputs) or any(array.ndim < 1 or not len(array) for array in arrays):
        shapes = [array.shape for array in arrays]
        raise ShapeError(
            "verify", f"expected {len(model.graph.inputs)} array(s) of at least one sample, got {shapes}; one per input"
        )
    return arrays


def _pixels(model: Model, images: Any) -> Array:
    """What preprocessing makes of images, or of the files that hold them."""
    how = model.preprocessing
    if how is None:
        raise DataError(
            "verify", "expected a model that knows its preprocessing, got one without; verify it on random input"
        )
    samples: Any = [images] if isinstance(images, (str, os.PathLike)) else images
    if isinstance(samples, np.ndarray) and samples.ndim == len(model.graph.input_shapes[0]):
        samples = samples[None]
    if not isinstance(samples, np.ndarray) and any(isinstance(one, (str, os.PathLike)) for one in samples):
        from fovea.data.samples import read_samples  # brings every reader of files

        samples = read_samples([Path(one) for one in samples], how)
    if not len(samples):
        raise DataError("verify", "expected at least one image, got none; name a file")
    return how.apply_pixels(how.apply_spatial(samples))


def _random(graph: Graph, input_shape: Sequence[int] | None, seed: int) -> list[Array]:
    """Two samples: normal numbers, or bytes, or 0 and 1 where whole numbers are wanted."""
    if input_shape is not None:
        graph = graph.at(tuple(input_shape))
    if any(size is None for shape in graph.input_shapes for size in shape):
        raise ShapeError(
            "verify",
            f"expected closed input sizes, got {graph.input_shapes}; give input_shape=(H, W, C) or --input-shape",
        )
    rng, arrays = np.random.default_rng(seed), []
    for name, shape in zip(graph.inputs, graph.input_shapes, strict=True):
        size = (2, *(one or 0 for one in shape))
        dtype = getattr(graph.node(name).op, "dtype", "float32")
        arrays.append(
            rng.standard_normal(size).astype(np.float32)
            if dtype == "float32"
            else rng.integers(0, 256 if dtype == "uint8" else 2, size).astype(dtype)
        )
    return arrays
