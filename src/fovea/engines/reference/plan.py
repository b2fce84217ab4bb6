"""The plan of the reference engine: nodes in order forward, the same nodes in reverse order backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fovea import random
from fovea.engines import checks
from fovea.engines.base import Outputs, Plan, Step
from fovea.engines.reference.integer import IntegerForward
from fovea.engines.reference.ops import PAIRS
from fovea.engines.reference.optimizer import update_store
from fovea.engines.reference.pair import Array, Needs
from fovea.engines.spec import PlanSpec
from fovea.errors import ShapeError
from fovea.graph.graph import Node, Ref
from fovea.graph.quantization import Quantization
from fovea.graph.store import ParameterStore
from fovea.ops.base import ParamSpec

__all__ = ["ReferencePlan"]


class ReferencePlan(Plan):
    """Runs op after op. An activation goes after its last reader, what backward needs at the next forward.

    ``overrides`` (path -> array of the plan's dtype) are read in place of the store's parameters: gradient checks
    perturb float64 copies there. Backward may be called several times after one forward.
    """

    def __init__(self, spec: PlanSpec, store: ParameterStore, dtype: np.dtype[Any]) -> None:
        super().__init__(spec, store)
        self.dtype = dtype
        self.overrides: dict[str, Array] = {}
        self.saved: dict[str, Any] = {}
        """What forward left for backward, by node."""
        self._trained = {path: one for path, one in spec.graph.parameters().items() if path in spec.trainable}
        network, objective = spec.parts()
        self._network, self._objective = list(network.values()), list(objective.values())
        self._backward_nodes = {name: needs for name in (*network, *objective) if (needs := self._needs(name)).any}
        self._last_readers = self._find_last_readers()
        self.values: dict[Ref, Array] = {}
        """Activations that somebody will still read."""
        self._n = 0
        self._step = 0

    def _needs(self, name: str) -> Needs:
        """The gradients that a node's backward must compute; none above a StopGradient."""
        node = self.spec.graph.node(name)
        open_ = node.op.kind != "stopgradient"
        inputs = tuple(open_ and ref.node in self.spec.differentiated for ref in node.inputs)
        paths = (path for path in node.parameters if path in self.spec.trainable)
        return Needs(inputs, frozenset(path.rpartition(".")[2] for path in paths))

    def _find_last_readers(self) -> dict[str, list[Ref]]:
        """By node, the values that nobody reads after it; outputs and what the losses read live on."""
        last = {Ref(node.name, i): node.name for node in self._network for i in range(node.op.num_outputs)}
        last |= {ref: node.name for node in self._network for ref in node.inputs}
        living = {*self.spec.outputs, *self.spec.losses, *(ref for node in self._objective for ref in node.inputs)}
        result: dict[str, list[Ref]] = {}
        for ref, reader in last.items():
            if ref not in living:
                result.setdefault(reader, []).append(ref)
        return result

    # --- forward

    def forward(self, *inputs: Array, out: Array | None = None, step: int = 0) -> Outputs:
        """Network inputs N,... -> outputs, copies of the plan's dtype."""
        arrays = self.check_inputs(self.spec.inputs, inputs)
        self.saved, self.kept = {}, {}
        self._n, self._step = arrays[0].shape[0], step
        self.values = {Ref(name): array for name, array in zip(self.spec.inputs, arrays, strict=True)}
        if self.spec.quantization is not None:
            return self._forward_on_bytes(self.spec.quantization, out)
        for node in self._network:
            self._run(node)
            if node.name in self.spec.keep:
                self.kept[node.name] = self.values[Ref(node.name)].copy()
            for ref in self._last_readers.get(node.name, ()):
                self.values.pop(ref, None)
        return self._returned(out)

    def _forward_on_bytes(self, quantization: Quantization, out: Array | None) -> Outputs:
        integer = IntegerForward(self.spec, self.store, quantization)
        integer.values = self.values
        for node in self._network:
            integer.run(node, self._run)
        read = [ref for node in self._objective for ref in node.inputs if ref in integer.bytes]
        for ref in [*self.spec.outputs, *(Ref(name) for name in self.spec.keep), *read]:
            integer.floats(ref)
        self.kept = {name: self.values[Ref(name)].copy() for name in self.spec.keep}
        return self._returned(out)

    def _returned(self, out: Array | None) -> Outputs:
        outputs = tuple(self.values[ref].copy() for ref in self.spec.outputs)
        if out is not None:
            return self._into(out, outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _into(self, out: Array, outputs: tuple[Array, ...]) -> Array:
        if len(outputs) != 1 or out.shape != outputs[0].shape:
            raise ShapeError(
                "out",
                f"expected one output of shape {outputs[0].shape}, got out with {out.shape}; give such an array",
            )
        out[...] = outputs[0]
        return out

    def _run(self, node: Node) -> None:
        """One node forward: values, what its backward needs, renewed running statistics."""
        if node.op.kind == "input":
            return
        training = self.spec.trains(node)
        outputs, saved, new_buffers = PAIRS[node.op.kind].forward(
            node.op,
            tuple(self.values[ref] for ref in node.inputs),
            {_local(path): self._parameter(path) for path in node.parameters},
            {_local(path): self._buffer(path, spec) for path, spec in node.buffers.items()},
            training=training,
            key=random.key(self.store.seed, f"dropout:{node.name}", self._step)
            if training and node.op.has_randomness
            else None,
        )
        if not node.inputs:  # a constant is the same for every sample
            outputs = tuple(np.broadcast_to(value, (self._n, *value.shape[1:])) for value in outputs)
        for index, value in enumerate(outputs):
            self.values[Ref(node.name, index)] = value
        if node.name in self._backward_nodes:
            self.saved[node.name] = saved
        for name, value in new_buffers.items():
            self.store.buffers[f"{node.name}.{name}"][...] = value
        if new_buffers:
            self.store.touch()

    def _parameter(self, path: str) -> Array:
        return self.overrides[path] if path in self.overrides else self._cast(self.store.parameters[path])

    def _buffer(self, path: str, spec: ParamSpec) -> Array:
        """A constant of a loss graph is no part of the model's store: it has the value that it was declared with."""
        return self._cast(self.store.buffers[path] if path in self.store.buffers else np.full(spec.shape, spec.value))

    def _cast(self, array: Array) -> Array:
        return array.astype(self.dtype, copy=False)

    def _dtype(self, name: str, array: Array) -> str:
        declared = super()._dtype(name, array)
        return declared if declared == "int64" else self.dtype.name  # images of uint8 are computed with as floats

    # --- losses

    def loss(self, targets: Array | Sequence[Array], weights: Sequence[float] | None = None) -> tuple[float, ...]:
        """The losses of the last forward, each without its weight."""
        checks.loss_weights(self.spec, weights)
        checks.needs_forward(self._n)
        arrays = self.check_inputs(self.spec.targets, self.as_list(targets))
        checks.as_many(self.spec, arrays, self._n)
        self.values |= {Ref(name): array for name, array in zip(self.spec.targets, arrays, strict=True)}
        for node in self._objective:
            self._run(node)
        return tuple(float(np.mean(self.values[ref])) for ref in self.spec.losses)

    # --- backward

    def backward(self, grad_outputs: Array | Sequence[Array | None]) -> dict[str, Array]:
        """Gradients of ``sum(grad_outputs * outputs)``: returned for ``wrt``, added to ``gradients`` for parameters."""
        checks.needs_forward(self._n)
        self.check_backward()
        gradients: dict[Ref, Array] = {}
        for ref, gradient in checks.given_gradients(self.spec, self.as_list(grad_outputs), self._n):
            if gradient is not None:
                _add(gradients, ref, np.asarray(gradient, self.dtype))
        return self._walk_back(gradients)

    def loss_backward(
        self, targets: Array | Sequence[Array], weights: Sequence[float] | None = None, scale: float = 1.0
    ) -> tuple[float, ...]:
        """The losses, and the gradients of ``scale * sum_i weights[i] * losses[i]`` added to ``gradients``."""
        self.check_backward()
        losses = self.loss(targets, weights)
        gradients: dict[Ref, Array] = {}
        for ref, weight in zip(self.spec.losses, checks.loss_weights(self.spec, weights), strict=True):
            value = self.values[ref]  # a scalar; a loss graph may also give one number per sample, whose mean counts
            _add(gradients, ref, np.full(value.shape, weight * scale / value.size, self.dtype))
        self._walk_back(gradients)
        return losses

    def _walk_back(self, gradients: dict[Ref, Array]) -> dict[str, Array]:
        """The chain rule: from outputs to inputs, every node hands the gradient of its output on to its inputs."""
        self.wrt_gradients = {}
        for node in reversed([*self._network, *self._objective]):
            received = [gradients.pop(Ref(node.name, i), None) for i in range(node.op.num_outputs)]
            if node.name in self.spec.wrt:
                self.wrt_gradients[node.name] = self._filled(node, received)[0].copy()
            if node.name in self.saved and any(one is not None for one in received):
                self._run_back(node, self._filled(node, received), gradients)
        return self.wrt_gradients

    def _filled(self, node: Node, received: list[Array | None]) -> tuple[Array, ...]:
        """What no reader sent is zero."""
        shapes = [(self._n, *shape) for shape in node.output_shapes]
        pairs = zip(received, shapes, strict=True)
        return tuple(np.zeros(shape, self.dtype) if one is None else one for one, shape in pairs)  # type: ignore[arg-type]

    def _run_back(self, node: Node, grad_outputs: tuple[Array, ...], gradients: dict[Ref, Array]) -> None:
        """One node backward: gradients of its inputs join the others, those of its parameters are accumulated."""
        needs = self._backward_nodes[node.name]
        grad_inputs, grad_params = PAIRS[node.op.kind].backward(
            node.op,
            grad_outputs,
            self.saved[node.name],
            {_local(path): self._parameter(path) for path in node.parameters},
            needs=needs,
        )
        for ref, wanted, gradient in zip(node.inputs, needs.inputs, grad_inputs, strict=True):
            if wanted and gradient is not None:
                _add(gradients, ref, gradient)
        for name, gradient in grad_params.items():
            path = f"{node.name}.{name}"
            self.gradients[path] = self.gradients[path] + gradient if path in self.gradients else gradient

    # --- update

    def update(self, lr: float) -> float:
        """Clip, optimise, average; returns the norm before clipping. A parameter without a gradient has gradient 0."""
        optimizer = checks.optimizer_of(self.spec)
        norm = update_store(optimizer, self.store, self._trained, self.gradients, lr)
        self.gradients = {}
        return norm

    def train_step(
        self,
        inputs: Array | Sequence[Array],
        targets: Array | Sequence[Array],
        *,
        lr: float,
        step: int | None = None,
        loss_weights: Sequence[float] | None = None,
    ) -> Step:
        """forward, loss_backward and update; then what backward needed is dropped."""
        outputs = self.forward(*self.as_list(inputs), step=self.store.updates if step is None else step)
        losses = self.loss_backward(targets, loss_weights)
        norm = self.update(lr)
        self.saved, self.values, self._n = {}, {}, 0
        weights = checks.loss_weights(self.spec, loss_weights)
        total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        return Step(total, losses, outputs, norm)

    def clone(self) -> ReferencePlan:
        """A plan on the same store with values of its own."""
        plan = ReferencePlan(self.spec, self.store, self.dtype)
        plan.overrides = self.overrides
        return plan


def _local(path: str) -> str:
    """ "conv1.weight" -> "weight"."""
    return path.rpartition(".")[2]


def _add(gradients: dict[Ref, Array], ref: Ref, gradient: Array) -> None:
    """Where a value is read several times, its gradients add up."""
    gradients[ref] = gradients[ref] + gradient if ref in gradients else gradient
