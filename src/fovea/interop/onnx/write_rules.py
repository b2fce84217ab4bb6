"""How every op of ours is written as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fovea.graph.graph import Node
from fovea.interop.onnx.writer import Writer
from fovea.interop.writing import rules_into
from fovea.ops import GELU, Clip, Resize

__all__ = ["WRITE_RULES"]

WriteRule = Callable[[Writer, Node], None]
WRITE_RULES: dict[str, WriteRule] = {}
"""Kind of op -> rule."""


rule = rules_into(WRITE_RULES)


def _pads(axes: Sequence[Any]) -> list[int]:
    """All begins, then all ends; what windows do not reach may be negative and is no padding: floor leaves it out."""
    return [axis.pad_lo for axis in axes] + [max(axis.pad_hi, 0) for axis in axes]


def _weight(write: Writer, node: Node) -> list[str]:
    """Convolution weights in ONNX's order (out first; in first for the transposed one), and the bias."""
    return [write.constant(f"{node.name}.{name}", array) for name, array in write.weight(node).items()]


@rule("conv")
def _conv(write: Writer, node: Node) -> None:
    op: Any = node.op
    axes = op.windows(node.input_shapes[0])
    name = write.emit(
        "Conv", [write.first(node), *_weight(write, node)], node.name, kernel_shape=[a.kernel for a in axes],
        strides=[a.stride for a in axes], dilations=[a.dilation for a in axes], pads=_pads(axes), group=op.groups,
    )  # fmt: skip
    write.give(node, name, True)


