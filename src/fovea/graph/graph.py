"""The graph: named nodes (op + inputs) in topological order, one or more inputs and outputs. Tied to no engine or
batch size."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fovea.errors import FoveaError, GraphError, ShapeError
from fovea.ops.base import Op, ParamSpec, Shape
from fovea.ops.value import Application, Scope, Value, apply, scope

__all__ = ["Graph", "Node", "Ref"]

_LARGEST_SIZE, _LARGEST_ARRAY = 1 << 31, 1 << 40  # beyond them lies a mistake, or a file that wants to fill the memory


class Ref(NamedTuple):
    """One output of a node."""

    node: str
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a Ref


@dataclass(frozen=True)
class Node:
    """A layer: an op, its inputs, and the shapes inferred for them (one sample, without the batch axis)."""

    name: str
    op: Op
    inputs: tuple[Ref, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]

    @functools.cached_property
    def parameters(self) -> dict[str, ParamSpec]:
        """Specs of trainable arrays by path ``node.parameter``."""
        return {f"{self.name}.{key}": spec for key, spec in self.op.parameters(*self.input_shapes).items()}

    @functools.cached_property
    def buffers(self) -> dict[str, ParamSpec]:
        """Specs of arrays that no optimiser touches, by path."""
        return {f"{self.name}.{key}": spec for key, spec in self.op.buffers(*self.input_shapes).items()}


class Graph:
    """A directed acyclic graph of ops, built from symbolic values.

    >>> import fovea
    >>> x = fovea.Input((8, 8, 3)); y = fovea.Conv(4, 3)(x)
    >>> list(Graph(inputs=x, outputs=y).nodes)
    ['input1', 'conv1']

    Node names are kind + count within their scope ("stage1.block1.conv2"); ``name=`` and the keys of dicts override.
    Raises GraphError for values that do not come from the inputs, ShapeError (naming node and shapes) when shapes
    clash.
    """

    def __init__(self, inputs: Value | Sequence[Value], outputs: Value | Sequence[Value]) -> None:
        input_values = _values("inputs", inputs)
        sources = [value.source for value in input_values]
        if any(source.op.kind != "input" for source in sources) or len(set(sources)) != len(sources):
            given = ", ".join(source.op.kind for source in sources)
            raise GraphError("graph", f"expected each input once, made by fovea.Input, got {given}; list Input values")
        output_values = _values("outputs", outputs)
        order = _trace(input_values, output_values)
        names = _name(order)
        entries = [
            (names[item], item.op, tuple(Ref(names[value.source], value.index) for value in item.inputs))
            for item in order
        ]
        self._build(
            entries,
            tuple(names[value.source] for value in input_values),
            tuple(Ref(names[value.source], value.index) for value in output_values),
        )

    @classmethod
    def from_nodes(
        cls, entries: Iterable[tuple[str, Op, tuple[Ref, ...]]], inputs: Sequence[str], outputs: Sequence[Ref]
    ) -> Graph:
        """A graph from (name, op, inputs) in topological order."""
        graph = cls.__new__(cls)
        graph._build(list(entries), tuple(inputs), tuple(outputs))
        return graph

    def _build(
        self, entries: list[tuple[str, Op, tuple[Ref, ...]]], inputs: tuple[str, ...], outputs: tuple[Ref, ...]
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.inputs = inputs
        self.outputs = outputs
        for name, op, refs in entries:
            if name in self.nodes:
                raise GraphError(name, "expected every node name once, got it twice; rename one of them")
            self.nodes[name] = self._infer(name, op, refs)
        for ref in outputs:
            self.shape(ref)
        for name in inputs:
            if name not in self.nodes or self.nodes[name].op.kind != "input":
                raise GraphError(
                    name, "expected a graph input made by fovea.Input, got another node; list only Input values"
                )
        unlisted = [node.name for node in self.nodes.values() if node.op.kind == "input" and node.name not in inputs]
        if unlisted or len(set(inputs)) != len(inputs):
            names = ", ".join((unlisted or list(inputs))[:3])
            raise GraphError("graph", f"expected every Input among the graph's inputs once, got {names}; list it once")

    def _infer(self, name: str, op: Op, refs: tuple[Ref, ...]) -> Node:
        if op.arity is not None and len(refs) != op.arity:
            raise GraphError(name, f"expected {op.arity} input(s) for {op.kind}, got {len(refs)}; connect as many")
        shapes = tuple(self.shape(ref) for ref in refs)
        try:
            node = Node(name, op, refs, shapes, op.output_shapes(*shapes))
            sizes = [size for shape in node.output_shapes for size in shape if size is not None]
            arrays = [spec.size for spec in (*node.parameters.values(), *node.buffers.values())]
            if max(sizes, default=0) > _LARGEST_SIZE or max(arrays, default=0) > _LARGEST_ARRAY:
                got = f"{float(max(sizes + arrays)):.3g}" if max(sizes + arrays) < 1e300 else "far more"
                raise ShapeError(op.kind, f"expected sizes that a machine can hold, got {got}; make the layer smaller")
        except FoveaError as error:
            if error.where == name:
                raise
            raise type(error)(f"{name}: {op.kind}", error.message) from None
        return node

    def shape(self, ref: Ref | str) -> Shape:
        """Shape of one sample at a node's output. Raises GraphError, with near names, for an unknown node."""
        ref = Ref(ref) if isinstance(ref, str) else ref
        node = self.node(ref.node)
        if not 0 <= ref.index < len(node.output_shapes):
            raise GraphError(
                ref.node, f"expected an output index below {len(node.output_shapes)}, got {ref.index}; choose another"
            )
        return node.output_shapes[ref.index]

    def node(self, name: str) -> Node:
        """The node of that name. Raises GraphError with near names."""
        if name not in self.nodes:
            some = list(self.nodes)[:1000]  # comparing names takes its time, and a hostile file may hold very many
            near = difflib.get_close_matches(name[:100], some, 3) if isinstance(name, str) else []
            names = ", ".join(near or some[:8])
            raise GraphError("graph", f"expected the name of a node, got {str(name)[:100]!r}; near names: {names}")
        return self.nodes[name]

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Per-sample shapes of the inputs, in order; None marks an open size."""
        return tuple(self.shape(name) for name in self.inputs)

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        """Per-sample shapes of the outputs, in order; None marks an open size."""
        return tuple(self.shape(ref) for ref in self.outputs)

    def parameters(self) -> dict[str, ParamSpec]:
        """Specs of all trainable arrays by path, in the order of the nodes."""
        return {path: spec for node in self.nodes.values() for path, spec in node.parameters.items()}

    def buffers(self) -> dict[str, ParamSpec]:
        """Specs of all other arrays (running statistics, constants) by path."""
        return {path: spec for node in self.nodes.values() for path, spec in node.buffers.items()}

    def consumers(self) -> dict[Ref, list[str]]:
        """Which nodes read each output (a node that reads it twice is listed twice)."""
        result: dict[Ref, list[str]] = {}
        for node in self.nodes.values():
            for ref in node.inputs:
                result.setdefault(ref, []).append(node.name)
        return result

    def at(self, *input_shapes: Shape, dtypes: Mapping[str, str] | None = None) -> Graph:
        """The same graph with other input shapes (closing open sizes, say) and, by name, other input dtypes."""
        if len(input_shapes) != len(self.inputs):
            raise ShapeError(
                "graph", f"expected {len(self.inputs)} input shape(s), got {len(input_shapes)}; give one per input"
            )
        shapes = dict(zip(self.inputs, input_shapes, strict=True))
        entries = []
        for node in self.nodes.values():
            op = node.op
            if node.name in shapes:
                declared, given = self.shape(node.name), shapes[node.name]
                fits = len(declared) == len(given) and all(
                    a is None or a == b for a, b in zip(declared, given, strict=True)
                )
                if not fits:
                    raise ShapeError(
                        node.name,
                        f"expected input {('N', *declared)}, got {('N', *given)}; resize the input, or build "
                        "the model with None for open sizes",
                    )
                op = type(op)(given, (dtypes or {}).get(node.name, getattr(op, "dtype", "float32")))  # type: ignore[call-arg]
            entries.append((node.name, op, node.inputs))
        return Graph.from_nodes(entries, self.inputs, self.outputs)

    def pruned(self, outputs: Sequence[Ref]) -> Graph:
        """The part that the given outputs need (graph inputs stay)."""
        wanted = self.ancestors(outputs).union(self.inputs)
        entries = [(node.name, node.op, node.inputs) for node in self.nodes.values() if node.name in wanted]
        return Graph.from_nodes(entries, self.inputs, outputs)

    def ancestors(self, refs: Iterable[Ref]) -> set[str]:
        """The nodes that the given values are computed from, their own among them."""
        found = {ref.node for ref in refs}
        for node in reversed(self.nodes.values()):
            if node.name in found:
                found.update(ref.node for ref in node.inputs)
        return found

    def with_constants(self, tensors: Mapping[str, Any]) -> Graph:
        """The same graph whose Constants are declared with the values of ``tensors``: graph files hold their shape."""
        entries = []
        for node in self.nodes.values():
            value = tensors.get(f"{node.name}.value") if node.op.kind == "constant" else None
            op = node.op if value is None else replace(node.op, value=value)  # type: ignore[type-var]  # ops are records
            entries.append((node.name, op, node.inputs))
        return Graph.from_nodes(entries, self.inputs, self.outputs)

    def __call__(self, *values: Value, name: str | None = None) -> Any:
        """Use the graph as a layer inside another one: its nodes are recorded again, in a scope of their own."""
        if len(values) != len(self.inputs):
            raise GraphError(
                "graph", f"expected {len(self.inputs)} value(s), got {len(values)}; give one per graph input"
            )
        made: dict[Ref, Value] = {Ref(name_): value for name_, value in zip(self.inputs, values, strict=True)}
        with scope("graph", name):
            for node in self.nodes.values():
                if Ref(node.name) in made:
                    continue
                result = apply(node.op, tuple(made[ref] for ref in node.inputs), node.name.replace(".", "_"))
                for index, value in enumerate(result if isinstance(result, tuple) else (result,)):
                    made[Ref(node.name, index)] = value
        outputs = tuple(made[ref] for ref in self.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def __repr__(self) -> str:
        return (
            f"Graph({len(self.nodes)} nodes, inputs {list(self.inputs)}, outputs {[ref.node for ref in self.outputs]})"
        )


def _values(field: str, given: Value | Sequence[Value]) -> tuple[Value, ...]:
    values = (given,) if isinstance(given, Value) else tuple(given) if isinstance(given, (list, tuple)) else ()
    if not values or not all(isinstance(value, Value) for value in values):
        raise GraphError(
            "graph",
            f"expected {field} as symbolic values, got {type(given).__name__}; make them with fovea.Input and "
            "by calling ops",
        )
    return values


def _trace(inputs: tuple[Value, ...], outputs: tuple[Value, ...]) -> list[Application]:
    """All applications between inputs and outputs, in the order in which they were written down."""
    found: dict[Application, None] = {value.source: None for value in inputs}
    pending = [value.source for value in outputs]
    while pending:
        item = pending.pop()
        if item in found:
            continue
        if item.op.kind == "input":
            raise GraphError(
                item.name or "input",
                "an output depends on a fovea.Input that is not among the graph's inputs; add it to inputs=",
            )
        found[item] = None
        pending.extend(value.source for value in item.inputs)
    return sorted(found, key=lambda item: item.order)


def _name(order: list[Application]) -> dict[Application, str]:
    """Final dotted names. Numbering counts applications and scopes of one stem within their parent scope, in order."""
    scopes: set[Scope] = set()
    for application in order:
        parent = application.scope
        while parent is not None:
            scopes.add(parent)
            parent = parent.parent
    items: list[Application | Scope] = sorted([*order, *scopes], key=lambda item: item.order)
    taken: dict[Scope | None, set[str]] = {}
    for item in items:
        level, _ = _level_and_stem(item)
        used = taken.setdefault(level, set())
        if item.name is not None:
            if item.name in used:
                raise GraphError(item.name, "expected every name once in its scope, got it twice; rename one of them")
            used.add(item.name)
    paths: dict[Application | Scope, str] = {}
    counts: dict[tuple[Scope | None, str], int] = {}
    for item in items:
        level, stem = _level_and_stem(item)
        local = item.name
        while local is None or (item.name is None and local in taken[level]):
            counts[level, stem] = counts.get((level, stem), 0) + 1
            local = f"{stem}{counts[level, stem]}"
        paths[item] = f"{paths[level]}.{local}" if level is not None else local
    return {application: paths[application] for application in order}


def _level_and_stem(item: Application | Scope) -> tuple[Scope | None, str]:
    return (item.parent, item.stem) if isinstance(item, Scope) else (item.scope, item.op.kind)
