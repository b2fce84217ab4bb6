"""The learning rate range test: train briefly while lr grows, and see where the loss falls and where it bursts.

Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fovea import progress
from fovea.data.augment.scene import Scene
from fovea.data.dataset import Batch, Dataset
from fovea.data.loader import loader_for
from fovea.engines.base import Engine
from fovea.engines.world import World
from fovea.errors import ConfigError
from fovea.model import Model
from fovea.ops.base import is_number
from fovea.training.config import TrainConfig, checked_names
from fovea.training.place import engine_and_world
from fovea.training.prepare import Recipe, check_model, fit_model, open_data, recipe_for, resolved
from fovea.training.step import gradients_of

__all__ = ["LRFinding", "find_lr"]

_SMOOTHING = 0.9
_BURST = 4.0


@dataclass(frozen=True)
class LRFinding:
    """``lrs`` and the ``losses`` seen at them; ``smoothed`` is their bias-corrected moving average (0.9).

    ``suggestion``: a tenth of the lr with the lowest smoothed loss, which lies before the burst by a safe margin.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float


def find_lr(
    model: Model,
    data: Dataset | str | os.PathLike[str],
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    config: TrainConfig | None = None,
    engine: str | Engine | None = None,
    **options: Any,
) -> LRFinding:
    """Train for up to ``steps`` steps while lr grows from ``low`` to ``high`` in equal ratios.

    It ends early when the smoothed loss is four times its lowest. The model is as before afterwards. ``options`` are
    those of ``fovea.train``.

    Raises ConfigError for a range that is none.

    >>> fovea.find_lr(model, "fashion-mnist").suggestion  # doctest: +SKIP
    """
    if not (is_number(low) and is_number(high) and isinstance(steps, int)) or not 0 < low < high or steps < 10:
        raise ConfigError("find_lr", f"expected 0 < low < high and 10 steps or more, got {low}, {high}, {steps}")
    config = TrainConfig(**checked_names("find_lr", options)) if config is None else config
    check_model(model, "find_lr")
    kept = model.store.copy()
    before = (model.task, model.classes, model.preprocessing)
    try:
        ready = fit_model(model, open_data(data))
        config = resolved(config, model, len(ready.train))
        return _range_test(model, ready, config, engine_and_world(engine, config)[0], low, high, steps)
    finally:
        model.task, model.classes, model.preprocessing = before
        model.store.load(kept.tensors())
        model.store.optimizer_state, model.store.ema = kept.optimizer_state, kept.ema
        model.store.updates, model.store.seed = kept.updates, kept.seed


def _range_test(
    model: Model, data: Dataset, config: TrainConfig, engine: Engine, low: float, high: float, steps: int
) -> LRFinding:
    recipe, batch_size = recipe_for(config, model, data), config.batch_size or 1
    model.store.optimizer_state, model.store.ema, model.store.updates = {}, {}, 0
    plan = model.compile(
        engine, min(batch_size, len(data.train)), pixels=True, training=True, input_shape=data.input_shape,
        loss=recipe.loss(data.input_shape), optimizer=config.optimizer, precision=config.precision,
        trainable=config.trainable, batch_norm=config.batch_norm, device=config.device,
    )  # fmt: skip
    lrs: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    batches = _batches(data, config, recipe, batch_size)
    with progress.bar(steps, "learning rates", unit="steps") as bar, np.errstate(all="ignore"):
        for step in range(steps):
            batch = next(batches)
            lr = low * (high / low) ** (step / (steps - 1))
            loss = gradients_of(plan, batch, len(batch), step, recipe, 1, World()).loss  # each process on its own
            plan.update(lr)
            if not math.isfinite(loss):
                break
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            lrs.append(lr)
            losses.append(loss)
            smoothed.append(average / (1 - _SMOOTHING ** (step + 1)))
            bar.update(1, lr=lr, loss=smoothed[-1])
            if smoothed[-1] > _BURST * min(smoothed):
                break
    if not losses:
        raise ConfigError("find_lr", f"expected a finite loss at lr={low:g}, got none; start lower or check the data")
    return LRFinding(tuple(lrs), tuple(losses), tuple(smoothed), lrs[int(np.argmin(smoothed))] / 10)


def _batches(data: Dataset, config: TrainConfig, recipe: Recipe, batch_size: int) -> Iterator[Batch]:
    """Epoch after epoch."""
    augment, epoch = recipe.augment, 0
    if isinstance(augment, Scene):
        augment = dataclasses.replace(augment, sizes=(1.0, 1.0))  # one plan, of the data's own size
    while True:
        yield from loader_for(
            data.train, batch_size, seed=config.seed, epoch=epoch, augment=augment, mix=recipe.mix,
            workers=config.workers, drop_last=len(data.train) >= batch_size,
        )  # fmt: skip
        epoch += 1
