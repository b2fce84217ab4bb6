"""The zoo's networks written in PyTorch, and their weights in both layouts, so that both sides compute the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

if TYPE_CHECKING:  # a process that measures PyTorch alone loads little of ours
    from fovea.graph.graph import Graph, Node

__all__ = ["INPUT", "TWINS", "buffer_pairs", "from_torch", "load_weights", "pairs", "to_torch"]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


def _head(channels: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]


class Block(nn.Module):
    """relu(body(x) + shortcut(x)) with two 3x3 convolutions; the shortcut is 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(inputs, outputs, 3, stride), nn.ReLU(inplace=True), *_conv(outputs, outputs, 3)
        )
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Sequential(*_conv(inputs, outputs, 1, stride)) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N,C,H,W -> N,outputs,Ho,Wo."""
        return torch.relu_(self.body(x) + self.shortcut(x))


def lenet5() -> nn.Module:
    """LeNet-5 with ReLU and max-pooling, 28x28x1."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(inplace=True), nn.Linear(120, 84), nn.ReLU(inplace=True),
        nn.Linear(84, 10),
    )  # fmt: skip


def vgg_small() -> nn.Module:
    """Pairs of 3x3 convolutions with batch norm at 64, 128, 256 channels, 32x32x3."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [*_conv(channels, width, 3), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *_head(256, 10))


def _resnet(stem: list[nn.Module], widths: tuple[int, ...], blocks: int, num_classes: int) -> nn.Module:
    layers, channels = list(stem), widths[0]
    for number, width in enumerate(widths):
        for index in range(blocks):
            layers.append(Block(channels, width, 2 if number and not index else 1))
            channels = width
    return nn.Sequential(*layers, *_head(channels, num_classes))


def resnet20() -> nn.Module:
    """ResNet-20 with projection shortcuts, 32x32x3."""
    return _resnet([*_conv(3, 16, 3), nn.ReLU(inplace=True)], (16, 32, 64), 3, 10)


def resnet18() -> nn.Module:
    """ResNet-18, 224x224x3."""
    stem = [*_conv(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    return _resnet(stem, (64, 128, 256, 512), 2, 1000)


class Inverted(nn.Module):
    """Inverted residual: 1x1 up, 3x3 depthwise, 1x1 down; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        up = [*_conv(inputs, hidden, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        middle = [depthwise, nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        self.body = nn.Sequential(*up, *middle, *_conv(hidden, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N,C,H,W -> N,outputs,Ho,Wo."""
        y: torch.Tensor = self.body(x)
        return x + y if self.adds else y


def mobilenetv2() -> nn.Module:
    """MobileNetV2 without dropout, 224x224x3."""
    layers: list[nn.Module] = [*_conv(3, 32, 3, 2), nn.ReLU6(inplace=True)]
    channels = 32
    stages = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    )  # fmt: skip
    for expansion, width, repeats, stride in stages:
        for index in range(repeats):
            layers.append(Inverted(channels, width, 1 if index else stride, expansion))
            channels = width
    return nn.Sequential(*layers, *_conv(channels, 1280, 1), nn.ReLU6(inplace=True), *_head(1280, 1000))


TWINS: dict[str, Callable[[], nn.Module]] = {
    "lenet5": lenet5,
    "resnet20": resnet20,
    "vgg_small": vgg_small,
    "resnet18": resnet18,
    "mobilenetv2": mobilenetv2,
}

INPUT = {
    "lenet5": (1, 28, 28),
    "resnet20": (3, 32, 32),
    "vgg_small": (3, 32, 32),
    "resnet18": (3, 224, 224),
    "mobilenetv2": (3, 224, 224),
}
"""C,H,W of one sample."""


def to_torch(graph: Graph, node: Node, array: npt.NDArray[np.float32]) -> torch.Tensor:
    """A parameter of ours in PyTorch's layout: convolution out,in,*kernel; dense out,in with rows in C,H,W order."""
    if array.ndim > 2:
        array = np.moveaxis(array, (-1, -2), (0, 1))
    elif array.ndim == 2:
        shape = _flattened(graph, node)
        array = np.moveaxis(array.reshape(*shape, -1), (-1, -2), (0, 1)).reshape(array.shape[::-1])
    return torch.from_numpy(np.ascontiguousarray(array).copy())


def from_torch(graph: Graph, node: Node, tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """The inverse of ``to_torch``."""
    array: npt.NDArray[np.float32] = tensor.detach().contiguous().numpy()
    if array.ndim > 2:
        return np.moveaxis(array, (0, 1), (-1, -2))
    if array.ndim == 2:
        shape = _flattened(graph, node)
        moved = np.moveaxis(array.reshape(-1, shape[-1], *shape[:-1]), (0, 1), (-1, -2))
        return moved.reshape(array.shape[::-1])
    return array


def _flattened(graph: Graph, node: Node) -> tuple[int, ...]:
    """What the dense layer's rows were before Flatten: (*spatial, C), or (C,)."""
    source = graph.nodes[node.inputs[0].node]
    shape = source.input_shapes[0] if source.op.kind == "flatten" else node.input_shapes[0]
    closed = tuple(size or 0 for size in shape)
    assert math.prod(closed) == node.parameters[f"{node.name}.weight"].shape[0]
    return closed


def pairs(graph: Graph, peer: nn.Module) -> Iterator[tuple[str, Node, torch.Tensor]]:
    """(path, node, PyTorch parameter) of every parameter: both sides list their layers in the same order."""
    own = [(path, node) for node in graph.nodes.values() for path in node.parameters]
    for (path, node), parameter in zip(own, peer.parameters(), strict=True):
        yield path, node, parameter


def load_weights(graph: Graph, parameters: Mapping[str, npt.NDArray[np.float32]], peer: nn.Module) -> None:
    """Copy our parameters into the PyTorch network."""
    with torch.no_grad():
        for path, node, parameter in pairs(graph, peer):
            parameter.copy_(to_torch(graph, node, parameters[path]))


def buffer_pairs(graph: Graph, peer: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(path, PyTorch buffer) of every running statistic."""
    own = [path for node in graph.nodes.values() for path in node.buffers]
    theirs = [buffer for name, buffer in peer.named_buffers() if not name.endswith("num_batches_tracked")]
    yield from zip(own, theirs, strict=True)
