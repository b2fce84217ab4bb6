"""A graph of ours computed by PyTorch in float64, forward and backward: an outside oracle for whole networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fovea.ops as ops
from fovea import random
from fovea.engines.reference.ops import PAIRS
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.store import ParameterStore
from tests.fuzz.results import Array, Results, named
from tests.torch_ops import TORCH, F, Tensor, first, last, torch

__all__ = ["run_torch"]


def relu(op: ops.ReLU, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    assert op.backward_rule == "standard"
    return torch.relu(x)


def clip(op: ops.Clip, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """No gradient at the bounds themselves, where torch's clamp still has one."""
    return torch.where((x > op.low) & (x < op.high), x, x.detach().clamp(op.low, op.high))


def hard_sigmoid(op: ops.HardSigmoid, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    return (op.alpha * x + op.beta).clamp(0, 1)


def first_maximum(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """Over several axes; the gradient goes to the first maximum in row-major order, where torch's amax shares it."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    flat = x.permute(*kept, *axes).flatten(len(kept))
    y = flat.gather(-1, torch.from_numpy(np.argmax(flat.detach().numpy(), -1))[..., None])[..., 0]
    return y.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)]) if keepdims else y


def global_max(op: ops.GlobalMaxPool, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    return first_maximum(x, tuple(range(1, x.ndim - 1)), op.keepdims)


def reduce(op: ops.Reduce, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    axes = tuple(axis + 1 for axis in op.sample_axes(tuple(x.shape[1:])))
    if op.reduction == "max":
        return first_maximum(x, axes, op.keepdims)
    return (x.mean if op.reduction == "mean" else x.sum)(axes, keepdim=op.keepdims)


def cut(op: ops.Slice, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    for axis, one in enumerate(op.slices(tuple(x.shape[1:])), 1):
        x = x.index_select(axis, torch.arange(x.shape[axis])[list(range(*one.indices(x.shape[axis])))])
    return x


def normalize(op: ops.Normalize, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    x = x.flip(-1) if op.order == "bgr" else x
    return (x * op.scale - torch.tensor(op.mean, dtype=x.dtype)) / torch.tensor(op.std, dtype=x.dtype)


def joined(*values: Tensor) -> list[Tensor]:
    """All with as many axes as the one with the most: ones behind the batch axis."""
    ndim = max(value.ndim for value in values)
    return [value.reshape(len(value), *(1,) * (ndim - value.ndim), *value.shape[1:]) for value in values]


def product(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda op, x, p, y: function(*joined(x, y))


GRAPH_OPS: dict[str, Callable[..., Any]] = {
    **TORCH,
    "relu": relu,
    "clip": clip,
    "hardsigmoid": hard_sigmoid,
    "hardswish": lambda op, x, p: x * (x / 6 + 0.5).clamp(0, 1),
    "globalavgpool": lambda op, x, p: x.mean(tuple(range(1, x.ndim - 1)), keepdim=op.keepdims),
    "globalmaxpool": global_max,
    "reduce": reduce,
    "slice": cut,
    "normalize": normalize,
    "add": lambda op, x, p, *more: sum(joined(x, *more)),
    "sub": product(lambda x, y: x - y),
    "multiply": product(lambda x, y: x * y),
    "div": product(lambda x, y: x / y),
    "concat": lambda op, *values: torch.cat([values[0], *values[2:]], op.axis),
    "split": lambda op, x, p: torch.split(x, op.sizes, op.axis),
    "flatten": lambda op, x, p: x.flatten(1),
    "reshape": lambda op, x, p: x.reshape(len(x), *op.shape),
    "transpose": lambda op, x, p: x.permute(*op.perm),
    "layerscale": lambda op, x, p: x * p["weight"],
    "stopgradient": lambda op, x, p: x.detach(),
}


def run_torch(
    graph: Graph, store: ParameterStore, inputs: list[Array], grads: list[Array], training: bool, step: int
) -> Results:
    """Outputs, gradients of inputs and (in training) parameters, running statistics afterwards; by name."""
    weights = {path: torch.tensor(array, dtype=torch.float64) for path, array in store.parameters.items()}
    for tensor in weights.values():
        tensor.requires_grad_(training)
    buffers = {path: torch.tensor(array, dtype=torch.float64) for path, array in store.buffers.items()}
    values: dict[Ref, Tensor] = {}
    for name, array in zip(graph.inputs, inputs, strict=True):
        values[Ref(name)] = torch.tensor(array, dtype=torch.float64, requires_grad=True)
    for node in graph.nodes.values():
        if node.op.kind == "input":
            continue
        x = [values[ref] for ref in node.inputs]
        result = _run_node(node, x, weights, buffers, len(inputs[0]), training, store.seed, step)
        for index, one in enumerate(result if isinstance(result, tuple) else (result,)):
            values[Ref(node.name, index)] = one
    outputs = [values[ref] for ref in graph.outputs]
    wanted = [values[Ref(name)] for name in graph.inputs] + (list(weights.values()) if training else [])
    total = sum((one * torch.tensor(grad, dtype=torch.float64)).sum() for one, grad in zip(outputs, grads, strict=True))
    found = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else [None] * len(wanted)
    gradients = [np.zeros(tuple(one.shape)) if grad is None else grad for one, grad in zip(wanted, found, strict=True)]
    count = len(graph.inputs)
    return named(
        [one.detach().numpy() for one in outputs],
        dict(zip(graph.inputs, map(np.asarray, gradients[:count]), strict=True)),
        dict(zip(weights, map(np.asarray, gradients[count:]), strict=True)) if training else {},
        {path: tensor.numpy() for path, tensor in buffers.items()},
    )


def _run_node(
    node: Node, x: list[Tensor], weights: dict[str, Tensor], buffers: dict[str, Tensor], n: int, training: bool,
    seed: int, step: int,
) -> Any:  # fmt: skip
    op: Any = node.op
    if op.kind == "constant":
        value = buffers[f"{node.name}.value"]
        return value.expand(n, *value.shape)
    if op.kind == "batchnorm":
        mean, var = (buffers[f"{node.name}.{name}"] for name in ("running_mean", "running_var"))
        weight, bias = (weights[f"{node.name}.{name}"] for name in ("weight", "bias"))
        y = F.batch_norm(first(x[0]).contiguous(), mean, var, weight, bias, training, op.momentum, op.eps)
        if y.requires_grad:  # torch 2.13 gives wrong numbers when gradient and input lie in other orders
            y.register_hook(lambda gradient: gradient.contiguous())
        return last(y)
    if op.kind in ("dropout", "stochasticdepth"):  # our masks: they are a function of key and position
        key = random.key(seed, f"dropout:{node.name}", step) if training else None
        mask = PAIRS[op.kind].forward(op, (np.ones(tuple(x[0].shape)),), {}, {}, training=training, key=key)[0][0]
        return x[0] * torch.from_numpy(np.array(mask))
    params = {path.rpartition(".")[2]: weights[path] for path in node.parameters}
    return GRAPH_OPS[op.kind](op, x[0], params, *x[1:])
