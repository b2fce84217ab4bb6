"""The one home of a model's numbers: parameters, buffers, optimiser state, moving averages. Plans share it.

A plan that computes on another device trains copies there, and copying them back at every step would cost more than the
step. It *lends*: ``store.lend(group, fetch)`` says that newer values of a group lie elsewhere, and ``fetch`` is called
the moment somebody reads that group (an evaluation on another engine, a checkpoint, ``model.parameters()``). So whoever
reads the store sees the newest numbers, and nobody else knows about devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from fovea.errors import GraphError
from fovea.graph.graph import Graph
from fovea.ops.base import ParamSpec

__all__ = ["ParameterStore"]

Array = npt.NDArray[np.float32]
Slots = dict[str, dict[str, Array]]


class ParameterStore:
    """Arrays by path, float32 and C-contiguous, updated in place. ``version`` counts changes: packed copies renew by
    it.

    ``updates`` counts optimiser updates (Adam's t); ``seed`` keys the randomness of training (dropout).
    """

    def __init__(
        self,
        parameters: dict[str, Array],
        buffers: dict[str, Array],
        seed: int = 0,
        optimizer_state: Slots | None = None,
        ema: dict[str, Array] | None = None,
        updates: int = 0,
        version: int = 0,
    ) -> None:
        self._parameters, self._buffers = parameters, buffers
        self._optimizer_state: Slots = {} if optimizer_state is None else optimizer_state
        self._ema: dict[str, Array] = {} if ema is None else ema
        self._lent: dict[str, Callable[[], None]] = {}
        self.seed, self.updates, self.version = seed, updates, version

    @classmethod
    def for_graph(cls, graph: Graph, seed: int = 0) -> ParameterStore:
        """Zero-filled arrays of the graph's shapes (see fovea.graph.initialize for starting values)."""
        return cls(
            {path: np.zeros(spec.shape, np.float32) for path, spec in graph.parameters().items()},
            {path: np.zeros(spec.shape, np.float32) for path, spec in graph.buffers().items()},
            seed,
        )

    # --- the four groups of arrays

    @property
    def parameters(self) -> dict[str, Array]:
        """Path -> array of everything trainable."""
        self._fetch("parameters")
        return self._parameters

    @property
    def buffers(self) -> dict[str, Array]:
        """Path -> array of running statistics and constants."""
        self._fetch("buffers")
        return self._buffers

    @property
    def optimizer_state(self) -> Slots:
        """Path -> slot -> array, for the parameters that were updated."""
        self._fetch("optimizer_state")
        return self._optimizer_state

    @optimizer_state.setter
    def optimizer_state(self, state: Slots) -> None:
        self._replace("optimizer_state")
        self._optimizer_state = state

    @property
    def ema(self) -> dict[str, Array]:
        """Path -> moving average of the parameter."""
        self._fetch("ema")
        return self._ema

    @ema.setter
    def ema(self, ema: dict[str, Array]) -> None:
        self._replace("ema")
        self._ema = ema

    def lend(self, group: str, fetch: Callable[[], None]) -> None:
        """Newer values of ``group`` ("parameters", "buffers", "optimizer_state" or "ema") lie elsewhere; ``fetch``
        writes them into the arrays and is called once, before anybody reads them."""
        self._lent[group] = fetch

    def settle(self) -> None:
        """Bring back everything that was lent: for whoever holds arrays of the store instead of asking for them."""
        for group in list(self._lent):
            self._fetch(group)

    def _fetch(self, group: str) -> None:
        if self._lent:
            fetch = self._lent.pop(group, None)
            if fetch is not None:
                fetch()

    def _replace(self, group: str) -> None:
        self._lent.pop(group, None)
        self.touch()  # copies elsewhere are old now

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles hold the newest numbers and no devices."""
        self.settle()
        return self.__dict__

    # --- what is done with them

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
        states, averages, parameters = self.optimizer_state, self.ema, self.parameters
        for path in specs:
            state = states.setdefault(path, {})
            for slot in slots:
                if slot not in state:
                    state[slot] = np.zeros_like(parameters[path])
            if ema and path not in averages:
                averages[path] = parameters[path].copy()

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
