"""Small networks for tests of attribution, and one of them in PyTorch with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np

import fovea
from fovea.model import Model

ENGINES = ("native", "reference")


def lived_in(model: Model, seed: int = 5) -> Model:
    """Statistics and biases as training leaves them, more or less: no zeros that would hide a mistake."""
    rng = np.random.default_rng(seed)
    for path, array in model.store.tensors().items():
        if path.endswith("running_var"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif path.endswith(("running_mean", "bias")):
            array[...] = rng.normal(0, 0.1, array.shape)
    model.store.touch()
    return model


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plain(*layers: Any, side: int = 8, classes: int = 4) -> Model:
    """The layers and a dense one, on side x side x 3."""
    net = fovea.Sequential(*layers, fovea.Flatten(), fovea.Dense(classes))
    return lived_in(Model(net, input_shape=(side, side, 3), seed=1))


def residual(side: int = 16, apart: bool = False) -> Model:
    """Convolutions, batch norms, ReLU and overlapping max-pooling, a residual block with a projection, global pooling.

    ``apart``: plain max-pooling without a ReLU beside it.
    """
    pooled = [fovea.MaxPool(2)] if apart else [fovea.ReLU(), fovea.MaxPool(3, stride=2, padding=1)]
    body = fovea.Sequential(
        fovea.Conv(12, 3, padding=1, use_bias=False), fovea.BatchNorm(), fovea.ReLU(),
        fovea.Conv(12, 3, padding=1, use_bias=False), fovea.BatchNorm(),
    )  # fmt: skip
    shortcut = fovea.Sequential(fovea.Conv(12, 1, use_bias=False), fovea.BatchNorm())
    net = fovea.Sequential(
        fovea.Conv(8, 3, padding=1, use_bias=False), fovea.BatchNorm(), *pooled,
        fovea.Residual(body, shortcut), fovea.ReLU(),
        fovea.GlobalAvgPool(), fovea.Dense(5),
    )  # fmt: skip
    return lived_in(Model(net, input_shape=(side, side, 3), seed=2))


def residual_in_torch(model: Model) -> Any:
    """The same network with the same numbers; every activation a module of its own, as Captum needs it."""
    import torch
    from torch import nn

    from fovea.bench.twins import buffer_pairs, load_weights

    def conv(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]

    relus = sum(node.op.kind == "relu" for node in model.graph.nodes.values())

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pooled = [nn.ReLU(), nn.MaxPool2d(3, 2, 1)] if relus == 3 else [nn.MaxPool2d(2)]
            self.stem = nn.Sequential(*conv(3, 8, 3), *pooled)
            self.body = nn.Sequential(*conv(8, 12, 3), nn.ReLU(), *conv(12, 12, 3))
            self.shortcut = nn.Sequential(*conv(8, 12, 1))
            self.last = nn.ReLU()
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.flat = nn.Flatten()
            self.head = nn.Linear(12, 5)

        def forward(self, x: Any) -> Any:
            x = self.stem(x)
            return self.head(self.flat(self.pool(self.last(self.body(x) + self.shortcut(x)))))

    twin = Twin().eval()
    load_weights(model.graph, model.parameters(), twin)
    with torch.no_grad():
        for path, buffer in buffer_pairs(model.graph, twin):
            buffer.copy_(torch.from_numpy(model.buffers()[path]))
    return twin