@rule("convtranspose")
def _conv_transpose(write: Writer, node: Node) -> None:
    op: Any = node.op
    axes = op.windows(node.input_shapes[0])
    extra = [
        (axis.input or 0) - (((axis.output or 0) - 1) * axis.stride + axis.extent - axis.pad_lo - max(axis.pad_hi, 0))
        for axis in axes
    ]
    x = write.first(node)
    if any(more >= axis.stride for more, axis in zip(extra, axes, strict=True)):  # runtimes take less than a stride
        zeros = [more // axis.stride for more, axis in zip(extra, axes, strict=True)]  # each grows the output by one
        x = write.emit("Pad", [x, write.integers(0, 0, *(0 for _ in axes), 0, 0, *zeros)])
        extra = [more % axis.stride for more, axis in zip(extra, axes, strict=True)]
    name = write.emit(
        "ConvTranspose", [x, *_weight(write, node)], node.name, kernel_shape=[a.kernel for a in axes],
        strides=[a.stride for a in axes], dilations=[a.dilation for a in axes], pads=_pads(axes), group=op.groups,
        output_padding=extra,
    )  # fmt: skip
    write.give(node, name, True)


@rule("dense")
def _dense(write: Writer, node: Node) -> None:
    op: Any = node.op
    weight = write.constant(f"{node.name}.weight", write.array(node, "weight"))
    bias = write.constant(f"{node.name}.bias", write.array(node, "bias")) if op.use_bias else ""
    if len(node.input_shapes[0]) == 1:
        write.give(node, write.emit("Gemm", [write.plain(node), weight, *([bias] if bias else [])], node.name), False)
        return
    name = write.emit("MatMul", [write.plain(node), weight], "" if bias else node.name)
    write.give(node, write.emit("Add", [name, bias], node.name) if bias else name, False)


@rule("matmul")
def _matmul(write: Writer, node: Node) -> None:
    write.give(node, write.emit("MatMul", [write.plain(node, 0), write.plain(node, 1)], node.name), False)


@rule("maxpool", "avgpool")
def _pool(write: Writer, node: Node) -> None:
    op: Any = node.op
    axes = op.windows(node.input_shapes[0])
    average, x, pads = node.op.kind == "avgpool", write.first(node), _pads(axes)
    if average and any(axis.dilation != 1 for axis in axes):
        raise write.refuse(node, "dilated average pooling came with a later opset; use a convolution")
    if average and any(pads):  # what counts differs between runtimes and versions: written as counts of our own
        return _counted_average(write, node, x, axes, pads)
    if any(pad >= axis.kernel for pad, axis in zip(pads, (*axes, *axes), strict=True)):  # more than runtimes take
        full = [0, 0, *pads[: len(axes)], 0, 0, *pads[len(axes) :]]
        lowest = write.constant(f"{node.name}.lowest", np.array(-9e29, np.float32))
        x, pads = write.emit("Pad", [x, write.integers(*full), lowest]), [0] * len(pads)
    name = write.emit(
        "AveragePool" if average else "MaxPool", [x], node.name, kernel_shape=[a.kernel for a in axes],
        strides=[a.stride for a in axes], pads=pads, dilations=None if average else [a.dilation for a in axes],
    )  # fmt: skip
    write.give(node, name, True)


def _counted_average(write: Writer, node: Node, x: str, axes: Sequence[Any], pads: list[int]) -> None:
    """Padded with zeros, summed by an average over whole windows, divided by the counts that the op declares."""
    op: Any = node.op
    count = len(axes)
    full = [0, 0, *pads[:count], 0, 0, *pads[count:]]
    padded = write.emit("Pad", [x, write.integers(*full)])
    mean = write.emit("AveragePool", [padded], kernel_shape=[a.kernel for a in axes], strides=[a.stride for a in axes])
    counts = op.counts(node.input_shapes[0])
    factor = np.ones((), np.float32)
    for axis, per_window in zip(axes, counts, strict=True):
        factor = factor[..., None] * np.array([axis.kernel / one for one in per_window], np.float32)
    scale = write.constant(f"{node.name}.counts", factor[None, None])
    write.give(node, write.emit("Mul", [mean, scale], node.name), True)


@rule("adaptiveavgpool")
def _adaptive(write: Writer, node: Node) -> None:
    """Windows of unequal size are, along every axis, a product with the matrix of their means."""
    op: Any = node.op
    shape = node.input_shapes[0]
    matrices = []
    for size, bins in zip(shape, op.bins(shape), strict=False):
        means = np.zeros((size or 0, len(bins)), np.float32)
        for column, (start, stop) in enumerate(bins):
            means[start:stop, column] = 1 / (stop - start)
        matrices.append(means)
    _multiplied(write, node, matrices)


def _multiplied(write: Writer, node: Node, matrices: Sequence[Any]) -> None:
    """Every spatial axis times a matrix of its own."""
    name, ndim = write.first(node), len(node.input_shapes[0]) + 1
    for axis, matrix in enumerate(matrices):
        swap = list(range(ndim))
        swap[axis + 2], swap[-1] = swap[-1], swap[axis + 2]
        moved = name if axis + 2 == ndim - 1 else write.emit("Transpose", [name], perm=swap)
        name = write.emit("MatMul", [moved, write.constant(f"{node.name}.shares", matrix)])
        name = name if axis + 2 == ndim - 1 else write.emit("Transpose", [name], perm=swap)
    write.give(node, write.emit("Identity", [name], node.name), True)


@rule("globalavgpool", "globalmaxpool")
def _global_pool(write: Writer, node: Node) -> None:
    op: Any = node.op
    operator = "GlobalAveragePool" if node.op.kind == "globalavgpool" else "GlobalMaxPool"
    if op.keepdims:
        write.give(node, write.emit(operator, [write.first(node)], node.name), True)
        return
    pooled = write.emit(operator, [write.first(node)])
    write.give(node, write.emit("Flatten", [pooled], node.name, axis=1), False)


@rule("batchnorm")
def _batch_norm(write: Writer, node: Node) -> None:
    op: Any = node.op
    names = [
        write.constant(f"{node.name}.{name}", write.array(node, name))
        for name in ("weight", "bias", "running_mean", "running_var")
    ]
    x = write.first(node)
    write.give(node, write.emit("BatchNormalization", [x, *names], node.name, epsilon=float(op.eps)), True)


@rule("layernorm")
def _layer_norm(write: Writer, node: Node) -> None:
    op: Any = node.op
    names = [write.constant(f"{node.name}.{name}", write.array(node, name)) for name in ("weight", "bias")]
    x = write.plain(node)
    write.give(node, write.emit("LayerNormalization", [x, *names], node.name, axis=-1, epsilon=float(op.eps)), False)


@rule("groupnorm")
def _group_norm(write: Writer, node: Node) -> None:
    """Instance normalisation of groups as channels, then scale and shift."""
    op: Any = node.op
    shape = node.input_shapes[0]
    spatial = [size or 0 for size in shape[:-1]]
    groups = write.emit("Reshape", [write.first(node), write.integers(0, op.groups, -1)])
    ones = write.constant(f"{node.name}.ones", np.ones(op.groups, np.float32))
    zeros = write.constant(f"{node.name}.zeros", np.zeros(op.groups, np.float32))
    normal = write.emit("InstanceNormalization", [groups, ones, zeros], epsilon=float(op.eps))
    back = write.emit("Reshape", [normal, write.integers(0, shape[-1] or 0, *spatial)])
    each = (1, -1, *(1 for _ in spatial))
    weight, bias = (
        write.constant(f"{node.name}.{name}", write.array(node, name).reshape(each)) for name in ("weight", "bias")
    )
    write.give(node, write.emit("Add", [write.emit("Mul", [back, weight]), bias], node.name), True)


@rule("lrn")
def _lrn(write: Writer, node: Node) -> None:
    """Of images as they are; of anything else through a shape of four axes, as runtimes want it."""
    op: Any = node.op
    shape = node.input_shapes[0]
    x, image = write.first(node), len(shape) == 3
    if not image:
        x = write.emit("Reshape", [x, write.integers(0, shape[-1] or 0, 1, -1)])
    fields = {"size": op.size, "alpha": float(op.alpha), "beta": float(op.beta), "bias": float(op.k)}
    name = write.emit("LRN", [x], node.name if image else "", **fields)
    if not image:
        sizes = write.integers(0, shape[-1] or 0, *(size or 0 for size in shape[:-1]))
        name = write.emit("Reshape", [name, sizes], node.name)
    write.give(node, name, True)


@rule("layerscale", "prelu")
def _per_channel(write: Writer, node: Node) -> None:
    x = write.input(node)
    ndim = len(node.input_shapes[0]) + 1
    array = write.array(node, "weight")
    if x.first and ndim > 2:
        array = array.reshape(-1, *(1 for _ in range(ndim - 2)))
    operator = "PRelu" if node.op.kind == "prelu" else "Mul"
    write.give(node, write.emit(operator, [x.name, write.constant(f"{node.name}.weight", array)], node.name), x.first)


_UNARY: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "relu": ("Relu", lambda op: {}),
    "leakyrelu": ("LeakyRelu", lambda op: {"alpha": float(op.negative_slope)}),
    "sigmoid": ("Sigmoid", lambda op: {}),
    "tanh": ("Tanh", lambda op: {}),
    "hardsigmoid": ("HardSigmoid", lambda op: {"alpha": float(op.alpha), "beta": float(op.beta)}),
    "hardswish": ("HardSwish", lambda op: {}),
    "elu": ("Elu", lambda op: {"alpha": float(op.alpha)}),
    "selu": ("Selu", lambda op: {"alpha": float(op.alpha), "gamma": float(op.gamma)}),
    "softplus": ("Softplus", lambda op: {}),
    "mish": ("Mish", lambda op: {}),
    "exp": ("Exp", lambda op: {}),
    "log": ("Log", lambda op: {}),
    "sqrt": ("Sqrt", lambda op: {}),
    "abs": ("Abs", lambda op: {}),
    "dropout": ("Identity", lambda op: {}),
    "stochasticdepth": ("Identity", lambda op: {}),
    "stopgradient": ("Identity", lambda op: {}),
}


