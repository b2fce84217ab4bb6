"""Gradients of one batch: in pieces, in one process or several, they add up to those of the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fovea.data.dataset import Batch
from fovea.engines.base import Plan
from fovea.engines.world import World
from fovea.training.prepare import Recipe
from fovea.training.share import own_parts

__all__ = ["Failed", "Found", "gradients_of"]

Failed = tuple[Any, Any, int]
"""Inputs, targets and step of a piece whose loss was not finite."""


@dataclass(frozen=True)
class Found:
    """Loss and metric (None: the task has none for a batch) of the whole batch, before the update."""

    loss: float
    metric: float | None
    failed: Failed | None
    """This process's first piece whose loss was not finite."""


def gradients_of(plan: Plan, batch: Batch, count: int, step: int, recipe: Recipe, pieces: int, world: World) -> Found:
    """The mean loss of ``count`` samples, of which ``batch`` are this process's; its gradients lie in the plan.

    A loss with a divisor of the task's own (the boxes of a detector) is known to be so large only when all pieces are
    through: the gradients are divided then.
    """
    task = recipe.model.task
    weight = recipe.weight(batch.targets)
    whole = float(count) if recipe.class_weights is None else world.total([weight])[0]
    loss: float = 0.0
    metric: float | None = None
    divisor: float | None = None
    failed: Failed | None = None
    parts = own_parts(count, pieces, world)
    for part in parts:
        inputs, given = batch.inputs[part.rows], batch.targets[part.rows]
        share = recipe.weight(given) / whole if whole else 0.0
        piece = step * pieces + part.piece
        plan.first_sample, plan.more_follow = part.first, part is not parts[-1]
        outputs = plan.forward(inputs, step=piece)
        targets = given if recipe.mix else task.assign(outputs, given)
        # processes average their gradients: times their number, that is the sum
        loss += share * sum(plan.loss_backward(targets, scale=share * world.size))
        if not math.isfinite(loss) and failed is None:
            failed = inputs, targets, piece
        own = task.loss_divisor(targets)
        divisor = own if divisor is None or own is None else divisor + own
        right = None if recipe.mix else task.batch_metric(outputs, given)
        if right is not None:
            metric = (metric or 0.0) + right * len(given) / count
    plan.more_follow = False
    loss, metric, divisor = _totals(world, loss, metric, divisor)
    if divisor is not None:
        factor = count / max(1.0, divisor)
        plan.scale_gradients(factor)
        loss *= factor
    return Found(loss, metric, failed)


def _totals(world: World, *values: float | None) -> Any:
    """Each value that there is, added up over all processes: they have the same ones."""
    totals = iter(world.total([value for value in values if value is not None]))
    return [None if value is None else next(totals) for value in values]
