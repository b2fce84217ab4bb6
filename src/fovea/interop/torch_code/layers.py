"""How layers and activations are written: what PyTorch has a module or function for, with its axes N,C,*spatial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fovea.engines.torch.rules.pool import torch_counts
from fovea.engines.torch.rules.window import alike
from fovea.graph.graph import Node
from fovea.interop.torch_code.writer import Writer, number, numbers
from fovea.interop.writing import rules_into
from fovea.ops.base import size_of
from fovea.ops.window import Axis, per_axis

__all__ = ["RULES", "rule"]

WriteRule = Callable[[Writer, Node], None]
RULES: dict[str, WriteRule] = {}
"""Kind of op -> rule."""


rule = rules_into(RULES)


def _few(write: Writer, node: Node) -> int:
    """The number of spatial axes; PyTorch has layers for one to three."""
    count = len(node.input_shapes[0]) - 1
    if count > 3:
        raise write.refuse(node, f"it has {count} spatial axes, PyTorch's layers three at most")
    return count


def _geometry(axes: Sequence[Axis], padding: str) -> str:
    """The arguments behind the kernel, without those that are PyTorch's defaults."""
    stride, dilation = numbers(axis.stride for axis in axes), numbers(axis.dilation for axis in axes)
    given = {"stride": (stride, "1"), "padding": (padding, "0"), "dilation": (dilation, "1")}
    return "".join(f", {name}={value}" for name, (value, usual) in given.items() if value != usual)