@rule(*_UNARY)
def _unary(write: Writer, node: Node) -> None:
    operator, attributes = _UNARY[node.op.kind]
    x = write.input(node)
    write.give(node, write.emit(operator, [x.name], node.name, **attributes(node.op)), x.first)


@rule("relu6", "clip")
def _clip(write: Writer, node: Node) -> None:
    op, x = node.op, write.input(node)
    low, high = (op.low, op.high) if isinstance(op, Clip) else (0.0, 6.0)
    bounds = [write.constant(f"{node.name}.bound", np.array(value, np.float32)) for value in (low, high)]
    write.give(node, write.emit("Clip", [x.name, *bounds], node.name), x.first)


@rule("silu")
def _silu(write: Writer, node: Node) -> None:
    x = write.input(node)
    write.give(node, write.emit("Mul", [x.name, write.emit("Sigmoid", [x.name])], node.name), x.first)


@rule("gelu")
def _gelu(write: Writer, node: Node) -> None:
    """As products: the operator came with opset 20."""
    x, op = write.input(node), node.op

    def number(value: float) -> str:
        return write.constant(f"{node.name}.number", np.array(value, np.float32))

    if isinstance(op, GELU) and op.approximate == "tanh":
        cube = write.emit("Mul", [write.emit("Mul", [x.name, x.name]), x.name])
        inner = write.emit("Add", [x.name, write.emit("Mul", [cube, number(0.044715)])])
        bent = write.emit("Tanh", [write.emit("Mul", [inner, number(0.7978845608028654)])])
    else:
        bent = write.emit("Erf", [write.emit("Mul", [x.name, number(0.7071067811865476)])])
    half = write.emit("Mul", [x.name, number(0.5)])
    write.give(node, write.emit("Mul", [half, write.emit("Add", [bent, number(1.0)])], node.name), x.first)


