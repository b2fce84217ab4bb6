"""The contract between a model and the engines that compute it, on one page.

An ``Engine`` turns a graph into a ``Plan``: the graph compiled for a batch capacity, an input size and a purpose. A
plan
shares the model's ParameterStore and owns its buffers; it serves one caller at a time.
"""

from __future__ import annotations

import abc
import difflib
import fnmatch
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fovea.engines.frozen import differentiated, standing_still
from fovea.engines.world import World, launched_processes
from fovea.errors import EngineError, GraphError, ShapeError
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.objective import Loss, attach
from fovea.graph.quantization import Quantization
from fovea.graph.store import ParameterStore
from fovea.ops.base import Shape, size_of
from fovea.ops.optimizer import Optimizer

__all__ = ["BATCH_NORM", "Engine", "Plan", "PlanSpec", "Step", "prepare"]

Array = npt.NDArray[Any]
Outputs = Any
"""One array for a graph with one output, else a tuple of arrays."""
BATCH_NORM = ("frozen", "update")
"""What a batch norm with frozen weight and bias does in training."""


@dataclass(frozen=True)
class PlanSpec:
    """What to compile, checked and resolved once for all engines. Shapes in ``graph`` are closed; losses are
    attached."""

    graph: Graph
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    outputs: tuple[Ref, ...]
    losses: tuple[Ref, ...]
    loss_weights: tuple[float, ...]
    batch_size: int
    training: bool
    keep: tuple[str, ...]
    wrt: tuple[str, ...]
    trainable: frozenset[str]
    """Parameter paths that get gradients."""
    differentiated: frozenset[str]
    """Nodes whose outputs carry gradient: below the lowest of them nothing is stored for backward."""
    optimizer: Optimizer | None
    precision: str
    device: str | None
    quantization: Quantization | None = None
    """Of precision int8: which activations and weights are bytes."""
    batch_norm: str = "frozen"
    """What a batch norm does whose weight and bias are frozen, see ``prepare``."""
    lean: bool = False
    """No copies of weights beside the store's stay in memory, see ``prepare``."""
    still: frozenset[str] = frozenset()
    """Random nodes of a frozen part: they let everything pass."""

    def trains(self, node: Node) -> bool:
        """Training mode of one node: a layer with parameters that are all frozen runs as in inference, but for batch
        norms that are to ``update`` their statistics; so does what is random in a frozen part."""
        updates = node.op.kind == "batchnorm" and self.batch_norm == "update"
        own = updates or not node.parameters or any(path in self.trainable for path in node.parameters)
        return self.training and own and node.name not in self.still


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


