"""Networks that have learned something, and other pictures of the same kind, small enough to train in a second."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

import fovea
from fovea import random
from fovea.data import Dataset, from_arrays
from fovea.data.preprocess import Preprocessing
from fovea.model import Model

STRIPES = ("lying", "standing", "sloping")
SHADES = ("dark", "bright", "framed", "halved")
QUICK: dict[str, Any] = {"engine": "reference", "report": False}


def stripes(n: int, seed: int, channels: int = 1) -> tuple[Any, Any]:
    """Noisy 12x12 pictures of stripes in three directions: uint8 N,12,12,channels and the direction."""
    kinds = np.arange(n) % 3
    y, x = np.mgrid[:12, :12]
    waves = np.stack([np.sin(y * 1.5), np.sin(x * 1.5), np.sin((x + y) * 1.1)])[kinds]
    noise = random.normal(random.key(seed, "stripes"), n * 144).reshape(n, 12, 12)
    pixels = np.clip(128 + 60 * waves + 25 * noise, 0, 255).astype(np.uint8)
    return pixels[..., None].repeat(channels, axis=-1), kinds.astype(np.int64)


def shades(n: int, seed: int) -> tuple[Any, Any]:
    """Noisy 12x12 pictures in four patterns of shade: uint8 N,12,12,1 and the pattern."""
    kinds = np.arange(n) % 4
    base = np.full((n, 12, 12), 90.0)
    base[kinds == 1] += 70
    base[kinds == 2, 2:-2, 2:-2] += 90
    base[kinds == 3, :, 6:] += 90
    noise = random.normal(random.key(seed, "shades"), n * 144).reshape(n, 12, 12)
    return np.clip(base + 20 * noise, 0, 255)[..., None].astype(np.uint8), kinds.astype(np.int64)


def stripe_data(n: int = 60, names: tuple[str, ...] = STRIPES, seed: int = 0) -> Dataset:
    """Stripes with a validation split of 30."""
    return from_arrays(stripes(n, seed), val=stripes(30, 900), classes=names, name="stripes")


def shade_data(n: int = 40, val: int = 24) -> Dataset:
    """Shades; without ``val`` the data set has no validation split."""
    held = shades(val, 901) if val else None
    return from_arrays(shades(n, 1), val=held, classes=SHADES, name="shades", val_fraction=0)


def network(classes: tuple[str, ...] = STRIPES) -> Model:
    """Two convolutions with batch norm, a dense layer and a head."""
    net = fovea.Sequential(
        fovea.Conv(8, 3, padding="same", use_bias=False), fovea.BatchNorm(), fovea.ReLU(), fovea.MaxPool(2),
        fovea.Conv(12, 3, padding="same"), fovea.ReLU(), fovea.MaxPool(2), fovea.Flatten(), fovea.Dense(16),
        fovea.ReLU(), fovea.Dense(len(classes)),
    )  # fmt: skip
    known = Preprocessing(size=(12, 12), channels=1, mean=0.5, std=0.25)
    return Model(net, (12, 12, 1), classes=classes, seed=2, preprocessing=known, name="stripes")


@functools.cache
def _weights() -> dict[str, Any]:
    import tempfile

    model = network()
    with tempfile.TemporaryDirectory() as folder:
        fovea.train(
            model, stripe_data(240), epochs=4, batch_size=24, lr=0.05, augment="none", out=Path(folder) / "run", **QUICK
        )
    return {path: array.copy() for path, array in model.store.tensors().items()}


def pretrained() -> Model:
    """A network that tells the directions of stripes apart; trained once, a fresh object each time."""
    model = network()
    model.store.load(_weights())
    return model
