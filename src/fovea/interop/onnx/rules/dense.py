"""Matrix products and normalisations: operators with weights per channel."""

from __future__ import annotations

import math

import numpy as np

from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.rules.rule import rule
from fovea.interop.onnx.rules.shape import reshaped
from fovea.interop.onnx.values import BATCH, Array, Const, Tensor, Traced
from fovea.ops import LRN, BatchNorm, Dense, GroupNorm, LayerNorm, MatMul

__all__: list[str] = []


@rule("Gemm")
def _gemm(into: Importer) -> list[Traced]:
    x, weight = into.tensor(0), into.constant(1, "weights").astype(np.float32)
    if into.attribute("transA", 0) or x.ndim != 2:
        raise into.refuse("expected the samples in the rows of the first operand")
    weight = (weight.T if into.attribute("transB", 0) else weight) * np.float32(into.attribute("alpha", 1.0))
    bias = into.constant_or_none(2, "a bias")
    if bias is not None:
        if bias.size not in (1, weight.shape[1]) or (bias.ndim > 1 and bias.shape[-1] == 1 != bias.size):
            raise into.refuse(f"expected one bias for each output, got the shape {bias.shape}")
        bias = np.broadcast_to(bias.reshape(-1) * np.float32(into.attribute("beta", 1.0)), weight.shape[1:])
    return [_dense(into, x, weight, bias)]


def _dense(into: Importer, x: Tensor, weight: Array, bias: Array | None) -> Tensor:
    """x @ weight over the last ONNX axis; rows follow the order in which a flattened map lies in memory."""
    last = x.ndim - 1
    if weight.ndim != 2 or weight.shape[0] != x.sizes[last]:
        raise into.refuse(f"expected a matrix with {x.sizes[last]} rows, got the shape {weight.shape}")
    members, count = x.members(last), len(x.factors[last])
    tail = x.memory[len(x.memory) - count :]
    if sorted(tail) == list(members) and x.factors[0] == (BATCH,) and x.memory[:-count] == x.memory_of(range(last)):
        factors = [x.flat[index] or 1 for index in members]
        weight = weight.reshape(*factors, -1).transpose(*(members.index(i) for i in tail), count).reshape(weight.shape)
        ref = into.shaped(x.ref, x.sizes[1:])
    else:
        ref = into.plain(x).ref
    arrays = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return into.fresh(
        into.emit(Dense(weight.shape[1], bias is not None), ref, arrays=arrays), (*x.sizes[:-1], weight.shape[1])
    )


@rule("MatMul")
def _matmul(into: Importer) -> list[Traced]:
    second = into.value(1)
    if not isinstance(second, Tensor):
        x, weight = into.tensor(0), second.array.astype(np.float32)
        return [_dense(into, x, weight, _bias_behind(into, x, weight))]
    a, b = into.plain(into.tensor(0)), into.plain(second)
    return [into.fresh(into.emit(MatMul(), a.ref, b.ref), (*a.sizes[:-1], b.sizes[-1]))]


def _bias_behind(into: Importer, x: Tensor, weight: Array) -> Array | None:
    """What the next node adds to every output: the layer's bias, trained with it, for which no node remains."""
    own, node = into.node.output[0], into.following.get(into.node.output[0])
    if node is None or node.op_type != "Add" or weight.ndim != 2:
        return None
    held = [into.values.get(name) for name in node.input if name != own]
    if len(held) != 1 or not isinstance(held[0], Const):
        return None
    shape = held[0].array.shape
    if not 0 < len(shape) <= x.ndim or not held[0].array.size == shape[-1] == weight.shape[1]:
        return None
    into.absorbed[node.output[0]] = own
    return held[0].array.astype(np.float32).reshape(-1)


@rule("BatchNormalization")
def _batch_norm(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    if into.attribute("training_mode", 0) or len([name for name in into.node.output if name]) > 1:
        raise into.refuse(
            "expected a network exported for inference, got one in training mode", "export it after eval()"
        )
    weight, bias, mean, variance = (into.constant(i, "statistics") for i in range(1, 5))
    x = into.channels_last(x)
    arrays = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    op = BatchNorm(into.attribute("epsilon", 1e-5), 1.0 - into.attribute("momentum", 0.9))
    return [x.at(into.emit(op, x.ref, arrays=arrays))]


@rule("InstanceNormalization")
def _instance_norm(into: Importer) -> list[Traced]:
    x, weight, bias = into.channels_last(into.tensor(0)), into.constant(1, "scales"), into.constant(2, "a bias")
    op = GroupNorm(weight.size, into.attribute("epsilon", 1e-5))
    return [x.at(into.emit(op, x.ref, arrays={"weight": weight, "bias": bias}))]


@rule("GroupNormalization")
def _group_norm(into: Importer) -> list[Traced]:
    x, weight, bias = into.channels_last(into.tensor(0)), into.constant(1, "scales"), into.constant(2, "a bias")
    groups, channels = into.attribute("num_groups", 1), into.closed_sizes(x)[1]
    if into.opset < 21 and weight.size == groups:  # one scale a group, until opset 21
        into.allow(2 * channels)
        weight, bias = (np.repeat(array, channels // groups) for array in (weight, bias))
    op = GroupNorm(groups, into.attribute("epsilon", 1e-5))
    return [x.at(into.emit(op, x.ref, arrays={"weight": weight, "bias": bias}))]


@rule("LayerNormalization")
def _layer_norm(into: Importer) -> list[Traced]:
    x, weight = into.tensor(0), into.constant(1, "scales")
    axis = into.attribute("axis", -1) % x.ndim
    into.leave_out("the mean or deviation of a normalisation")
    if axis != x.ndim - 1:  # over several axes: they become one, and come back
        if axis == 0:
            raise into.refuse("expected axes of the sample, got the batch axis")
        sizes = into.closed_sizes(x)
        flat = _normalised(into, reshaped(into, x, [*sizes[:axis], math.prod(sizes[axis:])]), axis, weight.reshape(-1))
        return [reshaped(into, flat, sizes)]
    return [_normalised(into, x, axis, weight)]


def _normalised(into: Importer, x: Tensor, axis: int, weight: Array) -> Tensor:
    x, order = into.in_place(x)
    if order[-1] != axis:
        x = into.arranged(x, (*(one for one in order if one != axis), axis))
    bias = into.constant_or_none(2, "a bias")
    arrays = {"weight": weight, "bias": np.zeros_like(weight) if bias is None else bias.reshape(-1)}
    return x.at(into.emit(LayerNorm(into.attribute("epsilon", 1e-5)), x.ref, arrays=arrays))


@rule("LRN")
def _lrn(into: Importer) -> list[Traced]:
    x = into.channels_last(into.tensor(0))
    op = LRN(
        into.attribute("size", 5),
        into.attribute("alpha", 1e-4),
        into.attribute("beta", 0.75),
        into.attribute("bias", 1.0),
    )
    return [x.at(into.emit(op, x.ref))]
