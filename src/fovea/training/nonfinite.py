"""Where infinite numbers or nan began: the step is computed again with every activation kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fovea.engines.base import Engine
from fovea.errors import NonFiniteError
from fovea.graph.objective import Loss
from fovea.model import Model

__all__ = ["after_update", "before_update"]


def before_update(
    model: Model, engine: Engine, loss: Loss, inputs: Any, targets: Any, step: int, what: str, advice: str,
    **options: Any,
) -> NonFiniteError:  # fmt: skip
    """The error for a loss that is not finite, naming the first node (in the order of computing) whose output is not.

    ``inputs``, ``targets`` and ``step`` are those of the failed forward; ``options`` those of its plan.
    """
    broken = _broken_parameters(model)
    if broken:
        return _error(broken[0], "weights", what, advice)
    if not np.isfinite(inputs).all():
        return _error("input", "the data themselves", what, "run: fovea data check DATA")
    buffers = {path: array.copy() for path, array in model.store.buffers.items()}
    names = [name for name, node in model.graph.nodes.items() if node.op.kind != "input"]
    try:
        plan = model.compile(
            engine,
            len(inputs),
            pixels=True,
            training=True,
            loss=loss,
            keep=names,
            input_shape=inputs.shape[1:],
            **options,
        )
        plan.forward(inputs, step=step)
        kept = plan.kept
        plan.loss(targets)
    finally:
        model.store.load(buffers)  # the pass renewed running statistics
    for name in names:
        if name in kept and not np.isfinite(kept[name]).all():
            return _error(name, "its output", what, advice)
    return _error("loss", "the loss of finite outputs", what, advice)


def after_update(model: Model, what: str, advice: str) -> NonFiniteError:
    """The error for gradients that were not finite although the loss was.

    Backward runs from the end: the last node with broken weights is where it began.
    """
    broken = _broken_parameters(model)
    return _error(broken[-1] if broken else "backward", "its gradient", what, advice)


def _broken_parameters(model: Model) -> list[str]:
    """Names of nodes with weights that are not finite, in the order of the graph."""

    def is_broken(paths: Iterable[str]) -> bool:
        return any(not np.isfinite(model.store.parameters[path]).all() for path in paths)

    return [name for name, node in model.graph.nodes.items() if is_broken(node.parameters)]


def _error(where: str, place: str, what: str, advice: str) -> NonFiniteError:
    return NonFiniteError(where, f"expected finite numbers, got infinite ones or nan in {place} at {what}; {advice}")
