"""PyTorch's side: training steps, single convolutions, and the ONNX file for the others. Needs PyTorch."""

from __future__ import annotations

import io
import statistics
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from fovea.bench.networks import LR, MOMENTUM, WEIGHT_DECAY, Arrays, example
from fovea.bench.timing import Step, seconds
from fovea.bench.twins import TWINS, buffer_pairs, from_torch, load_weights, pairs
from fovea.model import Model

__all__ = ["Training", "faster_layout", "give_statistics", "onnx_file", "product_seconds", "product_step", "twin"]

LAYOUTS = ("channels_last", "contiguous")


class Training:
    """The same network with the same weights and batch, in one memory layout; bf16 by autocast, as PyTorch has it."""

    def __init__(self, name: str, model: Model, batch: Arrays, layout: str, precision: str = "fp32") -> None:
        self.layout, self.precision = layout, precision
        memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        network: Any = TWINS[name]()
        load_weights(model.graph, model.parameters(), network)
        self.graph = model.graph
        self.network = network.to(memory_format=memory)
        self.x = torch.from_numpy(np.moveaxis(batch[0], -1, 1).copy()).contiguous(memory_format=memory)
        self.y = torch.from_numpy(batch[1])
        weights = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, fused=True)

    def backward(self) -> float:
        """Forward, loss, backward; the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            loss: Any = F.cross_entropy(self.network(self.x), self.y)
        loss.backward()
        return float(loss.item())

    def step(self) -> float:
        """One training step; the loss."""
        loss = self.backward()
        self.optimizer.step()
        return loss

    def update(self) -> None:
        """The optimiser alone."""
        self.optimizer.step()

    def gradients(self) -> dict[str, npt.NDArray[np.float32]]:
        """By our paths, in our layout."""
        found: list[tuple[str, Any, Any]] = list(pairs(self.graph, self.network))
        return {path: from_torch(self.graph, node, parameter.grad) for path, node, parameter in found}

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """By our paths, in our layout."""
        return {path: from_torch(self.graph, node, p) for path, node, p in pairs(self.graph, self.network)}


def faster_layout(name: str, model: Model, batch: Arrays, precision: str) -> Training:
    """PyTorch's side in the memory layout that is faster for this network."""
    sides = [Training(name, model, batch, layout, precision) for layout in LAYOUTS]
    best = [min(seconds(side.step, 3)[1:]) for side in sides]
    return Training(name, model, batch, LAYOUTS[best.index(min(best))], precision)


def twin(name: str, model: Model) -> Any:
    """The network in PyTorch with our weights, for inference."""
    network = TWINS[name]()
    load_weights(model.graph, model.parameters(), network)
    return network.eval()


def give_statistics(name: str, model: Model) -> None:
    """Scales the statistics of a batch at random and puts them into our batch norms.

    Freshly made batch norms would fold to almost nothing.
    """
    rng = np.random.default_rng(2)
    network = twin(name, model)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.from_numpy(np.moveaxis(example(model, 4, seed=1)[0], -1, 1).copy()))
    buffers = model.buffers()
    for path, theirs in buffer_pairs(model.graph, network):
        buffers[path][...] = theirs.numpy() * rng.uniform(0.8, 1.25, tuple(theirs.shape)).astype(np.float32)
    model.store.touch()


def onnx_file(name: str, model: Model, x: npt.NDArray[np.float32]) -> bytes:
    """The network as ONNX, with our numbers, for inputs N,C,H,W of this one shape."""
    network = twin(name, model)
    for path, theirs in buffer_pairs(model.graph, network):
        theirs.copy_(torch.from_numpy(model.buffers()[path]))
    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package says it is old
        torch.onnx.export(
            network, (torch.from_numpy(x),), file, dynamo=False, input_names=["x"], output_names=["logits"]
        )
    written: bytes = file.getvalue()
    return written


def product_step(sizes: tuple[int, ...], which: str, n: int, precision: str) -> Step | None:
    """One pass of one convolution or dense layer alone, on random numbers; None when PyTorch has no such padding.

    ``sizes`` as a plan describes them, ``which`` its pass.
    """
    groups, inputs, outputs = sizes[:3]
    out_size, kernel, stride, dilation, padding = (sizes[first : first + 3] for first in (6, 9, 12, 15, 18))
    in_size = sizes[3:6]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if in_size == out_size == kernel == (1, 1, 1) and groups == 1:
        return _dense_step(inputs, outputs, which, n, dtype)
    axes = range(3) if in_size[0] > 1 or kernel[0] > 1 else range(1, 3)
    wanted = [
        (in_size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 == out_size[i] for i in axes
    ]
    if not all(wanted):
        return None
    memory = torch.channels_last if len(axes) == 2 else torch.channels_last_3d
    shape = [tuple(values[i] for i in axes) for values in (in_size, out_size, kernel, stride, padding, dilation)]
    x = torch.randn(n, inputs, *shape[0], dtype=dtype).contiguous(memory_format=memory)
    weight = torch.randn(outputs, inputs // groups, *shape[2], dtype=dtype).contiguous(memory_format=memory)
    how = (shape[3], shape[4], shape[5], False, (0,) * len(axes), groups)
    if which == "forward":
        return _without_gradient(lambda: torch.convolution(x, weight, None, *how))
    grad = torch.randn(n, outputs, *shape[1], dtype=dtype).contiguous(memory_format=memory)
    mask = [which == "backward data", which == "backward weight", False]
    return _without_gradient(lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, *how, mask))


def _dense_step(inputs: int, outputs: int, which: str, n: int, dtype: Any) -> Step:
    x, weight, grad = (torch.randn(*shape, dtype=dtype) for shape in ((n, inputs), (outputs, inputs), (n, outputs)))
    return _without_gradient(
        {
            "forward": lambda: F.linear(x, weight),
            "backward data": lambda: grad @ weight,
            "backward weight": lambda: grad.t() @ x,
        }[which]
    )


def _without_gradient(step: Step) -> Step:
    def inside() -> None:
        with torch.no_grad():
            step()

    return inside


def product_seconds(step: Step) -> float:
    """The median of some runs, after two that warm up."""
    first = min(seconds(step, 2))
    return statistics.median(seconds(step, max(3, min(50, round(0.03 / max(first, 1e-6))))))
