"""A network trained on images that are easy to tell apart, and images of which every answer is known."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import fovea
from fovea.model import Model

SIDE = 16
NAMES = ["red", "green", "stripes"]


def pictures(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 n,SIDE,SIDE,3: noise with a red patch, a green patch or stripes, and the class."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 3
    images = rng.integers(90, 140, (n, SIDE, SIDE, 3))
    for image, target in zip(images, targets, strict=True):
        top, left = rng.integers(0, SIDE - 8, 2)
        patch = image[top : top + 8, left : left + 8]
        if target == 2:
            patch[::2] += 80
            patch[1::2] -= 80
        else:
            patch[..., target] += 90
    return images.clip(0, 255).astype(np.uint8), targets


@functools.cache
def _trained() -> Model:
    images, targets = pictures(192)
    known = fovea.Preprocessing(size=(SIDE, SIDE), mean=(0.45,) * 3, std=(0.15,) * 3)
    net = fovea.Sequential(
        fovea.Conv(8, 3, padding=1), fovea.BatchNorm(), fovea.ReLU(), fovea.MaxPool(2),
        fovea.Conv(12, 3, padding=1), fovea.BatchNorm(), fovea.ReLU(),
        fovea.GlobalAvgPool(), fovea.Dense(3),
    )  # fmt: skip
    model = Model(net, (SIDE, SIDE, 3), NAMES, preprocessing=known, seed=1)
    options: Any = {"training": True, "loss": fovea.SoftmaxCrossEntropy(), "optimizer": fovea.SGD(momentum=0.9)}
    plan = model.compile("reference", 32, pixels=True, **options)
    for step in range(36):
        rows = slice(step % 6 * 32, step % 6 * 32 + 32)
        plan.train_step(images[rows], targets[rows], lr=0.05, step=step)
    return model


def trained() -> Model:
    """One that tells the three kinds apart; the same object for all tests, which leave it as it is."""
    return _trained()