@rule("normalize")
def _normalize(write: Writer, node: Node) -> None:
    op: Any = node.op
    x, first = write.input(node).name, write.input(node).first
    channels = node.input_shapes[0][-1] or 1
    if op.order == "bgr":
        axis = write.axis(-1, len(node.input_shapes[0]) + 1, first)
        x = write.emit("Gather", [x, write.integers(*reversed(range(channels)))], axis=axis)
    x = write.emit("Cast", [x], to=1)
    spread = (-1, *(1 for _ in node.input_shapes[0][1:])) if first and len(node.input_shapes[0]) > 1 else (-1,)
    scale, offset = (
        np.broadcast_to(np.asarray(value, np.float32), channels).reshape(spread)
        for value in (op.scale / np.asarray(op.std), -np.asarray(op.mean) / np.asarray(op.std))
    )
    scaled = write.emit("Mul", [x, write.constant(f"{node.name}.scale", scale)])
    write.give(node, write.emit("Add", [scaled, write.constant(f"{node.name}.offset", offset)], node.name), first)


def _nearest(old: int, new: int) -> Any:
    """The element that every output of one axis takes, as runtimes find it, which divide in float32."""
    return np.floor(np.arange(new).astype(np.float32) / np.float32(new / old)).astype(np.int64)


@rule("resize")
def _resize(write: Writer, node: Node) -> None:
    op = node.op
    assert isinstance(op, Resize)
    *spatial, channels = (size or 0 for size in node.output_shapes[0])
    if op.mode == "nearest" and op.rounding is None and op.size is not None:
        pairs = [(old or 0, new) for old, new in zip(node.input_shapes[0], spatial, strict=False)]
        taken = [op.taps(axis, *pair)[0][:, 0] for axis, pair in enumerate(pairs)]
        if any(np.any(_nearest(*pair) != exact) for pair, exact in zip(pairs, taken, strict=True)):
            picks = [np.arange(old)[:, None] == exact for (old, _), exact in zip(pairs, taken, strict=True)]
            return _multiplied(write, node, [pick.astype(np.float32) for pick in picks])
    empty = write.constant("nothing", np.zeros(0, np.float32))
    x = write.first(node)
    if op.scale is not None and op.coordinates != "align_corners":
        scales = np.broadcast_to(np.asarray(op.scale, np.float32), len(spatial))
        target = [write.constant(f"{node.name}.scales", np.concatenate((np.ones(2, np.float32), scales)))]
    else:
        batch = write.emit("Slice", [write.emit("Shape", [x]), write.integers(0), write.integers(1)])
        target = [empty, write.emit("Concat", [batch, write.integers(channels, *spatial)], axis=0)]
    rounding = op.rounding or "floor"
    nearest, floor = op.mode == "nearest", op.mode == "nearest" and op.rounding is None
    name = write.emit(
        "Resize", [x, empty, *target], node.name,
        mode={"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}[op.mode],
        coordinate_transformation_mode="asymmetric" if floor else op.coordinates,
        nearest_mode=_ROUNDING.get(rounding, rounding) if nearest else None,
        cubic_coeff_a=op.cubic if op.mode == "bicubic" else None,
    )  # fmt: skip
    write.give(node, name, True)


_ROUNDING = {"half_down": "round_prefer_floor", "half_up": "round_prefer_ceil"}
