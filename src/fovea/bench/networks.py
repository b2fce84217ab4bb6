"""The networks of the bench on our side, and batches for them. Nothing here needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import fovea
from fovea import models
from fovea.engines.base import Plan
from fovea.model import Model

__all__ = [
    "INFERENCE_BATCHES",
    "LR",
    "MOMENTUM",
    "NAMES",
    "OPTIONS",
    "TRAIN_BATCH",
    "WEIGHT_DECAY",
    "Arrays",
    "compiled",
    "create",
    "example",
]

NAMES = ("lenet5", "vgg_small", "resnet20", "resnet18", "mobilenetv2")
OPTIONS: dict[str, dict[str, Any]] = {"resnet20": {"shortcut": "projection"}, "mobilenetv2": {"dropout": 0.0}}
"""What makes our network the one that the peers run."""
TRAIN_BATCH = {"lenet5": 128, "vgg_small": 128, "resnet20": 128, "resnet18": 16, "mobilenetv2": 16}
INFERENCE_BATCHES = (1, 32)
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4

Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Inputs N,H,W,C and labels N."""


def create(name: str, input_shape: Sequence[int] | None = None, seed: int = 0) -> Model:
    """One of the networks with seeded weights."""
    return models.create(name, input_shape=input_shape, seed=seed, **OPTIONS.get(name, {}))


def compiled(model: Model, engine: str, batch: int, precision: str = "fp32") -> Plan:
    """A plan that trains: softmax cross-entropy, SGD with momentum and weight decay."""
    return model.compile(
        engine,
        batch,
        training=True,
        loss=fovea.SoftmaxCrossEntropy(),
        optimizer=fovea.SGD(momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
        precision=precision,
    )


def example(model: Model, size: int, seed: int = 0) -> Arrays:
    """A seeded batch: normal inputs, random labels."""
    rng = np.random.default_rng(seed)
    shape = tuple(side or 0 for side in model.graph.input_shapes[0])
    classes = model.graph.output_shapes[0][-1] or 1
    return rng.normal(size=(size, *shape)).astype(np.float32), rng.integers(0, classes, size)
