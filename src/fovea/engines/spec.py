"""What to compile, resolved once for all engines: closed shapes, what is trained, which nodes carry gradient."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fovea.engines.frozen import differentiated, standing_still
from fovea.errors import EngineError, GraphError, ShapeError
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.objective import Loss, attach
from fovea.graph.quantization import Quantization
from fovea.ops.base import Shape, size_of
from fovea.ops.optimizer import Optimizer

__all__ = ["BATCH_NORM", "PlanSpec", "match_paths", "prepare"]

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

    def parts(self) -> tuple[dict[str, Node], dict[str, Node]]:
        """In order: the nodes of the network (its inputs, and what outputs, kept and ``wrt`` nodes are computed from),
        and those that losses need beside them."""
        asked = [*self.outputs, *(Ref(name) for name in (*self.keep, *self.wrt))]
        network = self.graph.ancestors(asked).union(self.inputs)
        objective = self.graph.ancestors(self.losses) - network
        nodes = self.graph.nodes.items()
        return (
            {name: node for name, node in nodes if name in network},
            {name: node for name, node in nodes if name in objective},
        )


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
