"""Activations: one element-wise kernel forward, one backward from what determines the slope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fovea.engines.native.rules.rule import Rule
from fovea.ops import ELU, GELU, SELU, Clip, HardSigmoid, LeakyReLU, ReLU, ReLU6

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.graph.graph import Node

__all__ = ["ACTIVATIONS"]

_FROM_OUTPUT = {"relu", "relu_guided", "relu_deconv", "relu6", "sigmoid", "tanh", "exp", "sqrt"}
"""Kernels whose derivative follows from the output: the input may be overwritten by it."""


def kernel_of(node: Node) -> tuple[str, tuple[float, float]]:
    """The kernel's name and its two numbers."""
    op = node.op
    if isinstance(op, ReLU):
        return "relu" if op.backward_rule == "standard" else f"relu_{op.backward_rule}", (0.0, 0.0)
    if isinstance(op, GELU):
        return "gelu_tanh" if op.approximate == "tanh" else "gelu", (0.0, 0.0)
    if isinstance(op, LeakyReLU):
        return op.kind, (op.negative_slope, 0.0)
    if isinstance(op, ELU):
        return op.kind, (op.alpha, 0.0)
    if isinstance(op, SELU):
        return op.kind, (op.alpha, op.gamma)
    if isinstance(op, Clip):
        return op.kind, (op.low, op.high)
    if isinstance(op, HardSigmoid):
        return op.kind, (op.alpha, op.beta)
    return op.kind, (0.0, 0.0)


def forward(low: Lowering, node: Node) -> None:
    """y = f(x)."""
    kernel, numbers = kernel_of(node)
    x, y = low.input(node), low.output(node)
    low.emit(kernel, [y], [x], [y.elements], numbers, inplace=((0, 0),))


def backward(low: Lowering, node: Node) -> None:
    """dx = f'(x) dy; of ReLU6 with another rule max(0, dy), for "guided" behind its own."""
    kernel, numbers = kernel_of(node)
    op = node.op
    if isinstance(op, ReLU6) and op.backward_rule != "standard":
        dx = low.grad_input(node)
        low.emit("relu", [dx], [low.grad(node)], [dx.elements], numbers, inplace=((0, 0),))
        if op.backward_rule == "guided":
            masked = low.grad_input(node)
            low.emit("relu6_backward", [masked], [dx, low.value(node)], [dx.elements], numbers, inplace=((0, 0),))
            dx = masked
        low.add_grad(node, 0, dx)
        return
    seen = low.value(node) if kernel in _FROM_OUTPUT else low.input(node)
    dx = low.grad_input(node)
    low.emit(f"{kernel}_backward", [dx], [low.grad(node), seen], [dx.elements], numbers, inplace=((0, 0),))
    low.add_grad(node, 0, dx)


_KINDS: tuple[str, ...] = ("relu", "relu6", "leakyrelu", "sigmoid", "tanh", "silu", "gelu", "hardsigmoid", "hardswish")
_KINDS += ("elu", "selu", "softplus", "mish", "clip", "exp", "log", "sqrt", "abs")
ACTIVATIONS = {kind: Rule(forward, backward) for kind in _KINDS}
