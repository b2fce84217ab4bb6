"""One table of samples for every op, swept over awkward sizes: what each engine is tested on.

Channels go around the widths of vector registers (V = 4, 8, 16: 1, V - 1, V, V + 1, 2 V + 1); images are 1xN; kernels
are larger and smaller than the stride; padding is asymmetric; windows leave a rest of the input unread. ``SAMPLES`` is
the list; a sample draws the same numbers on every call:

    for sample in SAMPLES:
        graph, inputs, parameters = sample.graph(), sample.inputs(), sample.parameters()
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.graph.graph import Graph
from fovea.ops import Input, Op, ParamSpec, Shape
from tests.op_sample_list import cases

__all__ = ["SAMPLES", "Sample", "samples_of"]

Array = npt.NDArray[Any]
Draw = Callable[[np.random.Generator, tuple[int, ...], int], Array]

# How an input is drawn, given a generator, the shape N,*sample, and the number of classes.
DRAWS: dict[str, Draw] = {
    "normal": lambda rng, shape, _: rng.standard_normal(shape),
    "ties": lambda rng, shape, _: rng.integers(-1, 2, shape).astype(np.float64),
    "kinks": lambda rng, shape, _: rng.choice([-7.0, -6, -3, -1, 0, 1, 3, 6, 7, 90, -90], shape),
    "large": lambda rng, shape, _: 40 * rng.standard_normal(shape),
    "nonzero": lambda rng, shape, _: rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape),
    "unit": lambda rng, shape, _: rng.uniform(0.02, 0.98, shape),
    "bits": lambda rng, shape, _: rng.integers(0, 2, shape).astype(np.float64),
    "probabilities": lambda rng, shape, _: rng.dirichlet([0.7] * shape[-1], shape[:-1]),
    "bytes": lambda rng, shape, _: rng.integers(0, 256, shape, np.uint8),
    "classes": lambda rng, shape, classes: rng.integers(0, classes, shape),
    "some ignored": lambda rng, shape, classes: rng.integers(-1, classes, shape),
    "all ignored": lambda rng, shape, _: np.full(shape, -1),
    "first class": lambda rng, shape, _: np.zeros(shape, np.int64),
}
_DTYPES = {
    "bytes": "uint8",
    "classes": "int64",
    "some ignored": "int64",
    "all ignored": "int64",
    "first class": "int64",
}
_NOT_SMOOTH = ("ties", "kinks")


@dataclass(frozen=True)
class Sample:
    """One op on inputs of given shapes (without the batch axis); ``draws`` names how each input is drawn."""

    id: str
    op: Op
    input_shapes: tuple[Shape, ...]
    draws: tuple[str, ...] = ()
    n: int = 2

    @property
    def dtypes(self) -> tuple[str, ...]:
        """float32, but int64 for class numbers and uint8 for images."""
        return tuple(_DTYPES.get(draw, "float32") for draw in self._draws)

    @property
    def smooth(self) -> bool:
        """False where inputs stand on ties or kinks, at which differences mean nothing."""
        return not any(draw in _NOT_SMOOTH for draw in self._draws)

    @property
    def movable(self) -> tuple[int, ...]:
        """The inputs that may be moved a little: floats that do not stand on the border of what the op accepts."""
        pairs = enumerate(zip(self._draws, self.dtypes, strict=True))
        return tuple(i for i, (draw, dtype) in pairs if dtype == "float32" and draw != "bits")

    @property
    def modes(self) -> tuple[bool, ...]:
        """The values of ``training`` that this op tells apart."""
        return (True, False) if self.op.has_randomness or self.op.buffers(*self.input_shapes) else (True,)

    @property
    def _draws(self) -> tuple[str, ...]:
        return self.draws or ("normal",) * len(self.input_shapes)

    def inputs(self, dtype: npt.DTypeLike = np.float32) -> tuple[Array, ...]:
        """N,*sample for every input; float64 holds the same float32 numbers."""
        rng, result = self._rng("inputs"), []
        for draw, shape, kind in zip(self._draws, self.input_shapes, self.dtypes, strict=True):
            array = DRAWS[draw](rng, (self.n, *_closed(shape)), _closed(self.input_shapes[0])[-1]).astype(kind)
            result.append(array.astype(dtype) if kind == "float32" else array)
        return tuple(result)

    def parameters(self, dtype: npt.DTypeLike = np.float32) -> dict[str, Array]:
        """By name within the op ("weight")."""
        return self._arrays("parameters", self.op.parameters(*self.input_shapes), dtype)

    def buffers(self, dtype: npt.DTypeLike = np.float32) -> dict[str, Array]:
        """By name within the op ("running_mean")."""
        return self._arrays("buffers", self.op.buffers(*self.input_shapes), dtype)

    def grad_outputs(self, dtype: npt.DTypeLike = np.float32) -> tuple[Array, ...]:
        """Random, never all ones; a scalar for a loss."""
        rng = self._rng("grad_outputs")
        batch = () if self.op.is_loss else (self.n,)
        shapes = [(*batch, *_closed(shape)) for shape in self.op.output_shapes(*self.input_shapes)]
        return tuple(np.asarray(rng.standard_normal(shape), np.float32).astype(dtype) for shape in shapes)

    def graph(self) -> Graph:
        """The one op between graph inputs ``x0, x1, ...``; its node is called ``node``."""
        pairs = zip(self.input_shapes, self.dtypes, strict=True)
        values = [Input(shape, dtype, name=f"x{i}") for i, (shape, dtype) in enumerate(pairs)]
        result = self.op(*values, name="node")
        return Graph(inputs=values or Input((1,), name="unused"), outputs=result)

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.id}/{purpose}".encode()))

    def _arrays(self, purpose: str, specs: dict[str, ParamSpec], dtype: npt.DTypeLike) -> dict[str, Array]:
        rng, result = self._rng(purpose), {}
        for name, spec in specs.items():
            if self.op.kind == "constant":
                drawn = np.broadcast_to(np.asarray(spec.value), spec.shape)
            elif name == "running_var":
                drawn = rng.uniform(0.3, 2, spec.shape)
            else:
                drawn = rng.standard_normal(spec.shape) / np.sqrt(spec.fan_in) + (0.7 if spec.init == "ones" else 0)
            result[name] = drawn.astype(np.float32).astype(dtype)
        return result


def _closed(shape: Shape) -> tuple[int, ...]:
    return tuple(size or 0 for size in shape)


SAMPLES: list[Sample] = [Sample(*case) for case in cases()]
"""Every sample; ids are ``kind`` or ``kind-what is special``."""


def samples_of(*kinds: str) -> list[Sample]:
    """The samples of some kinds of op."""
    return [sample for sample in SAMPLES if sample.op.kind in kinds]
