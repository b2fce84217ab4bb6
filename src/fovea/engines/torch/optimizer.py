"""One update with PyTorch's fused optimisers, in the order that ``fovea.ops.optimizer`` declares: clip, optimise,
average.

SGD's and AdamW's formulas are PyTorch's own; the state arrays are put where its optimisers look for them, so that the
store holds them. What differs is done here: a parameter without a gradient has gradient 0, and is decayed like others;
clipping divides by the norm itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fovea.engines.torch.weights import Weights
from fovea.ops.base import ParamSpec
from fovea.ops.optimizer import SGD, AdamW, Optimizer, ema_share

__all__ = ["Update"]


class Update:
    """``update(lr)`` for the trained parameters of one plan."""

    def __init__(
        self,
        optimizer: Optimizer,
        weights: Weights,
        parameters: Mapping[str, torch.nn.Parameter],
        specs: Mapping[str, ParamSpec],
    ) -> None:
        self._op, self._weights, self._specs = optimizer, weights, specs
        self._parameters = {path: parameters[path] for path in specs}
        self._optim = _made(optimizer, self._parameters, specs)
        self._bound = self._counted = -1
        self._states: dict[str, list[torch.Tensor]] = {}
        self._averages: list[torch.Tensor] = []
        self._steps: list[torch.Tensor] = []

    def __call__(self, lr: float) -> torch.Tensor:
        """Changes parameters, state and averages; gives the norm of all gradients before clipping."""
        weights, op = self._weights, self._op
        if self._bound != weights.renewals:
            self._bind()
        if self._counted != weights.store.updates:  # another plan of this store has updated meanwhile
            for steps in self._steps:
                steps.fill_(weights.store.updates)
        parameters: list[torch.Tensor] = list(self._parameters.values())
        gradients = [_gradient(one) for one in self._parameters.values()]
        norm: torch.Tensor = torch.nn.utils.get_total_norm(gradients)
        if op.clip_norm is not None:
            torch._foreach_mul_(gradients, (op.clip_norm / norm).clamp(max=1.0))
        if isinstance(op, SGD) and op.momentum == 0:
            self._note_velocity(parameters, gradients)
        for group in self._optim.param_groups:
            group["lr"] = lr * group["scale"]
        self._optim.step()
        updates = weights.store.updates = self._counted = weights.store.updates + 1
        if op.ema_decay is not None:
            torch._foreach_lerp_(self._averages, parameters, 1 - ema_share(op.ema_decay, updates))
        self._optim.zero_grad(set_to_none=True)
        weights.changed("parameters", "optimizer_state", *(() if op.ema_decay is None else ("ema",)))
        return norm

    def _note_velocity(self, parameters: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        """With momentum 0 PyTorch keeps no velocity; ours is then the gradient with its decay."""
        decays = [self._op.weight_decay if spec.decay else 0.0 for spec in self._specs.values()]
        for velocity, p, gradient, decay in zip(self._states["momentum"], parameters, gradients, decays, strict=True):
            velocity.copy_(gradient).add_(p, alpha=decay)

    def _bind(self) -> None:
        """Put the store's state where the optimiser looks for it."""
        weights, op = self._weights, self._op
        weights.store.ensure_slots(op.slots, self._specs, ema=op.ema_decay is not None)
        self._states = {
            slot: [weights.tensor("optimizer_state", path, slot) for path in self._specs] for slot in op.slots
        }
        if op.ema_decay is not None:
            self._averages = [weights.tensor("ema", path) for path in self._specs]
        if isinstance(op, AdamW):
            self._steps = [torch.zeros((), device=weights.device) for _ in self._parameters]
            self._counted = -1
        for number, parameter in enumerate(self._parameters.values()):
            state = {slot: tensors[number] for slot, tensors in self._states.items()}
            if isinstance(op, AdamW):
                state["step"] = self._steps[number]
            elif op.momentum > 0:  # type: ignore[attr-defined]  # SGD
                state = {"momentum_buffer": state["momentum"]}
            else:
                state = {}
            self._optim.state[parameter] = state
        self._bound = weights.renewals


def _made(
    op: Optimizer, parameters: Mapping[str, torch.nn.Parameter], specs: Mapping[str, ParamSpec]
) -> torch.optim.Optimizer:
    """PyTorch's optimiser, with a group for every pair of learning rate's factor and decay."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for path, spec in specs.items():
        key = (op.lr_scale(path), op.weight_decay if spec.decay else 0.0)
        groups.setdefault(key, []).append(parameters[path])
    listed: Any = [{"params": ps, "scale": scale, "weight_decay": decay} for (scale, decay), ps in groups.items()]
    if isinstance(op, AdamW):
        return torch.optim.AdamW(listed, lr=0.0, betas=(op.beta1, op.beta2), eps=op.eps, fused=True)
    assert isinstance(op, SGD)
    return torch.optim.SGD(listed, lr=0.0, momentum=op.momentum, nesterov=op.nesterov and op.momentum > 0, fused=True)


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The gradient, in the parameter's order of memory, as fused kernels walk through both; 0 when there is none."""
    gradient = parameter.grad
    if gradient is None:
        gradient = torch.zeros_like(parameter)
    elif not _same_order(gradient, parameter):
        gradient = torch.empty_like(parameter).copy_(gradient)
    parameter.grad = gradient
    return gradient


def _same_order(a: torch.Tensor, b: torch.Tensor) -> bool:
    return all(size == 1 or one == other for size, one, other in zip(a.shape, a.stride(), b.stride(), strict=True))
