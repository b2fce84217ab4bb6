"""Element-wise operators: activations and arithmetic with broadcasting. They keep whatever axis order comes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.rules.rule import RULES, rule
from fovea.interop.onnx.values import BATCH, Array, Const, Tensor, Traced
from fovea.ops import (
    ELU,
    GELU,
    SELU,
    Abs,
    Add,
    Clip,
    Constant,
    Div,
    Dropout,
    Exp,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Log,
    Mish,
    Multiply,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Sqrt,
    Sub,
    Tanh,
)
from fovea.ops.base import Op

__all__: list[str] = []


def _unary(operator: str, make: Callable[[Importer], Op]) -> None:
    def import_one(into: Importer) -> list[Traced]:
        x = into.tensor(0)
        return [x.at(into.emit(make(into), x.ref))]

    RULES[operator] = import_one


_unary("Relu", lambda into: ReLU())
_unary("Sigmoid", lambda into: Sigmoid())
_unary("Tanh", lambda into: Tanh())
_unary("LeakyRelu", lambda into: LeakyReLU(into.attribute("alpha", 0.01)))
_unary("HardSigmoid", lambda into: HardSigmoid(into.attribute("alpha", 0.2), into.attribute("beta", 0.5)))
_unary("HardSwish", lambda into: HardSwish())
_unary("Elu", lambda into: ELU(into.attribute("alpha", 1.0)))
_unary("Selu", lambda into: SELU(into.attribute("alpha", 1.6732632), into.attribute("gamma", 1.0507010)))
_unary("Softplus", lambda into: Softplus())
_unary("Mish", lambda into: Mish())
_unary("Exp", lambda into: Exp())
_unary("Log", lambda into: Log())
_unary("Sqrt", lambda into: Sqrt())
_unary("Abs", lambda into: Abs())
_unary("Gelu", lambda into: GELU(into.attribute("approximate", "none")))


@rule("Swish")
def _swish(into: Importer) -> list[Traced]:
    if into.attribute("alpha", 1.0) != 1.0:
        raise into.refuse(f"expected alpha = 1, got {into.attribute('alpha')}")
    x = into.tensor(0)
    return [x.at(into.emit(SiLU(), x.ref))]


@rule("LogSoftmax")
def _log_softmax(into: Importer) -> list[Traced]:
    (soft,) = _softmax(into)
    assert isinstance(soft, Tensor)
    return [soft.at(into.emit(Log(), soft.ref, hint="log"))]


@rule("Neg", "Reciprocal", "Pow")
def _power(into: Importer) -> list[Traced]:
    """As products, quotients and roots."""
    x, kind = into.tensor(0), into.node.op_type
    if kind == "Neg":
        return [_with_constant(into, Multiply(), x, np.array(-1.0), False)]
    if kind == "Reciprocal":
        return [_with_constant(into, Div(), x, np.array(1.0), True)]
    exponent = into.constant(1, "the exponent")
    power = float(exponent.reshape(-1)[0]) if exponent.size == 1 else float("nan")
    if power not in (0.5, 1.0, 2.0, 3.0):
        raise into.refuse(f"expected the exponent 0.5, 1, 2 or 3, got {power:g}")
    if power == 0.5:
        return [x.at(into.emit(Sqrt(), x.ref))]
    ref = x.ref
    for _ in range(int(power) - 1):
        ref = into.emit(Multiply(), ref, x.ref)
    return [x.at(ref)]


@rule("Max", "Min")
def _bound(into: Importer) -> list[Traced]:
    """Against one number."""
    values = [into.value(index) for index in range(len(into.node.input))]
    tensors = [value for value in values if isinstance(value, Tensor)]
    numbers = [value.array for value in values if isinstance(value, Const)]
    if len(values) == 1:
        return values
    if len(tensors) != 1 or any(array.size != 1 for array in numbers):
        raise into.refuse("expected one computed operand and numbers")
    held = [float(np.clip(array.reshape(-1)[0], -3.4e38, 3.4e38)) for array in numbers]
    op = Clip(max(held), 3.4e38) if into.node.op_type == "Max" else Clip(-3.4e38, min(held))
    return [tensors[0].at(into.emit(op, tensors[0].ref))]


@rule("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear")
def _quantised(into: Importer) -> list[Traced]:
    raise into.refuse("expected a network in float32, got a quantised one", "export it before quantising")


@rule("Clip")
def _clip(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    low, high = (
        (into.attribute("min"), into.attribute("max"))
        if into.opset < 11
        else (into.constant_or_none(1, "the lower bound"), into.constant_or_none(2, "the upper bound"))
    )
    bounds = tuple(
        inf if value is None else np.asarray(value).item() for value, inf in ((low, -np.inf), (high, np.inf))
    )
    if bounds == (0.0, 6.0):
        return [x.at(into.emit(ReLU6(), x.ref))]
    if bounds[0] == 0.0 and bounds[1] >= 3e38:
        return [x.at(into.emit(ReLU(), x.ref))]
    held = tuple(float(np.clip(bound, -3.4e38, 3.4e38)) for bound in bounds)
    return [x.at(into.emit(Clip(*held), x.ref))]


@rule("PRelu")
def _prelu(into: Importer) -> list[Traced]:
    slope, x = into.constant(1, "slopes"), into.tensor(0)
    sizes = (1,) * (x.ndim - slope.ndim) + slope.shape
    if slope.size > 1 and x.ndim > 2 and sizes[-1] == slope.size and not into.converted:
        x, channels = into.plain(x), slope.size  # of the last axis, as in the file
    else:
        x = into.channels_last(x)
        channels = into.closed_sizes(x)[1]
        if slope.size > 1 and sizes[1] != channels and not into.converted:  # before opset 7: per channel
            channels = 0
    if slope.size == 1:
        into.allow(channels)
        slope = np.full(channels, slope.reshape(-1)[0])
    elif slope.size != channels:
        raise into.refuse(f"expected one slope per channel, got the shape {slope.shape}")
    return [x.at(into.emit(PReLU(), x.ref, arrays={"weight": slope.reshape(-1)}))]


@rule("Softmax")
def _softmax(into: Importer) -> list[Traced]:
    x, order = into.in_place(into.tensor(0))
    axis = into.attribute("axis", 1 if into.opset < 13 else -1) % x.ndim
    if axis == order[0]:
        raise into.refuse("expected an axis of the sample, got the batch axis")
    if into.opset < 13 and any(size != 1 for size in x.sizes[axis + 1 :]):
        if axis != 1:
            raise into.refuse(
                f"before opset 13 Softmax flattens the axes from {axis} on; only 1 is there", "export again"
            )
        flat = into.shaped(x.ref, [math.prod(into.closed_sizes(x)[1:])])  # whatever their order: all are summed
        soft = into.emit(Softmax(1), flat)
        return [x.at(into.shaped(soft, into.shapes[x.ref]))]
    return [x.at(into.emit(Softmax(order.index(axis)), x.ref))]


@rule("Dropout")
def _dropout(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    given = into.constant_or_none(1, "the ratio") if into.opset >= 12 else None
    rate = into.attribute("ratio", 0.5) if given is None else float(given.reshape(-1)[0])
    into.leave_out("the mask of a dropout")
    return [x.at(into.emit(Dropout(rate), x.ref))]


@rule("Identity")
def _identity(into: Importer) -> list[Traced]:
    return [into.value(0)]


@rule("Cast")
def _cast(into: Importer) -> list[Traced]:
    if into.attribute("to") not in (1, 10, 11, 16):  # float32, float16, float64, bfloat16: numbers stay what they are
        raise into.refuse("expected computed values to stay floating-point numbers")
    return [into.value(0)]


def _binary(operator: str, op: Op) -> None:
    def import_one(into: Importer) -> list[Traced]:
        a, b = into.value(0), into.value(1)
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return [_two(into, op, a, b)]
        if isinstance(a, Tensor) and isinstance(b, Const):
            return [_with_constant(into, op, a, b.array, False)]
        assert isinstance(a, Const)
        assert isinstance(b, Tensor)
        return [_with_constant(into, op, b, a.array, True)]

    RULES[operator] = import_one


for _operator, _op in (("Add", Add()), ("Sub", Sub()), ("Mul", Multiply()), ("Div", Div())):
    _binary(_operator, _op)


def _two(into: Importer, op: Op, a: Tensor, b: Tensor) -> Tensor:
    if a.ndim != b.ndim:
        raise into.refuse(f"expected operands with equally many axes, got {a.ndim} and {b.ndim}")
    if (a.factors, a.memory) == (b.factors, b.memory) and into.shapes[a.ref] == into.shapes[b.ref]:
        return a.at(into.emit(op, a.ref, b.ref))
    lead = a if _elements(a) >= _elements(b) else b
    _, order = into.in_place(lead)
    a, b = into.arranged(a, order), into.arranged(b, order)
    ref = into.emit(op, a.ref, b.ref)
    return into.fresh_like(ref, order)


def _elements(value: Tensor) -> int:
    count = 1
    for size in value.sizes:
        count *= 1 << 20 if size is None else size
    return count


def _with_constant(into: Importer, op: Op, x: Tensor, array: Array, constant_first: bool) -> Tensor:
    if any(size not in (1, wanted) for size, wanted in zip(array.shape[::-1], x.sizes[::-1], strict=False)):
        return _two(into, op, *((into.as_tensor(array), x) if constant_first else (x, into.as_tensor(array))))
    own = into.constant_like(array, x)
    while own.ndim > 1 and own.shape[0] == 1:
        own = own[0]
    ref = into.emit(Constant(own), hint="constant")
    return x.at(into.emit(op, *((ref, x.ref) if constant_first else (x.ref, ref))))


@rule("Expand")
def _expand(into: Importer) -> list[Traced]:
    """Ones of that shape, multiplied by: an axis of the batch, or a new one, cannot appear."""
    x, target = into.tensor(0), into.constant(1, "the new shape").reshape(-1).tolist()
    shape = [1] * (x.ndim - len(target)) + [int(size) for size in target]
    batch = {1, BATCH, into.fixed_batch}
    if len(shape) > x.ndim or x.batch_axis is None or shape[x.batch_axis] not in batch or min(shape) < 1:
        raise into.refuse(f"expected a shape with {x.ndim} axes and the batch as it is, got {target}")
    shape[x.batch_axis] = 1
    if all(size in (1, have) for size, have in zip(shape, x.sizes, strict=True)):
        return [x]
    into.allow(math.prod(shape))
    return [_with_constant(into, Multiply(), x, np.ones(shape, np.float32), False)]


@rule("Sum")
def _sum(into: Importer) -> list[Traced]:
    total = into.tensor(0)
    for index in range(1, len(into.node.input)):
        total = _two(into, Add(), total, into.tensor(index))
    return [total]