def prepare(
    graph: Graph,
    *,
    batch_size: int,
    input_shape: Shape | Sequence[Shape] | None = None,
    input_dtype: str | None = None,
    training: bool = False,
    keep: Sequence[str] = (),
    wrt: Sequence[str] = (),
    trainable: Sequence[str] | None = None,
    loss: Loss = None,
    optimizer: Optimizer | None = None,
    precision: str = "fp32",
    device: str | None = None,
    quantization: Quantization | None = None,
    batch_norm: str = "frozen",
    lean: bool = False,
) -> PlanSpec:
    """Check and resolve what the caller asked for.

    ``trainable``: None for all parameters of a training plan, else paths, path prefixes ("stage1") or patterns
    ("*.bias"). ``batch_norm`` of a training plan says what a batch norm does whose weight and bias are both frozen:
    "frozen" normalises with the running statistics and leaves them alone, as inference does; "update" normalises with
    the batch's and renews the running ones, so that they become those of the new data. ``lean`` is for plans that run
    seldom: the native engine then keeps no copies of weights (packed, or with batch norms folded in) and makes them
    anew, layer by layer, in every run; other engines keep none anyway.
    Raises GraphError, ShapeError or EngineError in one line.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or not 1 <= batch_size <= 1 << 20:
        raise EngineError(
            "compile",
            f"expected batch_size as an integer of at least 1 (and at most {1 << 20:,}), got {batch_size!r}; give the "
            "largest batch",
        )
    for option, names in (("keep", keep), ("wrt", wrt), ("trainable", () if trainable is None else trainable)):
        if isinstance(names, str) or not isinstance(names, Collection):
            raise EngineError("compile", f"expected {option} as a list of names, got {names!r}; give [{names!r}], say")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise EngineError(
            "compile", f"expected an optimizer such as fovea.SGD(momentum=0.9), got {optimizer!r}; give one or None"
        )
    if batch_norm not in BATCH_NORM:
        known = " or ".join(BATCH_NORM)
        raise EngineError("compile", f"expected batch_norm as {known}, got {batch_norm!r}; choose one of them")
    _check_quantization(precision, quantization, training or bool(wrt))
    shapes = graph.input_shapes if input_shape is None else _shapes(graph, input_shape)
    if any(size is None for shape in shapes for size in shape):
        raise ShapeError("compile", f"expected closed input sizes, got {shapes}; give input_shape=(H, W, C)")
    dtypes = dict.fromkeys(graph.inputs, input_dtype) if input_dtype else {}
    closed = graph.at(*shapes, dtypes={name: dtype for name, dtype in dtypes.items() if dtype})
    _check_memory(closed, int(batch_size))
    objective = attach(closed, loss)
    for name in (*keep, *wrt):
        closed.node(name)
    if optimizer is not None and (not training or not objective.losses):
        raise EngineError(
            "compile", "expected training=True and a loss with an optimizer; add them or leave the optimizer out"
        )
    paths = match_paths(list(closed.parameters()), trainable) if training else frozenset()
    spec = PlanSpec(
        objective.graph,
        closed.inputs,
        objective.targets,
        closed.outputs,
        objective.losses,
        objective.weights,
        int(batch_size),
        training,
        tuple(keep),
        tuple(wrt),
        paths,
        frozenset(),
        optimizer,
        precision,
        device,
        quantization if precision == "int8" else None,
        batch_norm,
        lean,
    )
    carrying = differentiated(objective.graph, paths, spec.wrt)
    return replace(spec, differentiated=carrying, still=standing_still(objective.graph, paths, carrying))


def _check_quantization(precision: str, quantization: Quantization | None, backward: bool) -> None:
    """Raise EngineError for int8 plans of models that are not quantised, and for gradients through bytes."""
    if precision == "int8" and quantization is None:
        raise EngineError(
            "compile", "expected a quantised model for precision int8, got float32 weights; use fovea.quantize first"
        )
    if precision == "int8" and backward:
        raise EngineError(
            "compile", "expected precision fp32 for gradients, got int8, whose steps have none; give precision='fp32'"
        )


def _check_memory(graph: Graph, batch_size: int) -> None:
    """Raise EngineError when one activation alone does not fit into the machine: no engine could allocate it."""
    from fovea.data.tree import machine_memory  # reads archives too: not at start-up

    sizes = {node.name: sum(map(size_of, node.output_shapes)) for node in graph.nodes.values()}
    largest = max(sizes, key=lambda name: sizes[name])
    needed = 4 * sizes[largest] * batch_size
    if needed > machine_memory():
        raise EngineError(
            largest,
            f"expected an activation that fits into memory, got {needed / 1e9:,.0f} GB for {batch_size} samples; use a "
            "smaller batch_size or input",
        )


def _shapes(graph: Graph, given: Shape | Sequence[Shape]) -> tuple[Shape, ...]:
    if not isinstance(given, (tuple, list)):
        raise ShapeError("compile", f"expected input_shape as sizes and channels, got {given!r}; give (32, 32, 3), say")
    nested = given and isinstance(given[0], (tuple, list))
    return tuple(tuple(shape) for shape in given) if nested else (tuple(given),)  # type: ignore[arg-type]


def match_paths(paths: Sequence[str], patterns: Sequence[str] | None) -> frozenset[str]:
    """Paths that equal, lie below or match one of the patterns. Raises GraphError for a pattern that matches
    nothing."""
    if patterns is None:
        return frozenset(paths)
    chosen: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise GraphError("trainable", f"expected paths or patterns as texts, got {pattern!r}; give 'conv1', say")
        hits = {
            path
            for path in paths
            if path == pattern or path.startswith(pattern + ".") or fnmatch.fnmatchcase(path, pattern)
        }
        if not hits:
            parts = [path.split(".") for path in paths[:1000]]
            known = {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}
            near = ", ".join(difflib.get_close_matches(pattern[:100], sorted(known), 3)) or "see model.parameters()"
            raise GraphError(
                "trainable",
                f"expected a parameter path, a prefix or a pattern, got {pattern!r} which matches nothing; near "
                f"names: {near}",
            )
        chosen |= hits
    return frozenset(chosen)
