"""The plan of the PyTorch engine: arrays in, arrays out, tensors and autograd's graph in between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch

from fovea import random
from fovea.engines import checks
from fovea.engines.base import Array, Outputs, Plan, Step
from fovea.engines.frozen import reaching
from fovea.engines.spec import PlanSpec
from fovea.engines.torch import device as devices
from fovea.engines.torch.compiled import Compiled
from fovea.engines.torch.distributed import Processes, parallel
from fovea.engines.torch.function import Part, Program
from fovea.engines.torch.gradients import Gradients
from fovea.engines.torch.layout import shared, to_array
from fovea.engines.torch.optimizer import Update
from fovea.engines.torch.rules.rule import Layer, Mode
from fovea.engines.torch.settings import Settings
from fovea.engines.torch.weights import Weights
from fovea.errors import EngineError, ShapeError
from fovea.graph.graph import Node, Ref
from fovea.graph.store import ParameterStore

__all__ = ["TorchPlan"]


class TorchPlan(Plan):
    """Forward builds autograd's graph, which stays until the next forward or update: backward may run several times.

    ``gradients`` lie where PyTorch keeps them and become arrays when they are read. Input arrays are not copied on the
    CPU: leave them unchanged until backward is done. With several processes a plan with an optimizer averages its
    gradients among them in the one backward that each forward then allows.
    """

    def __init__(
        self, spec: PlanSpec, store: ParameterStore, device: torch.device, settings: Settings, processes: Processes
    ) -> None:
        self._leaves: dict[str, torch.nn.Parameter] = {}
        self._gradients = Gradients(self._leaves)
        super().__init__(spec, store)
        self.device, self._settings, self._processes = device, settings, processes
        self._weights = Weights.of(store, device)
        self._labels = checks.label_limits(spec)
        network, objective = spec.parts()
        self._averages = spec.optimizer is not None and processes.size > 1
        reached = reaching(spec.graph, spec.losses) if self._averages else spec.graph.nodes
        self._learning = {path for name in reached for path in spec.graph.node(name).parameters} & spec.trainable
        self._random = [n.name for n in network.values() if spec.trains(n) and n.op.has_randomness]
        self._keys = torch.zeros((len(self._random), 3), dtype=torch.int64, device=device)
        self._seed: int | None = None
        self._base_keys = np.zeros(0, np.uint64)
        self._renews = [
            path for n in network.values() if n.op.kind == "batchnorm" and spec.trains(n) for path in n.buffers
        ]
        losing = list(objective.values())
        asked = [*(ref for node in losing for ref in node.inputs), *spec.losses]
        reads = [ref for ref in dict.fromkeys(asked) if ref.node in network]
        kept = [Ref(name) for name in (*spec.keep, *spec.wrt)]
        self._wanted = list(dict.fromkeys([*spec.outputs, *kept, *reads]))
        self._read = reads
        self._network = self._part(network.values(), [Ref(name) for name in spec.inputs], self._wanted)
        given = [*self._read, *(Ref(name) for name in spec.targets)]
        self._objective = self._part(losing, given, spec.losses) if spec.losses else None
        self._shared = parallel(self._network, device) if self._averages else None
        self._forward: Any = self._network if self._shared is None else self._shared
        if settings.compiled and not spec.wrt:
            self._forward = Compiled(self._forward)
        trained = {path: one for path, one in spec.graph.parameters().items() if path in spec.trainable}
        self._update = Update(spec.optimizer, self._weights, self._leaves, trained) if spec.optimizer else None
        self._values: dict[Ref, torch.Tensor] = {}
        self._n = 0
        self._may_go_back = True

    # --- what the plan is made of

    def _part(self, nodes: Iterable[Node], given: Sequence[Ref], wanted: Sequence[Ref]) -> Part:
        computed = [node for node in nodes if node.op.kind != "input"]
        layers = {node.name: self._layer(node) for node in computed}
        across = self._settings.sync_batchnorm and self._averages

        def mode(node: Node) -> Mode:
            return Mode(training=self.spec.trains(node), synchronized=across)

        return Part(Program(computed, given, wanted, layers, mode, frozenset(self.spec.wrt)), layers)

    def _layer(self, node: Node) -> Layer:
        layer = Layer()
        for path in node.parameters:
            leaf = torch.nn.Parameter(self._weights.tensor("parameters", path), path in self._learning)
            layer.register_parameter(path.rpartition(".")[2], leaf)
            self._leaves[path] = leaf
        for path, spec in node.buffers.items():
            if path in self.store.buffers:
                buffer = self._weights.tensor("buffers", path)
            else:  # a constant of a loss graph is no part of the model's store
                buffer = torch.as_tensor(np.full(spec.shape, spec.value, np.float32), device=self.device)
            layer.register_buffer(path.rpartition(".")[2], buffer)
        if node.name in self._random:
            layer.key = self._keys[self._random.index(node.name)]
        return layer

    @property
    def gradients(self) -> MutableMapping[str, Array]:
        """Accumulated parameter gradients by path, until ``update`` consumes them."""
        return self._gradients

    @gradients.setter
    def gradients(self, values: MutableMapping[str, Array]) -> None:
        for path in list(self._gradients):
            del self._gradients[path]
        self._gradients.update(values)

    # --- forward

    def forward(self, *inputs: Array, out: Array | None = None, step: int = 0) -> Outputs:
        """Network inputs N,... -> outputs, copies that belong to the caller."""
        self._compute(inputs, step)
        return self._outputs(out)

    def _compute(self, inputs: Sequence[Array], step: int) -> None:
        arrays = self.check_inputs(self.spec.inputs, inputs)
        self._values, self._n = {}, 0  # autograd's graph of the last forward goes first
        self._weights.renew()
        self._renew_keys(step)
        tensors = [self._input(name, array) for name, array in zip(self.spec.inputs, arrays, strict=True)]
        with (
            torch.set_grad_enabled(bool(self._learning or self.spec.wrt)),
            devices.computing(self.device, self.spec.precision),
            self._alone(),
        ):
            found = self._forward(*tensors)
        self._values = dict(zip(self._wanted, found, strict=True))
        for name in self.spec.wrt:
            if self._values[Ref(name)].requires_grad:
                self._values[Ref(name)].retain_grad()
        self._n, self._may_go_back = int(arrays[0].shape[0]), True
        if self._renews:
            self._weights.changed("buffers")
        self.kept = {name: to_array(self._values[Ref(name)]) for name in self.spec.keep}

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """What DistributedDataParallel is told of a piece that others follow: gradients stay here."""
        held: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        return self._shared.no_sync() if self._shared is not None and self.more_follow else held

    def _input(self, name: str, array: Array) -> torch.Tensor:
        tensor = shared(array).to(self.device)
        if name not in self.spec.wrt:
            return tensor
        return tensor.to(torch.float32).requires_grad_()  # an image of bytes, too, has a gradient

    def _renew_keys(self, step: int) -> None:
        if not self._random:
            return
        if self._seed != self.store.seed:
            self._seed = self.store.seed
            keys = [random.key(self.store.seed, f"dropout:{name}") for name in self._random]
            self._base_keys = np.array(keys, np.uint64)
        keys = random.fold_in(self._base_keys, np.uint64(int(step) % (1 << 64)))
        words = np.stack(
            [keys & np.uint64(0xFFFFFFFF), keys >> np.uint64(32), np.full_like(keys, self.first_sample)], 1
        )
        self._keys.copy_(torch.from_numpy(words.astype(np.int64)))

    def _outputs(self, out: Array | None = None) -> Outputs:
        outputs = tuple(to_array(self._values[ref]) for ref in self.spec.outputs)
        if out is None:
            return outputs[0] if len(outputs) == 1 else outputs
        if len(outputs) != 1 or out.shape != outputs[0].shape:
            raise ShapeError(
                "out", f"expected one output of shape {outputs[0].shape}, got out with {out.shape}; give such an array"
            )
        out[...] = outputs[0]
        return out

    # --- losses

    def loss(self, targets: Array | Sequence[Array], weights: Sequence[float] | None = None) -> tuple[float, ...]:
        """The losses of the last forward, each without its weight."""
        checks.loss_weights(self.spec, weights)
        with torch.no_grad():
            return tuple(one.item() for one in self._losses(targets))

    def _losses(self, targets: Array | Sequence[Array]) -> list[torch.Tensor]:
        """Scalars; a loss graph may also give one number per sample, whose mean counts."""
        checks.needs_forward(self._n)
        assert self._objective is not None
        arrays = self.check_inputs(self.spec.targets, self.as_list(targets))
        checks.as_many(self.spec, arrays, self._n)
        checks.labels_in_range(self._labels, arrays)
        read = [_float32(self._values[ref]) for ref in self._read]
        given = [shared(array).to(self.device) for array in arrays]
        with devices.computing(self.device, "tf32" if self.spec.precision == "tf32" else "fp32"):
            return [one.mean() for one in self._objective(*read, *given)]

    # --- backward

    def backward(self, grad_outputs: Array | Sequence[Array | None]) -> dict[str, Array]:
        """Gradients of ``sum(grad_outputs * outputs)``: returned for ``wrt``, added to ``gradients`` for parameters."""
        checks.needs_forward(self._n)
        self.check_backward()
        roots, grads = [], []
        for ref, gradient in checks.given_gradients(self.spec, self.as_list(grad_outputs), self._n):
            if gradient is not None and self._values[ref].requires_grad:
                roots.append(self._values[ref])
                given = np.ascontiguousarray(gradient, np.float32)
                grads.append(shared(given).to(self.device, self._values[ref].dtype))
        return self._go_back(roots, grads)

    def loss_backward(
        self, targets: Array | Sequence[Array], weights: Sequence[float] | None = None, scale: float = 1.0
    ) -> tuple[float, ...]:
        """The losses, and the gradients of ``scale * sum_i weights[i] * losses[i]`` added to ``gradients``."""
        self.check_backward()
        chosen = checks.loss_weights(self.spec, weights)
        losses = self._losses(targets)
        self._go_back_from(losses, [weight * scale for weight in chosen])
        return tuple(loss.item() for loss in losses)

    def _go_back_from(self, losses: list[torch.Tensor], weights: Sequence[float], last: bool = False) -> None:
        pairs = [(loss, weight) for loss, weight in zip(losses, weights, strict=True) if loss.requires_grad]
        grads = [torch.full_like(loss, weight) for loss, weight in pairs]
        self._go_back([loss for loss, _ in pairs], grads, last)

    def _go_back(self, roots: list[torch.Tensor], grads: list[torch.Tensor], last: bool = False) -> dict[str, Array]:
        """Autograd's walk. ``last``: nobody will go back through this graph again."""
        if self._averages and not self._may_go_back:
            raise EngineError(
                "plan", "expected one backward for each forward where processes average gradients; call forward again"
            )
        self._may_go_back = False
        asked = {name: self._values[Ref(name)] for name in self.spec.wrt}
        for value in asked.values():
            value.grad = None
        if roots:
            keeps = isinstance(self._forward, Compiled) and self._forward.keeps_graph()
            with devices.computing(self.device, "tf32" if self.spec.precision == "tf32" else "fp32"):
                torch.autograd.backward(roots, grads, retain_graph=keeps or not last)
        self.wrt_gradients = {
            name: np.zeros(tuple(value.shape), np.float32) if value.grad is None else to_array(value.grad)
            for name, value in asked.items()
        }
        return self.wrt_gradients

    # --- update

    def scale_gradients(self, factor: float) -> None:
        """Multiply what ``gradients`` holds, where it lies."""
        held = [leaf.grad for leaf in self._leaves.values() if leaf.grad is not None]
        if held:
            torch._foreach_mul_(held, factor)

    def update(self, lr: float) -> float:
        """Clip, optimise, average; returns the norm before clipping. A parameter without a gradient has gradient 0."""
        return float(self._apply(lr))

    def _apply(self, lr: float) -> torch.Tensor:
        checks.optimizer_of(self.spec)
        assert self._update is not None
        self._values, self._n = {}, 0  # autograd's graph belongs to the old weights
        norm = self._update(lr)
        if self._averages and self._renews:
            self._processes.follow([self._weights.tensor("buffers", path) for path in self._renews])
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
        """forward, loss, backward and update; numbers are waited for once, at the end."""
        weights = checks.loss_weights(self.spec, loss_weights)
        checks.optimizer_of(self.spec)
        self._compute(self.as_list(inputs), self.store.updates if step is None else step)
        losses = self._losses(targets)
        self._go_back_from(losses, weights, last=True)
        values = {ref: self._values[ref].detach() for ref in self.spec.outputs}
        norm = self._apply(lr)
        self._values = values
        outputs = self._outputs()
        self._values = {}
        numbers = tuple(loss.item() for loss in losses)
        return Step(sum(w * loss for w, loss in zip(weights, numbers, strict=True)), numbers, outputs, float(norm))

    # --- the rest of the contract

    def clone(self) -> TorchPlan:
        """A plan on the same store with values and gradients of its own."""
        return TorchPlan(self.spec, self.store, self.device, self._settings, self._processes)

    def describe(self) -> list[dict[str, Any]]:
        """One row per node: its op, and where and in which precision PyTorch computes it."""
        where = {"device": str(self.device), "precision": self.spec.precision}
        return [{**row, **where} for row in super().describe()]


def _float32(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value
