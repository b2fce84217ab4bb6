"""A fast CIFAR-10 recipe of the airbench family, written twice: with fovea, and by hand in PyTorch.

Both sides train the same network (a frozen whitening convolution, three groups of two 3x3 convolutions with batch norm
and GELU, a scaled linear head) from the same weights, by the same recipe: Nesterov momentum 0.85, weight decay in
proportion to lr ("decoupled": what it does does not change when lr does), 64 times the lr on the biases of batch norms,
lr straight up to its peak at 23 % of the steps and straight down to 7 % of it, label smoothing 0.2, flips that
alternate, shifts by up to two pixels, weights averaged with decay 0.98, ten views at inference (five shifts by a pixel
and their mirror images). In the spirit of Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"; none of its
code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import fovea
from fovea.data.augment import AlternatingFlip, Augment, ShiftCrop
from fovea.data.dataset import Dataset
from fovea.data.loader import Loader
from fovea.engines.base import Engine
from fovea.tasks.views import views

__all__ = ["Recipe", "first_model", "lr_factor", "train_by_hand", "train_ours"]

Result = tuple[float, float]
"""Seconds of training, accuracy on the test split."""
_EVALUATED = 1000  # images at a time


@dataclass(frozen=True)
class Recipe:
    """The sizes of one training."""

    epochs: int = 10
    batch_size: int = 1024
    widths: tuple[int, int, int] = (64, 256, 256)
    lr: float = 1.5
    weight_decay: float = 0.0153 / 11.5
    momentum: float = 0.85
    bias_scale: float = 64.0
    smoothing: float = 0.2
    ema: float = 0.98
    workers: int = 4


def lr_factor(step: int, total: int) -> float:
    """Straight from 0.2 to 1 in the first 23 % of the steps, then straight to 0.07."""
    peak = 0.23 * total
    return 0.2 + 0.8 * step / peak if step < peak else 1.0 - 0.93 * (step - peak) / max(1.0, total - peak)


def first_model(data: Dataset, recipe: Recipe, seed: int) -> fovea.Model:
    """The network before its first step, with the whitening layer of this data set."""
    layers: list[Any] = [fovea.Conv(24, 2, use_bias=False), fovea.GELU()]
    for width in recipe.widths:
        layers += [fovea.Conv(width, 3, padding="same", use_bias=False), fovea.MaxPool(2)]
        layers += [fovea.BatchNorm(momentum=0.4), fovea.GELU()]
        layers += [fovea.Conv(width, 3, padding="same", use_bias=False), fovea.BatchNorm(momentum=0.4), fovea.GELU()]
    x = fovea.Input((32, 32, 3))
    y = fovea.Sequential(*layers, fovea.MaxPool(3), fovea.Flatten(), fovea.Dense(10, use_bias=False))(x)
    y = fovea.Multiply()(y, fovea.Constant(np.full(10, 1 / 9, np.float32))())
    model = fovea.Model(fovea.Graph(inputs=x, outputs=y), classes=data.classes, seed=seed, name="airbench")
    model.preprocessing = data.preprocessing
    weights = {name: array.copy() for name, array in model.parameters().items()}
    names = [name for name, array in weights.items() if array.ndim == 4]
    some = data.train.inputs[:5000]
    weights[names[0]] = fovea.whitening_weight(data.preprocessing.apply_pixels(some))
    for name in names[1:]:  # the first filters hand their channel on
        channels = min(weights[name].shape[2:])
        weights[name][:, :, :, :channels] = 0
        weights[name][1, 1, range(channels), range(channels)] = 1
    model.store.load(weights)
    norms = [name for name in weights if "batchnorm" in name and name.endswith(".weight")]
    model.freeze(names[0], *norms)
    return model


def train_ours(
    model: fovea.Model,
    data: Dataset,
    recipe: Recipe,
    engine: str | Engine,
    device: str | None,
    precision: str,
    seed: int,
) -> Result:
    """With fovea: its loader, a plan of an engine, its views."""
    biases = tuple(
        (name, recipe.bias_scale) for name in model.trainable if "batchnorm" in name and name.endswith(".bias")
    )
    plan = model.compile(
        engine, recipe.batch_size, pixels=True, training=True, device=device, precision=precision,
        loss=fovea.SoftmaxCrossEntropy(label_smoothing=recipe.smoothing),
        optimizer=fovea.SGD(
            momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay, ema_decay=recipe.ema,
            lr_scales=biases,
        ),
    )  # fmt: skip
    augment = Augment((AlternatingFlip(), ShiftCrop(2)))
    total, step = recipe.epochs * (len(data.train) // recipe.batch_size), 0
    begin = time.perf_counter()
    for epoch in range(recipe.epochs):
        loader = Loader(
            data.train, recipe.batch_size, seed=seed, epoch=epoch, augment=augment.at(epoch), workers=recipe.workers,
            drop_last=True,
        )  # fmt: skip
        for batch in loader:
            plan.train_step(batch.inputs, batch.targets, lr=recipe.lr * lr_factor(step, total), step=step)
            step += 1
    seconds = time.perf_counter() - begin
    model.store.load({name: array.copy() for name, array in model.store.ema.items()})
    judge = model.compile(engine, _EVALUATED, pixels=True, device=device)
    found = [_ten_views(judge.forward, images) for images, _ in _pieces(data)]
    return seconds, _accuracy(found, data)


def train_by_hand(
    model: fovea.Model, data: Dataset, recipe: Recipe, device: str, precision: str, seed: int, compiled: bool
) -> Result:
    """By hand in PyTorch: the whole data set on the device, channels_last, autocast, a fused optimiser."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(seed)
    network = _network(torch, model, recipe).to(device, memory_format=torch.channels_last)
    whiten, biases, others = network[0].weight, [], []
    whiten.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.requires_grad_(False)
            biases.append(module.bias)
        elif module is not network[0] and isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            others.append(module.weight)
    groups = [
        {"params": others, "scale": 1.0, "weight_decay": recipe.weight_decay},
        {"params": biases, "scale": recipe.bias_scale, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True, fused=True)
    trained = [*others, *biases]
    averages = [weight.detach().clone() for weight in trained]
    run = torch.compile(network) if compiled else network
    mean, std = (torch.tensor(given, device=device) for given in (data.preprocessing.mean, data.preprocessing.std))

    def pixels(images: Any) -> Any:
        return ((images.float() * data.preprocessing.scale - mean) / std).permute(0, 3, 1, 2)

    images, targets = (torch.from_numpy(np.array(one)).to(device) for one in (data.train.inputs, data.train.targets))
    total, step = recipe.epochs * (len(images) // recipe.batch_size), 0
    _wait(torch, device)
    begin = time.perf_counter()
    prepared = F.pad(pixels(images), (2,) * 4, "reflect").contiguous(memory_format=torch.channels_last)
    turned = torch.rand(len(images), device=device) < 0.5
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(images), device=device)
        for first in range(0, len(images) - recipe.batch_size + 1, recipe.batch_size):
            rows = order[first : first + recipe.batch_size]
            x = _cropped(torch, prepared[rows], 2)
            x = torch.where((turned[rows] ^ bool(epoch % 2))[:, None, None, None], x.flip(3), x)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * lr_factor(step, total) * group["scale"]
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
                logits = run(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float() / 9, targets[rows], label_smoothing=recipe.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            share = 1 - min(recipe.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(averages, [weight.detach() for weight in trained], share)
    _wait(torch, device)
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        for weight, average in zip(trained, averages, strict=True):
            weight.copy_(average)
        network.eval()

        def forward(batch: np.ndarray) -> np.ndarray:
            found: np.ndarray = (network(pixels(torch.from_numpy(batch.copy()).to(device))) / 9).cpu().numpy()
            return found

        found = [_ten_views(forward, images) for images, _ in _pieces(data)]
    return seconds, _accuracy(found, data)


def _network(torch: Any, model: fovea.Model, recipe: Recipe) -> Any:
    """The network in PyTorch, with the weights of the model."""
    nn = torch.nn
    layers: list[Any] = [nn.Conv2d(3, 24, 2, bias=False), nn.GELU()]
    channels = 24
    for width in recipe.widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(width, momentum=0.4), nn.GELU()]
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, momentum=0.4), nn.GELU()]
        channels = width
    network = nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(channels, 10, bias=False))
    weights = [array for array in model.parameters().values() if array.ndim in (2, 4)]
    modules = [module for module in network if isinstance(module, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        for module, array in zip(modules, weights, strict=True):
            turned = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            module.weight.copy_(torch.from_numpy(np.ascontiguousarray(turned)))
    return network


def _cropped(torch: Any, padded: Any, pad: int) -> Any:
    """A window of each image of a batch N,C,H,W at a place of its own: one gather, no loop."""
    count, side = len(padded), padded.shape[-1] - 2 * pad
    places = torch.randint(0, 2 * pad + 1, (2, count, 1), device=padded.device)
    rows, columns = (place + torch.arange(side, device=padded.device) for place in places)
    picked = padded.permute(0, 2, 3, 1)[
        torch.arange(count, device=padded.device)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]  # N,H,W,C
    return picked.permute(0, 3, 1, 2)


def _pieces(data: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    test = data.split("test")
    for first in range(0, len(test), _EVALUATED):
        yield test.inputs[first : first + _EVALUATED], test.targets[first : first + _EVALUATED]


def _ten_views(forward: Any, images: np.ndarray) -> np.ndarray:
    """The sum of probabilities over ten views."""
    total = np.zeros((len(images), 10))
    for view in views(images, "ten-crop", (32, 32)):
        logits = np.asarray(forward(np.ascontiguousarray(view)), np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        total += shares / shares.sum(axis=1, keepdims=True)
    return total


def _accuracy(found: list[np.ndarray], data: Dataset) -> float:
    return float((np.concatenate(found).argmax(axis=1) == data.split("test").targets).mean())


def _wait(torch: Any, device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
