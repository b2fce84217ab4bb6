"""From a graph to instructions: nodes in order forward, in reverse order backward, by the rules of each kind of op."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fovea.engines.native.fusion import find_fusions
from fovea.engines.native.integer import IntegerLowering
from fovea.engines.native.program import ALIGNMENT, Bound, Buffer, Fixed, Gradient, Instruction, Operand, Section
from fovea.engines.native.rules import RULES
from fovea.engines.spec import PlanSpec
from fovea.errors import EngineError
from fovea.graph.graph import Node, Ref
from fovea.graph.store import ParameterStore
from fovea.ops.base import size_of

__all__ = ["Lowering", "lower"]


class Lowering:
    """The state of a lowering; rules read and extend it.

    ``values``: where each node's output lies. ``saved``: what a forward rule leaves for its backward rule.
    ``grads``: the gradients of values, in the backward pass that is being lowered: one term from every reader, added
    when the value's own node asks for them.
    """

    def __init__(self, spec: PlanSpec, store: ParameterStore) -> None:
        self.spec = spec
        self.store = store
        self.fusions = find_fusions(spec)
        self.instructions: list[Instruction] = []
        self.values: dict[Ref, Operand] = {}
        self.saved: dict[str, Operand] = {}
        self.grads: dict[Ref, list[Operand]] = {}
        self.whole: set[Ref] = set()
        """Values that are one for the whole batch: losses and what is computed from them."""
        self.section = Section.FORWARD
        self.node = ""
        self.fixed_n = 0
        self.gradient_offsets, self.gradient_floats = _gradient_offsets(spec)
        self.dropout_nodes: list[str] = []
        self.keys = np.zeros(0, np.uint64)
        self.wrt: dict[Section, dict[str, Operand]] = {}
        self.loss_values: list[Operand] = []
        self._floats: dict[Ref, Operand] = {}
        self._fixed: dict[int, Fixed] = {}

    # --- what rules use

    def emit(
        self,
        kernel: str,
        outs: Sequence[Operand],
        ins: Sequence[Operand],
        ints: Iterable[int] = (),
        reals: Iterable[float] = (),
        inplace: tuple[tuple[int, int], ...] = (),
        fixed_n: int | None = None,
    ) -> None:
        """Append one instruction to the current section."""
        self.instructions.append(
            Instruction(
                self.section, self.node, kernel, tuple(outs), tuple(ins), tuple(ints), tuple(reals), inplace,
                self.fixed_n if fixed_n is None else fixed_n,
            )
        )  # fmt: skip

    def buffer(self, elements: int, dtype: str = "float32", per_sample: bool = True) -> Buffer:
        """A new buffer of the arena."""
        return Buffer(elements, dtype, per_sample and not self.fixed_n)

    def fixed(self, array: npt.NDArray[np.generic]) -> Fixed:
        """The operand of an array that stays where it is."""
        return self._fixed.setdefault(id(array), Fixed(array))

    def constant(self, values: npt.ArrayLike) -> Fixed:
        """A float32 constant of the plan."""
        return self.fixed(np.ascontiguousarray(values, np.float32))

    def size(self, ref: Ref) -> int:
        """Elements of one sample."""
        return size_of(self.spec.graph.shape(ref))

    def size_of_output(self, node: Node, index: int = 0) -> int:
        """Elements of one sample at a node's output."""
        return self.size(Ref(node.name, index))

    def input(self, node: Node, index: int = 0) -> Operand:
        """A node's input as float32: uint8 images and int64 targets are cast, once."""
        ref = node.inputs[index]
        value = self.values[ref]
        if value is None or value.dtype == "float32":
            return value
        if ref not in self._floats:
            cast = self.buffer(self.size(ref))
            self.emit(f"cast_{value.dtype}", [cast], [value], [self.size(ref)])
            self._floats[ref] = cast
        return self._floats[ref]

    def raw_input(self, node: Node, index: int = 0) -> Operand:
        """A node's input in whatever dtype it has."""
        return self.values[node.inputs[index]]

    def output(self, node: Node, index: int = 0) -> Buffer:
        """A new buffer for a node's output."""
        ref = Ref(node.name, index)
        result = self.buffer(self.size(ref))
        self.values[ref] = result
        return result

    def value(self, node: Node, index: int = 0) -> Operand:
        """Where a node's output lies."""
        return self.values[Ref(node.name, index)]

    def parameter(self, node: Node, name: str) -> Operand:
        """A parameter, or None when the op has none of that name."""
        array = self.store.parameters.get(f"{node.name}.{name}")
        return None if array is None or f"{node.name}.{name}" not in node.parameters else self.fixed(array)

    def stored(self, node: Node, name: str) -> Fixed:
        """A buffer of the store, such as running_mean."""
        return self.fixed(self.store.buffers[f"{node.name}.{name}"])

    def differentiated(self, node: Node) -> bool:
        """Whether a backward pass will visit the node."""
        return node.name in self.spec.differentiated

    def needs(self, node: Node, index: int = 0) -> bool:
        """Whether the gradient of an input is wanted."""
        return node.inputs[index].node in self.spec.differentiated

    def grad(self, node: Node, index: int = 0) -> Operand:
        """The gradient of a node's output; None when nothing reached it."""
        terms = self.grad_terms(Ref(node.name, index), 1)
        return terms[0] if terms else None

    def grad_terms(self, ref: Ref, most: int) -> list[Operand]:
        """The gradient of a value as at most so many terms that are still to be added."""
        terms = self.grads.get(ref, [])
        before, self.fixed_n = self.fixed_n, 1 if ref in self.whole else 0
        while len(terms) > most:
            total = self.buffer(self.size(ref))
            self.emit("add", [total], terms[:2], [self.size(ref), 0], inplace=((0, 0),))
            terms[:2] = [total]
        self.fixed_n = before
        return terms

    def grad_parameter(self, node: Node, name: str) -> Operand:
        """Where a parameter's gradient goes, or None when it is frozen or absent."""
        offset = self.gradient_offsets.get(f"{node.name}.{name}")
        return None if offset is None else Gradient(offset)

    def grad_input(self, node: Node, index: int = 0) -> Buffer:
        """A new buffer for the gradient of an input; hand it to ``add_grad`` when it is written."""
        return self.buffer(self.size(node.inputs[index]))

    def add_grad(self, node: Node, index: int, gradient: Operand) -> None:
        """The gradient of an input through this node: one term of that value's gradient."""
        ref = node.inputs[index]
        if ref.node in self.spec.differentiated:
            self.grads.setdefault(ref, []).append(gradient)

    def key(self, node: Node) -> Fixed:
        """The cell that holds a node's random key; the plan fills it before each forward."""
        self.dropout_nodes.append(node.name)
        return self.fixed(self.keys[len(self.dropout_nodes) - 1 :][:1])

    # --- passes

    def forward(self, nodes: Iterable[Node]) -> None:
        """Forward rules of the nodes, in order."""
        for node in nodes:
            if node.op.kind != "input":
                self._enter(node)
                rule = self.fusions.forward.get(node.name, RULES[node.op.kind].forward)
                rule(self, node)
        self.node, self.fixed_n = "", 0

    def alone(self, node: Node) -> None:
        """The forward rule of one node that nothing is fused with."""
        if node.op.kind != "input":
            self._enter(node)
            RULES[node.op.kind].forward(self, node)

    def _enter(self, node: Node) -> None:
        """Rules of a node that works on losses see one sample, the batch."""
        self.node = node.name
        whole = [ref in self.whole for ref in node.inputs]
        if any(whole) and not all(whole):
            raise EngineError(
                node.name,
                "expected inputs that are all losses or all activations, got both; combine losses by weights instead",
            )
        self.fixed_n = 1 if any(whole) else 0
        if any(whole) or node.op.is_loss:
            self.whole.update(Ref(node.name, i) for i in range(node.op.num_outputs))

    def backward(self, section: Section, nodes: Sequence[Node], seeds: Sequence[tuple[Ref, Operand]]) -> None:
        """Backward rules in reverse order, from the gradients of some values; fills ``wrt[section]``."""
        self.section, self.grads = section, {}
        for ref, seed in seeds:
            self._seed(ref, seed, spread=section == Section.LOSS_BACKWARD and ref not in self.whole)
        for node in reversed(nodes):
            reached = [bool(self.grads.get(Ref(node.name, i))) for i in range(node.op.num_outputs)]
            if not self.differentiated(node) or node.op.kind in ("input", "stopgradient") or not any(reached):
                continue
            self.node = node.name
            self.fixed_n = 1 if node.inputs and node.inputs[0] in self.whole else 0
            for index, one in enumerate(reached):
                if not one:
                    self._fill_grad(node, index)
            self.fusions.backward.get(node.name, RULES[node.op.kind].backward)(self, node)
        self.node, self.fixed_n = "", 0
        self.wrt[section] = {name: self.grad(self.spec.graph.node(name)) for name in self.spec.wrt}
        for operand in self.wrt[section].values():
            if isinstance(operand, Buffer):
                operand.pinned = True

    def _seed(self, ref: Ref, seed: Operand, spread: bool) -> None:
        """Where a gradient begins; ``spread``: the loss was the mean of one number per sample."""
        if spread:
            share = Buffer(1)
            self.emit("batch_mean_backward", [share], [seed])
            seed = share
        self.grads.setdefault(ref, []).append(seed)

    def _fill_grad(self, node: Node, index: int) -> None:
        """Zero, for an output that no reader sent a gradient to."""
        zero = self.buffer(self.size(Ref(node.name, index)))
        self.emit("fill", [zero], [], [zero.elements], [0.0])
        self.grads[Ref(node.name, index)] = [zero]


