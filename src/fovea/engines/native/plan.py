"""The native plan: checks arrays, binds them, and lets the core run whole sections of the program in one call."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fovea import random
from fovea.engines import checks
from fovea.engines.base import Array, Outputs, Plan, Step
from fovea.engines.native.executable import Executable
from fovea.engines.native.lower import Lowering, lower
from fovea.engines.native.program import Buffer, Fixed, Gradient, Instruction, Operand, Section
from fovea.engines.native.storage import stored_as_bf16
from fovea.engines.native.update import NUMBERS, state_arrays, update_instructions, write_numbers
from fovea.engines.native.work import describe
from fovea.engines.spec import PlanSpec
from fovea.errors import EngineError, ShapeError
from fovea.graph.graph import Ref
from fovea.graph.store import ParameterStore
from fovea.ops.base import Shape

__all__ = ["NativePlan"]


class NativePlan(Plan):
    """One program for forward, loss, backward and update. Parameters are read and updated where the store holds them.

    A plan with an optimizer begins with memory for whole training steps: an activation makes room after its last
    reader. The first ``forward`` on its own renews the program, in memory where activations stay for any backward.

    ``gradients`` are views of the plan's own memory, filled by every backward and consumed by ``update``. Backward may
    run several times after one forward. Input arrays are not copied: leave them unchanged until backward is done.
    """

    def __init__(self, spec: PlanSpec, store: ParameterStore) -> None:
        super().__init__(spec, store)
        self._seeds = np.ones(len(spec.losses), np.float32)
        lowering = lower(spec, store, [Fixed(self._seeds[i : i + 1]) for i in range(len(spec.losses))])
        self._lowering: Lowering = lowering
        bf16 = spec.precision == "bf16"
        self._instructions = stored_as_bf16(lowering.instructions) if bf16 else lowering.instructions
        self._sum = np.zeros(max(lowering.gradient_floats, 1), np.float32)
        self._addend: Array | None = None
        self._numbers = np.zeros(NUMBERS, np.float64)
        self._trained = {path: one for path, one in spec.graph.parameters().items() if path in spec.trainable}
        self._views = self._gradient_views()
        self._written = {section: self._written_paths(section) for section in (Section.BACKWARD, Section.LOSS_BACKWARD)}
        self._renews_buffers = any(one.op.kind == "batchnorm" and spec.trains(one) for one in spec.graph.nodes.values())
        self._labels = checks.label_limits(spec)
        # Which sections wrote the gradients since they were zero (None: the caller): each may reach other parameters.
        self._in_sum: set[Section | None] = set()
        self._in_addend: set[Section | None] = set()
        self._key_seed: int | None = None
        self._base_keys = np.zeros(0, np.uint64)
        self._n = 0
        self._lock = threading.Lock()
        self._build(backward_again=spec.optimizer is None)

    # --- parts of the program that the plan owns

    def _build(self, backward_again: bool) -> None:
        """The program; without ``backward_again`` it runs nothing but whole training steps."""
        instructions = [one for one in self._instructions if backward_again or one.section != Section.BACKWARD]
        bound = len(self.spec.inputs) + len(self.spec.targets) + len(self.spec.outputs)
        renewed = [self.store.parameters[path] for path in self._trained] if self.spec.optimizer else []
        self._program = Executable(
            [*instructions, self._accumulate()], self.spec.batch_size, bound, renewed, backward_again, self.spec.lean
        )
        self._backward_again = backward_again
        self._version = -1
        self._states: list[Any] = []
        self._values: dict[tuple[Buffer, Shape], Array] = {}
        self._loss_views = [self._program.view(value, (1,), 0) for value in self._lowering.loss_values]

    def _accumulate(self) -> Instruction:
        floats = len(self._sum)
        return Instruction(Section.ACCUMULATE, "", "accumulate", (Fixed(self._sum),), (Gradient(0),), (floats,))

    def _gradient_views(self) -> dict[str, Array]:
        specs = self.spec.graph.parameters()
        return {
            path: self._sum[offset : offset + specs[path].size].reshape(specs[path].shape)
            for path, offset in self._lowering.gradient_offsets.items()
        }

    def _written_paths(self, section: Section) -> list[str]:
        """Parameters that a backward section reaches."""
        by_offset = {offset: path for path, offset in self._lowering.gradient_offsets.items()}
        outs = (out for one in self._lowering.instructions if one.section == section for out in one.outs)
        return [by_offset[out.offset] for out in outs if isinstance(out, Gradient)]

    # --- forward

    def forward(self, *inputs: Array, out: Array | None = None, step: int = 0) -> Outputs:
        """Network inputs N,... -> outputs, copies that belong to the caller."""
        with self._alone():
            if not self._backward_again:
                self._build(backward_again=True)
            n = self._bind_inputs(inputs, step)
            self._run([Section.FORWARD], n)
            self._after_forward(n)
            return self._outputs(n, out)

    def _bind_inputs(self, inputs: Sequence[Array], step: int) -> int:
        arrays = self.check_inputs(self.spec.inputs, inputs)
        for index, array in enumerate(arrays):
            self._program.bind(index, array)
        self._renew_keys(step)
        return int(arrays[0].shape[0])

    def _renew_keys(self, step: int) -> None:
        names, keys = self._lowering.dropout_nodes, self._lowering.keys
        if not names:
            return
        if self._key_seed != self.store.seed:
            self._key_seed = self.store.seed
            self._base_keys = np.array([random.key(self.store.seed, f"dropout:{name}") for name in names], np.uint64)
        keys[: len(names)] = random.fold_in(self._base_keys, np.uint64(int(step) % (1 << 64)))

    def _run(self, sections: list[Section], n: int) -> None:
        if self._version != self.store.version:
            self.store.settle()
            self._version = self.store.version
            self._program.weights_changed()
            sections = [Section.PREPARE, *sections]
        self._program.run(sections, n)

    def _after_forward(self, n: int) -> None:
        self._n = n
        self.kept = {name: self._copy(self._lowering.values[Ref(name)], Ref(name), n) for name in self.spec.keep}
        if self._renews_buffers:  # running statistics changed, but nothing that this plan packs
            current = self._version == self.store.version
            self.store.touch()
            self._version = self.store.version if current else self._version

    def _copy(self, operand: Operand, ref: Ref, n: int) -> Array:
        return np.array(self._view(operand, ref, n), np.float32)

    def _view(self, operand: Operand, ref: Ref, n: int) -> Array:
        """The first n samples of a value, sharing the plan's memory."""
        if isinstance(operand, Buffer):
            shape = self.spec.graph.shape(ref)  # a map and its flat form share a buffer
            if (operand, shape) not in self._values:
                capacity = 0 if ref in self._lowering.whole else self.spec.batch_size
                self._values[operand, shape] = self._program.view(operand, shape, capacity)
            value = self._values[operand, shape]
            return value if ref in self._lowering.whole else value[:n]
        return self._program.view(operand, self.spec.graph.shape(ref), n)

    def _outputs(self, n: int, out: Array | None = None) -> Outputs:
        if out is not None:
            return self._into(out, n)
        outputs = tuple(self._copy(self._lowering.values[ref], ref, n) for ref in self.spec.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _into(self, out: Array, n: int) -> Array:
        ref = self.spec.outputs[0]
        value = self._view(self._lowering.values[ref], ref, n)
        if len(self.spec.outputs) != 1 or out.shape != value.shape:
            raise ShapeError(
                "out", f"expected one output of shape {value.shape}, got out with {out.shape}; give such an array"
            )
        out[...] = value
        return out

    # --- losses

    def loss(self, targets: Array | Sequence[Array], weights: Sequence[float] | None = None) -> tuple[float, ...]:
        """The losses of the last forward, each without its weight."""
        with self._alone():
            checks.loss_weights(self.spec, weights)
            checks.needs_forward(self._n)
            self._bind_targets(targets, self._n)
            self._run([Section.LOSS], self._n)
            return self._losses()

    def _bind_targets(self, targets: Array | Sequence[Array], n: int) -> None:
        arrays = self.check_inputs(self.spec.targets, self.as_list(targets))
        checks.as_many(self.spec, arrays, n)
        checks.labels_in_range(self._labels, arrays)
        for index, array in enumerate(arrays):
            self._program.bind(len(self.spec.inputs) + index, array)

    def _losses(self) -> tuple[float, ...]:
        return tuple(float(view[0]) for view in self._loss_views)

    # --- backward

    def backward(self, grad_outputs: Array | Sequence[Array | None]) -> dict[str, Array]:
        """Gradients of ``sum(grad_outputs * outputs)``: returned for ``wrt``, added to ``gradients`` for parameters."""
        with self._alone():
            checks.needs_forward(self._n)
            self.check_backward()
            given = checks.given_gradients(self.spec, self.as_list(grad_outputs), self._n)
            for index, (ref, gradient) in enumerate(given):
                self._bind_grad_output(index, ref, gradient)
            self._run([*self._backward_sections(Section.BACKWARD)], self._n)
            return self._after_backward(Section.BACKWARD)

    def _bind_grad_output(self, index: int, ref: Ref, gradient: Array | None) -> None:
        if gradient is None:
            gradient = np.zeros((self._n, *self.spec.graph.shape(ref)), np.float32)  # type: ignore[arg-type]
        first = len(self.spec.inputs) + len(self.spec.targets)
        self._program.bind(first + index, np.ascontiguousarray(gradient, np.float32))

    def loss_backward(
        self, targets: Array | Sequence[Array], weights: Sequence[float] | None = None, scale: float = 1.0
    ) -> tuple[float, ...]:
        """The losses, and the gradients of ``scale * sum_i weights[i] * losses[i]`` added to ``gradients``."""
        with self._alone():
            self._seeds[:] = [weight * scale for weight in checks.loss_weights(self.spec, weights)]
            checks.needs_forward(self._n)
            self.check_backward()
            self._bind_targets(targets, self._n)
            self._run([Section.LOSS, *self._backward_sections(Section.LOSS_BACKWARD)], self._n)
            self._after_backward(Section.LOSS_BACKWARD)
            return self._losses()

    def _backward_sections(self, section: Section) -> list[Section]:
        """Gradients are written to ``_sum``, or beside it and added when it holds some already."""
        fresh = not self.gradients
        self._take_replaced()
        if fresh:
            _only(self._sum, self._in_sum, section)
            self._program.bind_gradients(self._sum)
            return [section]
        if self._addend is None:
            self._addend = np.zeros_like(self._sum)
        _only(self._addend, self._in_addend, section)
        self._in_sum.add(section)
        self._program.bind_gradients(self._addend)
        return [section, Section.ACCUMULATE]

    def _take_replaced(self) -> None:
        """Arrays that the caller put into ``gradients`` (an average over machines, say) become the plan's own."""
        for path, array in self.gradients.items():
            if array is not self._views[path]:
                self._views[path][...] = array
                self._in_sum.add(None)

    def _after_backward(self, section: Section) -> dict[str, Array]:
        paths = {**dict.fromkeys(self.gradients), **dict.fromkeys(self._written[section])}
        self.gradients = {path: self._views[path] for path in paths}
        self.wrt_gradients = {}
        for name, operand in self._lowering.wrt[section].items():
            if operand is None:
                shape = (self._n, *self.spec.graph.shape(name))
                self.wrt_gradients[name] = np.zeros(shape, np.float32)  # type: ignore[arg-type]
            else:
                self.wrt_gradients[name] = self._copy(operand, Ref(name), self._n)
        return self.wrt_gradients

    # --- update

    def update(self, lr: float) -> float:
        """Clip, optimise, average; returns the norm before clipping. A parameter without a gradient has gradient 0."""
        with self._alone():
            self._prepare_update(lr)
            if not self.gradients:
                self._sum.fill(0.0)
                self._in_sum.clear()
            self._take_replaced()
            self._program.bind_gradients(self._sum)
            self._program.run([Section.UPDATE], 1)
            return self._after_update()

    def _prepare_update(self, lr: float) -> None:
        optimizer = checks.optimizer_of(self.spec)
        states = state_arrays(optimizer, self._trained, self.store)
        if len(states) != len(self._states) or any(a is not b for a, b in zip(states, self._states, strict=True)):
            self._states = states
            instructions = update_instructions(
                optimizer,
                self._trained,
                self.store,
                self._lowering.gradient_offsets,
                Fixed(self._sum),
                Fixed(self._numbers),
            )
            self._program.replace(Section.UPDATE, instructions)
        write_numbers(self._numbers, optimizer, lr, self.store.updates + 1)

    def _after_update(self) -> float:
        self.gradients = {}
        self.store.updates += 1
        current = self._version == self.store.version
        self.store.touch()
        if current:  # packed weights are stale; what PREPARE derives is not, it comes from frozen parameters alone
            self._program.weights_changed()
            self._version = self.store.version
        return float(self._numbers[4])

    def train_step(
        self,
        inputs: Array | Sequence[Array],
        targets: Array | Sequence[Array],
        *,
        lr: float,
        step: int | None = None,
        loss_weights: Sequence[float] | None = None,
    ) -> Step:
        """forward, loss, backward and update in one call of the core."""
        with self._alone():
            weights = checks.loss_weights(self.spec, loss_weights)
            self._prepare_update(lr)
            self._seeds[:] = weights
            n = self._bind_inputs(self.as_list(inputs), self.store.updates if step is None else step)
            self._bind_targets(targets, n)
            sections = [Section.FORWARD, Section.LOSS, *self._backward_sections(Section.LOSS_BACKWARD), Section.UPDATE]
            self._run(sections, n)
            self._after_forward(n)
            self._after_backward(Section.LOSS_BACKWARD)
            norm = self._after_update()
            self._n = 0  # these activations belong to the weights before the update: no backward on them
            losses = self._losses()
            total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
            self._n = 0  # the weights have changed: what this forward left belongs to the old ones
            return Step(total, losses, self._outputs(n), norm)

    # --- the rest of the contract

    def clone(self) -> NativePlan:
        """A plan on the same store with buffers of its own."""
        return NativePlan(self.spec, self.store)

    def describe(self) -> list[dict[str, Any]]:
        """One row per instruction: section, pass, node, kernel, algorithm, shape, operations, bytes, sizes."""
        return describe(self.spec, self._lowering.gradient_offsets, self._program.instructions)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise EngineError("plan", "expected one caller at a time, got a second; give every thread its plan.clone()")
        try:
            yield
        finally:
            self._lock.release()


def _only(gradients: Array, writers: set[Section | None], section: Section) -> None:
    """Zero what another section wrote, which this one may not reach; its own it writes again."""
    if writers - {section}:
        gradients.fill(0.0)
    writers.clear()
    writers.add(section)
