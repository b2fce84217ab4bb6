"""The one home of a model's numbers: parameters, buffers, optimiser state, moving averages. Plans share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fovea.errors import GraphError
from fovea.graph.graph import Graph
from fovea.ops.base import ParamSpec

__all__ = ["ParameterStore"]

Array = npt.NDArray[np.float32]


@dataclass
class ParameterStore:
    """Arrays by path, float32 and C-contiguous, updated in place. ``version`` counts changes: packed copies renew by
    it.

    ``updates`` counts optimiser updates (Adam's t); ``seed`` keys the randomness of training (dropout).
    """

    parameters: dict[str, Array]
    buffers: dict[str, Array]
    seed: int = 0
    optimizer_state: dict[str, dict[str, Array]] = field(default_factory=dict)
    ema: dict[str, Array] = field(default_factory=dict)
    updates: int = 0
    version: int = 0

    @classmethod
    def for_graph(cls, graph: Graph, seed: int = 0) -> ParameterStore:
        """Zero-filled arrays of the graph's shapes (see fovea.graph.initialize for starting values)."""
        return cls(
            {path: np.zeros(spec.shape, np.float32) for path, spec in graph.parameters().items()},
            {path: np.zeros(spec.shape, np.float32) for path, spec in graph.buffers().items()},
            seed,
        )

    def touch(self) -> None:
        """Say that arrays were changed from outside a plan."""
        self.version += 1

    def tensors(self) -> dict[str, Array]:
        """Parameters and buffers together: what a model file holds."""
        return {**self.parameters, **self.buffers}

    def load(self, values: Mapping[str, npt.ArrayLike], where: str = "weights") -> None:
        """Copy values into the arrays of the same paths, all or none. Raises GraphError naming what does not fit."""
        own = self.tensors()
        unknown = [path for path in values if path not in own]
        if unknown:
            raise GraphError(
                where, f"expected paths of this model, got {', '.join(unknown[:3])}; see model.parameters()"
            )
        arrays: dict[str, Array] = {}
        for path, value in values.items():
            try:
                arrays[path] = np.asarray(value, np.float32)
            except (TypeError, ValueError):
                got = type(value).__name__
                raise GraphError(
                    where, f"expected {path} as an array of numbers, got {got}; give a NumPy array"
                ) from None
        for path, array in arrays.items():
            if array.shape != own[path].shape:
                raise GraphError(
                    where,
                    f"expected {path} with shape {own[path].shape}, got {array.shape}; the weights are from "
                    "another architecture",
                )
        for path, array in arrays.items():
            own[path][...] = array
        self.touch()

    def ensure_slots(self, slots: tuple[str, ...], specs: Mapping[str, ParamSpec], *, ema: bool) -> None:
        """Create missing optimiser state (zeros) and moving averages (copies of the parameters)."""
        for path in specs:
            state = self.optimizer_state.setdefault(path, {})
            for slot in slots:
                if slot not in state:
                    state[slot] = np.zeros_like(self.parameters[path])
            if ema and path not in self.ema:
                self.ema[path] = self.parameters[path].copy()

    def copy(self) -> ParameterStore:
        """Independent copy of everything."""
        return ParameterStore(
            {path: array.copy() for path, array in self.parameters.items()},
            {path: array.copy() for path, array in self.buffers.items()},
            self.seed,
            {
                path: {slot: array.copy() for slot, array in state.items()}
                for path, state in self.optimizer_state.items()
            },
            {path: array.copy() for path, array in self.ema.items()},
            self.updates,
            self.version,
        )