def _gradient_offsets(spec: PlanSpec) -> tuple[dict[str, int], int]:
    """The place of every trained parameter in one array of all gradients."""
    offsets, total = {}, 0
    step = ALIGNMENT // 4
    for path, parameter in spec.graph.parameters().items():
        if path in spec.trainable:
            offsets[path] = total
            total += -(-parameter.size // step) * step
    return offsets, total


def lower(spec: PlanSpec, store: ParameterStore, loss_seeds: Sequence[Operand]) -> Lowering:
    """All sections of a plan but the update. Arrays given at run time: inputs, targets, grad_outputs, in this order."""
    lowering = Lowering(spec, store)
    nodes = list(spec.graph.nodes.values())
    randoms = sum(node.op.has_randomness for node in nodes)
    lowering.keys = np.zeros(randoms, np.uint64)
    for index, name in enumerate((*spec.inputs, *spec.targets)):
        dtype: str = spec.graph.node(name).op.dtype  # type: ignore[attr-defined]
        lowering.values[Ref(name)] = Bound(index, lowering.size(Ref(name)), dtype)
    network, objective = spec.parts()
    forward = list(network.values())
    if spec.quantization is None:
        lowering.forward(forward)
    else:
        read = [ref for node in objective.values() for ref in node.inputs if ref.node in network]
        wanted = [*spec.outputs, *(Ref(name) for name in spec.keep), *read]
        IntegerLowering(lowering, spec.quantization).forward(forward, lowering.alone, wanted)
    _pin(lowering, [*spec.outputs, *(Ref(name) for name in spec.keep)])
    if spec.training or spec.wrt:
        first = len(spec.inputs) + len(spec.targets)
        lowering.backward(
            Section.BACKWARD,
            forward,
            [(ref, Bound(first + i, lowering.size(ref))) for i, ref in enumerate(spec.outputs)],
        )
    if spec.losses:
        lowering.section = Section.LOSS
        lowering.forward(objective.values())
        lowering.loss_values = [_loss_value(lowering, ref) for ref in spec.losses]
        if spec.training or spec.wrt:
            order = [node for node in nodes if node.name in network or node.name in objective]
            lowering.backward(Section.LOSS_BACKWARD, order, list(zip(spec.losses, loss_seeds, strict=True)))
    return lowering


def _loss_value(lowering: Lowering, ref: Ref) -> Operand:
    """One float for the batch; where a loss graph gives one number per sample, their mean counts."""
    value = lowering.values[ref]
    if ref not in lowering.whole:
        mean = Buffer(1, per_sample=False)
        lowering.emit("batch_mean", [mean], [value])
        value = mean
    if isinstance(value, Buffer):
        value.pinned = True
    return value


def _pin(lowering: Lowering, refs: Iterable[Ref]) -> None:
    for ref in refs:
        operand = lowering.values[ref]
        if isinstance(operand, Buffer):
            operand.pinned = True
