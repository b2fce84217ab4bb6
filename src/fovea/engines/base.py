"""The contract between a model and the engines that compute it, on one page.

An ``Engine`` turns a graph into a ``Plan``: the graph compiled for a batch capacity, an input size and a purpose
(``spec.py``). A plan shares the model's ParameterStore and owns its buffers; it serves one caller at a time.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fovea.engines.spec import PlanSpec, prepare
from fovea.engines.world import World, launched_processes
from fovea.errors import EngineError, ShapeError
from fovea.graph.graph import Graph
from fovea.graph.store import ParameterStore

__all__ = ["Engine", "Plan", "Step"]

Array = npt.NDArray[Any]
Outputs = Any
"""One array for a graph with one output, else a tuple of arrays."""


@dataclass(frozen=True)
class Step:
    """Result of a training step: total loss (weighted sum, before the update), each loss, outputs, gradient norm
    before clipping."""

    loss: float
    losses: tuple[float, ...]
    outputs: Outputs
    grad_norm: float


class Plan(abc.ABC):
    """A compiled graph. Every call takes any n up to ``spec.batch_size`` samples. Arrays that it returns belong to
    the caller."""

    def __init__(self, spec: PlanSpec, store: ParameterStore) -> None:
        self.spec = spec
        self.store = store
        self.kept: dict[str, Array] = {}
        """After forward: the outputs of the nodes named in ``keep``."""
        self.gradients: MutableMapping[str, Array] = {}
        """Accumulated parameter gradients by path, until ``update`` consumes them."""
        self.wrt_gradients: dict[str, Array] = {}
        """After ``backward`` or ``loss_backward``: the gradients of the nodes of ``wrt``."""
        self.first_sample = 0
        """Where the samples of a call begin in a batch that several processes share: masks go on from there."""
        self.more_follow = False
        """Whether further pieces of a batch follow before the update: processes share gradients with the last."""

    @abc.abstractmethod
    def forward(self, *inputs: Array, out: Array | None = None, step: int = 0) -> Outputs:
        """Network inputs N,... -> outputs. ``step`` keys the randomness of a training plan; ``out`` receives a single
        output."""

    @abc.abstractmethod
    def loss(self, targets: Array | Sequence[Array], weights: Sequence[float] | None = None) -> tuple[float, ...]:
        """The losses of the last forward for these targets."""

    @abc.abstractmethod
    def backward(self, grad_outputs: Array | Sequence[Array | None]) -> dict[str, Array]:
        """Gradients of ``sum(grad_outputs * outputs)`` for the nodes of ``wrt``; parameter gradients add to
        ``gradients``.

        Works after ``forward`` of a training plan, and of an inference plan compiled with ``wrt`` (running
        statistics, no
        dropout).
        """

    @abc.abstractmethod
    def loss_backward(
        self, targets: Array | Sequence[Array], weights: Sequence[float] | None = None, scale: float = 1.0
    ) -> tuple[float, ...]:
        """The losses of the last forward, and their gradients times ``scale``, added to ``gradients``; ``wrt`` fills
        ``wrt_gradients``."""

    def scale_gradients(self, factor: float) -> None:
        """Multiply what ``gradients`` holds."""
        for array in self.gradients.values():
            array *= np.float32(factor)

    @abc.abstractmethod
    def update(self, lr: float) -> float:
        """Clip, optimise, average; gradients become zero. Returns their norm before clipping."""

    @abc.abstractmethod
    def train_step(
        self,
        inputs: Array | Sequence[Array],
        targets: Array | Sequence[Array],
        *,
        lr: float,
        step: int | None = None,
        loss_weights: Sequence[float] | None = None,
    ) -> Step:
        """forward, loss, backward and update in one call. ``step`` keys the randomness; None: the updates so far."""

    @abc.abstractmethod
    def clone(self) -> Plan:
        """A plan with the same weights and its own buffers, for another caller."""

    def describe(self) -> list[dict[str, Any]]:
        """What the plan runs, one row per step: for ``fovea doctor``."""
        return [{"node": node.name, "op": node.op.kind} for node in self.spec.graph.nodes.values()]

    # --- checks shared by the engines

    def check_inputs(self, names: Sequence[str], arrays: Sequence[Array]) -> list[Array]:
        """The arrays in their declared dtypes, C-contiguous. Raises ShapeError naming the input that does not fit."""
        if len(arrays) != len(names):
            raise ShapeError(
                "plan",
                f"expected {len(names)} input array(s) ({', '.join(names)}), got {len(arrays)}; give one per input",
            )
        checked, n = [], None
        for name, given in zip(names, arrays, strict=True):
            array, shape = np.asarray(given), self.spec.graph.shape(name)
            if array.shape[1:] != shape or array.ndim == 0:
                raise ShapeError(
                    name,
                    f"expected an array {('N', *shape)}, got {array.shape}; images are N,H,W,C, one image is "
                    "image[None]",
                )
            n = array.shape[0] if n is None else n
            if array.shape[0] != n or not 1 <= n <= self.spec.batch_size:
                raise ShapeError(
                    name,
                    f"expected 1 to {self.spec.batch_size} samples, the same number in every input, got "
                    f"{array.shape[0]}; compile with a larger batch_size",
                )
            checked.append(np.ascontiguousarray(array, self._dtype(name, array)))
        return checked

    def _dtype(self, name: str, array: Array) -> str:
        declared: str = self.spec.graph.node(name).op.dtype  # type: ignore[attr-defined]
        if array.dtype.kind not in "fiub" or (declared != "float32" and array.dtype.kind == "f"):
            raise ShapeError(name, f"expected {declared} values, got {array.dtype}; convert the array")
        if declared == "uint8" and array.dtype != np.uint8 and not 0 <= array.min() <= array.max() <= 255:
            raise ShapeError(name, f"expected values 0 to 255, got {array.min()} to {array.max()}; convert to uint8")
        return declared

    def check_backward(self) -> None:
        """Raise EngineError for a plan that was compiled for inference without ``wrt``: it keeps nothing."""
        if not self.spec.training and not self.spec.wrt:
            raise EngineError(
                "plan",
                "expected a training plan, or wrt=[...] at compile time, to run backward; compile with one of them",
            )

    def as_list(self, arrays: Array | Sequence[Any]) -> list[Any]:
        """One array or several, as a list."""
        return list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]


class Engine(abc.ABC):
    """Compiles plans. ``unsupported`` names kinds of op it cannot compute, with the reason; compiling one is an
    error, never a silent fallback."""

    name: ClassVar[str]
    unsupported: ClassVar[Mapping[str, str]] = {}
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    accelerated: ClassVar[bool] = False
    """Whether it computes on other devices than the CPU."""

    def compile(self, graph: Graph, store: ParameterStore, **options: Any) -> Plan:
        """A plan for ``graph``; options as in ``prepare``."""
        spec = prepare(graph, **options)
        for node in spec.graph.nodes.values():
            if node.op.kind in self.unsupported:
                raise EngineError(
                    node.name,
                    f"the {self.name} engine does not compute {node.op.kind}: "
                    f"{self.unsupported[node.op.kind]}; use another engine",
                )
        if spec.precision not in self.precisions:
            raise EngineError(
                self.name,
                f"expected precision {' or '.join(self.precisions)}, got {spec.precision!r}; choose one of them",
            )
        if spec.device not in (None, "cpu") and not self.accelerated:
            raise EngineError(
                self.name, f"expected device cpu, got {spec.device!r}; GPUs are the torch engine's: engine='torch'"
            )
        return self.plan(spec, store)

    def configured(self, **options: bool) -> Engine:
        """This engine with options of its own. Raises EngineError for one that it does not have."""
        asked = [name for name, value in options.items() if value]
        if asked:
            raise EngineError(self.name, f"expected no {asked[0]}, which is the torch engine's; give engine='torch'")
        return self

    def devices(self) -> list[dict[str, Any]]:
        """The accelerators that this engine can use here: "device", "name", "memory" and "free" in bytes."""
        return []

    def join(self, device: str | None = None) -> World:
        """The processes that train together. Raises EngineError when torchrun has started several, and this engine
        knows of none."""
        started = launched_processes()
        if started > 1:
            fix = "the torch engine does: engine='torch'"
            raise EngineError(self.name, f"expected one process, got {started} that cannot share a training; {fix}")
        return World()

    @abc.abstractmethod
    def plan(self, spec: PlanSpec, store: ParameterStore) -> Plan:
        """Compile a checked spec."""
