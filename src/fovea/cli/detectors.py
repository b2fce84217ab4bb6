"""Which detector `fovea train` makes for images with boxes, and with which options it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.errors import ConfigError
from fovea.progress import say

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.model import Model

__all__ = ["detector_for", "detector_options"]

_PREFIX = "detector_"
_BACKBONE_LR = 0.05
"""How much slower a trained backbone learns than the rest, which begins at random."""


def detector_for(name: str | None, backbone: str | None, data: Dataset, seed: int) -> Model:
    """A fresh detector: ``name`` of the zoo (None: the smallest), on another backbone, or on a trained one's file."""
    import fovea
    from fovea import models

    chosen = name or models.default_for(data.kind, data.input_shape, data.train.listed, data.task)
    if not chosen.startswith(_PREFIX) or chosen not in models.names(data.task):
        known = ", ".join(models.names(data.task))
        raise ConfigError("--model", f"expected a detector for images with boxes, got {chosen!r}; choose of {known}")
    trained = backbone is not None and Path(backbone).exists()
    made = models.detector(
        classes=data.classes, size=chosen.removeprefix(_PREFIX), seed=seed, image_size=data.input_shape[:2],  # type: ignore[arg-type]  # images have two sides
        backbone=fovea.load(backbone) if trained and backbone is not None else backbone,
    )  # fmt: skip
    count = sum(array.size for array in made.parameters().values())
    why = "" if name else " (chosen by the data; another: --model)"
    on = "" if backbone is None else f" on {backbone}" + (", trained" if trained else ", fresh")
    say(f"model       {chosen}{why}{on}: {count:,} parameters")
    return made


def detector_options(given: Mapping[str, Any], model: Model, backbone: str | None) -> dict[str, Any]:
    """The options of a training: those given, else those that suit detection; a trained backbone learns slower."""
    from fovea.training.config import TrainConfig

    options = {**model.task.recipe, **given}
    if "warmup_epochs" not in given:
        options["warmup_epochs"] = min(options["warmup_epochs"], 0.1 * options["epochs"])
    if backbone is not None and Path(backbone).exists():
        optimizer = TrainConfig(**{key: options[key] for key in ("optimizer",)}).optimizer
        options["optimizer"] = replace(optimizer, lr_scales=(("backbone", _BACKBONE_LR),))
    return options
