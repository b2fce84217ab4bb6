"""The optimiser as instructions: the norm of all gradients, then one kernel over all parameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fovea.engines.native.program import Fixed, Instruction, Operand, Section
from fovea.errors import EngineError
from fovea.graph.store import ParameterStore
from fovea.ops.base import ParamSpec
from fovea.ops.optimizer import SGD, AdamW, Optimizer, ema_share

__all__ = ["NUMBERS", "state_arrays", "update_instructions", "write_numbers"]

NUMBERS = 6
"""Run-time numbers of an update: lr, 1 - beta1^t, 1 - beta2^t, decay of the average, gradient norm, clip factor."""

_PIECE = 1 << 14  # floats that one piece of an update covers


def state_arrays(
    optimizer: Optimizer, trained: Mapping[str, ParamSpec], store: ParameterStore
) -> list[npt.NDArray[np.float32] | None]:
    """Per trained parameter: its state arrays and its moving average (None without one), created where missing."""
    average = optimizer.ema_decay is not None
    store.ensure_slots(optimizer.slots, trained, ema=average)
    result: list[npt.NDArray[np.float32] | None] = []
    for path in trained:
        result += [store.optimizer_state[path][slot] for slot in optimizer.slots]
        result.append(store.ema[path] if average else None)
    return result


def update_instructions(
    optimizer: Optimizer,
    trained: Mapping[str, ParamSpec],
    store: ParameterStore,
    offsets: Mapping[str, int],
    gradients: Fixed,
    numbers: Fixed,
) -> list[Instruction]:
    """Gradient norm, then the update of every trained parameter; ``offsets`` says where its gradient begins."""
    states = state_arrays(optimizer, trained, store)
    per_parameter = len(optimizer.slots) + 1
    outs: list[Operand] = [numbers, gradients]
    pieces: list[int] = []
    reals = list(_rule(optimizer))
    for index, (path, offset) in enumerate(offsets.items()):
        array = store.parameters[path]
        own = states[index * per_parameter : (index + 1) * per_parameter]
        outs += [Fixed(array), *(None if one is None else Fixed(one) for one in own)]
        reals += [optimizer.lr_scale(path), optimizer.weight_decay if trained[path].decay else 0.0]
        for first in range(0, array.size, _PIECE):
            pieces += [index, first, min(first + _PIECE, array.size), offset + first]
    ints = [len(offsets), len(optimizer.slots), len(pieces) // 4, *pieces]
    norm = Instruction(
        Section.UPDATE,
        "",
        "grad_norm",
        (numbers,),
        (gradients,),
        (gradients.array.size,),
        (optimizer.clip_norm or 0.0,),
    )
    rule = Instruction(Section.UPDATE, "", optimizer.kind, tuple(outs), (), tuple(ints), tuple(reals))
    return [norm, rule]


def _rule(optimizer: Optimizer) -> tuple[float, float, float]:
    if isinstance(optimizer, SGD):
        return optimizer.momentum, float(optimizer.nesterov), 0.0
    if isinstance(optimizer, AdamW):
        return optimizer.beta1, optimizer.beta2, optimizer.eps
    raise EngineError(
        "native", f"expected SGD or AdamW, got the optimizer {optimizer.kind}; use the reference engine for it"
    )


def write_numbers(numbers: npt.NDArray[np.float64], optimizer: Optimizer, lr: float, t: int) -> None:
    """What update number t = 1, 2, ... is run with."""
    first, second = (1 - optimizer.beta1**t, 1 - optimizer.beta2**t) if isinstance(optimizer, AdamW) else (1.0, 1.0)
    decay = 0.0 if optimizer.ema_decay is None else ema_share(optimizer.ema_decay, t)
    numbers[:4] = lr, first, second, decay