def _padded(x: str, axes: Sequence[Axis], fill: str = "", half: bool = False) -> tuple[str, str]:
    """The input, padded where a layer cannot pad so itself, and the layer's own padding."""
    if all(alike(axis) and (not half or axis.pad_lo <= axis.kernel // 2) for axis in axes):
        return x, numbers(axis.pad_lo for axis in axes)
    widths = [width for axis in reversed(axes) for width in (axis.pad_lo, axis.pad_hi)]
    return f"F.pad({x}, {tuple(widths)}{fill})", "0"


@rule("conv")
def _conv(write: Writer, node: Node) -> None:
    op: Any = node.op
    count, axes = _few(write, node), op.windows(node.input_shapes[0])
    x, padding = _padded(write.first(node), axes)
    rest = _geometry(axes, padding) + _groups(op)
    source = f"nn.Conv{count}d({node.input_shapes[0][-1]}, {op.out_channels}, {numbers(a.kernel for a in axes)}{rest})"
    write.give(node, f"{write.module(node, source, **write.weight(node))}({x})", True)


def _groups(op: Any, bias: bool = True) -> str:
    groups = f", groups={op.groups}" if op.groups != 1 else ""
    return groups + ("" if op.use_bias and bias else ", bias=False")


@rule("convtranspose")
def _conv_transpose(write: Writer, node: Node) -> None:
    """PyTorch's layer where it has this geometry, else the whole reach of the kernel and our part of it."""
    op: Any = node.op
    count, axes = _few(write, node), op.windows(node.input_shapes[0])
    surplus = [axis.pad_lo - axis.pad_hi for axis in axes]
    arrays = write.weight(node)
    own = all(0 <= more < max(axis.stride, axis.dilation) for more, axis in zip(surplus, axes, strict=True))
    bias = None if own else arrays.pop("bias", None)
    extra = f", output_padding={numbers(surplus)}" if own and any(surplus) else ""
    rest = _geometry(axes, numbers(a.pad_lo for a in axes) if own else "0") + extra + _groups(op, own)
    kernel = numbers(axis.kernel for axis in axes)
    source = f"nn.ConvTranspose{count}d({node.input_shapes[0][-1]}, {op.out_channels}, {kernel}{rest})"
    y = f"{write.module(node, source, **arrays)}({write.first(node)})"
    if not own:
        widths = tuple(-width for axis in reversed(axes) for width in (axis.pad_lo, axis.pad_hi))
        y = f"F.pad({y}, {widths})"
    if bias is not None:
        name = f"{write.attribute(node)}_bias"
        write.init.append(f"self.{name} = nn.Parameter(torch.empty({len(bias)}))")
        write.state[name] = bias
        y = f"{y} + {spread(f'self.{name}', count)}"
    write.give(node, y, True)


def spread(x: str, count: int) -> str:
    """C -> C,1..: a number for each channel beside N,C,*spatial."""
    return f"{x}.reshape(-1{', 1' * count})" if count else x


@rule("dense")
def _dense(write: Writer, node: Node) -> None:
    op: Any = node.op
    bias = "" if op.use_bias else ", bias=False"
    source = f"nn.Linear({node.input_shapes[0][-1]}, {op.out_channels}{bias})"
    write.give(node, f"{write.module(node, source, **write.weight(node))}({write.plain(node)})", False)


@rule("matmul")
def _matmul(write: Writer, node: Node) -> None:
    write.give(node, f"{write.plain(node, 0)} @ {write.plain(node, 1)}", False)


@rule("maxpool")
def _max_pool(write: Writer, node: Node) -> None:
    op: Any = node.op
    count, axes = _few(write, node), op.windows(node.input_shapes[0])
    x, padding = _padded(write.first(node), axes, ", value=-torch.inf", half=True)
    kernel, stride = (numbers(getattr(a, field) for a in axes) for field in ("kernel", "stride"))
    rest = _geometry(axes, padding).replace(f", stride={stride}", "")
    write.give(node, f"F.max_pool{count}d({x}, {kernel}, {stride}{rest})", True)


@rule("avgpool")
def _average_pool(write: Writer, node: Node) -> None:
    """PyTorch's function where it counts as we do; else sums of windows over how many of their elements count."""
    op: Any = node.op
    count, shape = _few(write, node), node.input_shapes[0]
    axes, counts = op.windows(shape), op.counts(shape)
    kernel, stride = (numbers(getattr(a, field) for a in axes) for field in ("kernel", "stride"))
    x, padding = _padded(write.first(node), axes, half=True)
    simple = all(axis.dilation == 1 and axis.kernel <= (axis.input or 0) for axis in axes) and "F.pad" not in x
    if simple and counts == torch_counts(op, shape):
        counted = "" if op.count_include_pad or padding == "0" else ", count_include_pad=False"
        around = "" if padding == "0" else f", {padding}"
        write.give(node, f"F.avg_pool{count}d({x}, {kernel}, {stride}{around}{counted})", True)
        return
    share: Any = np.ones((), np.float32)
    for one_axis in counts:
        share = share[..., None] / np.asarray(one_axis, np.float32)
    channels = shape[-1] or 0
    widths = tuple(width for axis in reversed(axes) for width in (axis.pad_lo, axis.pad_hi))
    ones = write.buffer(node, "ones", np.ones((channels, 1, *(axis.kernel for axis in axes)), np.float32))
    shares = write.buffer(node, "shares", share.astype(np.float32))
    rest = _geometry(axes, "0")
    sums = f"F.conv{count}d(F.pad({write.first(node)}, {widths}), {ones}{rest}, groups={channels})"
    write.give(node, f"{sums} * {shares}", True)


@rule("adaptiveavgpool")
def _adaptive(write: Writer, node: Node) -> None:
    op: Any = node.op
    count = _few(write, node)
    size = per_axis(op.kind, "output_size", op.output_size, count)
    write.give(node, f"F.adaptive_avg_pool{count}d({write.first(node)}, {numbers(size)})", True)


@rule("globalavgpool", "globalmaxpool")
def _global_pool(write: Writer, node: Node) -> None:
    op: Any = node.op
    axes = tuple(range(2, len(node.input_shapes[0]) + 1))
    function = "mean" if op.kind == "globalavgpool" else "amax"
    keep = ", keepdim=True" if op.keepdims else ""
    write.give(node, f"{write.first(node)}.{function}({axes}{keep})", bool(op.keepdims))


@rule("batchnorm")
def _batch_norm(write: Writer, node: Node) -> None:
    op: Any = node.op
    count = max(1, _few(write, node))
    arrays = {name: write.array(node, name) for name in ("weight", "bias", "running_mean", "running_var")}
    momentum = "" if op.momentum == 0.1 else f", momentum={number(op.momentum)}"
    source = f"nn.BatchNorm{count}d({node.input_shapes[0][-1]}{_eps(op)}{momentum})"
    name = write.module(node, source, **arrays, num_batches_tracked=np.array(0, np.int64))
    write.give(node, f"{name}({write.first(node)})", True)


def _eps(op: Any) -> str:
    return "" if op.eps == 1e-5 else f", eps={number(float(op.eps))}"


@rule("layernorm")
def _layer_norm(write: Writer, node: Node) -> None:
    arrays = {name: write.array(node, name) for name in ("weight", "bias")}
    name = write.module(node, f"nn.LayerNorm({node.input_shapes[0][-1]}{_eps(node.op)})", **arrays)
    write.give(node, f"{name}({write.plain(node)})", False)


@rule("groupnorm")
def _group_norm(write: Writer, node: Node) -> None:
    op: Any = node.op
    if size_of(node.input_shapes[0]) == op.groups:
        raise write.refuse(node, "each of its groups has one value, of which PyTorch's layer takes no mean")
    arrays = {name: write.array(node, name) for name in ("weight", "bias")}
    source = f"nn.GroupNorm({op.groups}, {node.input_shapes[0][-1]}{_eps(op)})"
    write.give(node, f"{write.module(node, source, **arrays)}({write.first(node)})", True)


@rule("lrn")
def _lrn(write: Writer, node: Node) -> None:
    """An even window lies one channel further back in PyTorch: channels run backwards there and back."""
    op: Any = node.op
    x = write.first(node) if len(node.input_shapes[0]) > 1 else f"{write.plain(node)}[..., None]"
    turned = ".flip(1)" if op.size % 2 == 0 else ""
    fields = ", ".join(number(float(value)) for value in (op.alpha, op.beta, op.k))
    y = f"F.local_response_norm({x}{turned}, {op.size}, {fields}){turned}"
    write.give(node, y if len(node.input_shapes[0]) > 1 else f"{y}[..., 0]", True)


@rule("normalize")
def _normalize(write: Writer, node: Node) -> None:
    op: Any = node.op
    x, count, channels = write.first(node), len(node.input_shapes[0]) - 1, node.input_shapes[0][-1] or 1
    mean, std = (
        write.buffer(node, name, np.ascontiguousarray(np.broadcast_to(np.asarray(value, np.float32), channels)))
        for name, value in (("mean", op.mean), ("std", op.std))
    )
    turned = ".flip(1)" if op.order == "bgr" else ""
    scaled = f"{x}{turned}.float() * {number(float(op.scale))}"
    write.give(node, f"({scaled} - {spread(mean, count)}) / {spread(std, count)}", True)


@rule("layerscale")
def _layer_scale(write: Writer, node: Node) -> None:
    weight = write.parameter(node, write.array(node, "weight"))
    write.give(node, f"{write.first(node)} * {spread(weight, len(node.input_shapes[0]) - 1)}", True)


@rule("prelu")
def _prelu(write: Writer, node: Node) -> None:
    source = f"nn.PReLU({node.input_shapes[0][-1]})"
    name = write.module(node, source, weight=write.array(node, "weight"))
    write.give(node, f"{name}({write.first(node)})", True)


@rule("dropout")
def _dropout(write: Writer, node: Node) -> None:
    op: Any = node.op
    x = write.input(node)
    write.give(node, f"{write.module(node, f'nn.Dropout({number(float(op.rate))})')}({x.name})", x.first)


@rule("stochasticdepth")
def _stochastic_depth(write: Writer, node: Node) -> None:
    """Dropout of whole samples: a factor for each, of PyTorch's dropout."""
    op: Any = node.op
    x = write.input(node)
    ones = f"{x.name}.new_ones({x.name}.shape[0]{', 1' * len(node.input_shapes[0])})"
    write.give(node, f"{x.name} * F.dropout({ones}, {number(float(op.rate))}, self.training)", x.first)


_ELEMENTWISE: dict[str, Callable[[Any, str], str]] = {
    "relu": lambda op, x: f"F.relu({x})",
    "relu6": lambda op, x: f"F.relu6({x})",
    "leakyrelu": lambda op, x: f"F.leaky_relu({x}, {number(float(op.negative_slope))})",
    "sigmoid": lambda op, x: f"torch.sigmoid({x})",
    "tanh": lambda op, x: f"torch.tanh({x})",
    "silu": lambda op, x: f"F.silu({x})",
    "gelu": lambda op, x: (
        f"F.gelu({x}, approximate={op.approximate!r})" if op.approximate == "tanh" else f"F.gelu({x})"
    ),
    "hardsigmoid": lambda op, x: f"({number(float(op.alpha))} * {x} + {number(float(op.beta))}).clamp(0, 1)",
    "hardswish": lambda op, x: f"F.hardswish({x})",
    "elu": lambda op, x: f"F.elu({x}, {number(float(op.alpha))})",
    "selu": lambda op, x: f"{number(float(op.gamma))} * F.elu({x}, {number(float(op.alpha))})",
    "softplus": lambda op, x: f"F.softplus({x})",
    "mish": lambda op, x: f"F.mish({x})",
    "clip": lambda op, x: f"{x}.clamp({number(float(op.low))}, {number(float(op.high))})",
    "exp": lambda op, x: f"torch.exp({x})",
    "log": lambda op, x: f"torch.log({x})",
    "sqrt": lambda op, x: f"torch.sqrt({x})",
    "abs": lambda op, x: f"torch.abs({x})",
    "stopgradient": lambda op, x: f"{x}.detach()",
}


@rule(*_ELEMENTWISE)
def _elementwise(write: Writer, node: Node) -> None:
    if getattr(node.op, "backward_rule", "standard") != "standard":
        raise write.refuse(node, "its gradient has a rule of its own; use the network without it")
    x = write.input(node)
    write.give(node, _ELEMENTWISE[node.op.kind](node.op, x.name), x.first)
