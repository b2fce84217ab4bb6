"""What an op is: a frozen declaration of one kind of layer. It holds fields, a shape rule and parameter shapes, never
tensors.

Shapes here are those of ONE sample, without the batch axis: ``(H, W, C)`` for images, ``(C,)`` for vectors, ``()``
for a
loss. ``None`` stands for a spatial size that is still open. Axis numbers that users give count the whole array
``N,*spatial,C``: ``-1`` is the channel axis, ``0`` the batch axis, which no op may touch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fovea.errors import ModelFileError, OpError, ShapeError
from fovea.ops.value import Value, apply

__all__ = ["OPS", "Op", "ParamSpec", "Shape", "normal_axis", "op_from_dict", "python_numbers", "size_of"]

Shape = tuple[int | None, ...]

OPS: dict[str, type[Op]] = {}
"""Every kind of op by name; filled as the classes are declared."""


@dataclass(frozen=True)
class ParamSpec:
    """Shape and starting value of one parameter or buffer.

    ``init``: "weight" (the initialiser chosen for the model; ``fan_in``/``fan_out`` guide it), "zeros", "ones",
    "value" (``value``).
    ``decay``: whether weight decay applies (weights yes; biases, norms no).
    """

    shape: tuple[int, ...]
    init: str = "weight"
    fan_in: int = 1
    fan_out: int = 1
    decay: bool = True
    value: Any = 0.0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Op:
    """Base of all declarations. Subclasses are frozen dataclasses; ``kind`` is the class name in lower case.

    Calling an op on symbolic values records one node: ``y = Conv(8, 3)(x)``; ``name=`` gives the node's name.
    """

    kind: ClassVar[str] = ""
    arity: ClassVar[int | None] = 1
    """How many inputs; None = two or more."""
    is_loss: ClassVar[bool] = False
    """A loss has a scalar output and targets among its inputs."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            cls.kind = cls.__name__.lower()
            OPS[cls.kind] = cls
        if "__post_init__" in cls.__dict__:
            checks = cls.__dict__["__post_init__"]

            def made_plain_first(self: Op) -> None:
                Op.__post_init__(self)
                checks(self)

            cls.__post_init__ = made_plain_first  # type: ignore[method-assign]  # dataclass calls what it finds here

    def __post_init__(self) -> None:
        """NumPy's numbers become Python's: ``Dense(labels.max() + 1)`` must not count in 8 bits, and saves as JSON."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            object.__setattr__(self, field.name, python_numbers(getattr(self, field.name)))

    def __call__(self, *values: Value, name: str | None = None) -> Any:
        """One node of a graph: a Value, or a tuple of Values for an op with several outputs."""
        if self.arity is not None and len(values) != self.arity:
            raise OpError(self.kind, f"expected {self.arity} input value(s), got {len(values)}; see the op's docstring")
        if self.arity is None and len(values) < 2:
            raise OpError(self.kind, f"expected two or more input values, got {len(values)}; call it as op(a, b, ...)")
        return apply(self, values, name)

    @property
    def num_outputs(self) -> int:
        """How many arrays forward returns."""
        return 1

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        """The shape rule, a pure function of shapes; by default the output has the input's shape."""
        return (inputs[0],)

    def parameters(self, *inputs: Shape) -> dict[str, ParamSpec]:
        """Trainable arrays by name, given the input shapes."""
        return {}

    def buffers(self, *inputs: Shape) -> dict[str, ParamSpec]:
        """Arrays that forward reads or renews but no optimiser touches."""
        return {}

    def macs(self, *inputs: Shape) -> int:
        """Multiply-accumulate operations for one sample (FLOPs = 2 x MACs); 0 for element-wise ops."""
        return 0

    @property
    def has_randomness(self) -> bool:
        """True when the training-mode forward draws random numbers (it is then given a key)."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able fields with the kind: ``{"kind": "conv", "out_channels": 8, ...}``; defaults are left out."""
        result: dict[str, Any] = {"kind": self.kind}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if not field.metadata.get("stored", True):
                continue
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING or value != field.default:
                result[field.name] = _plain(value)
        return result


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def python_numbers(value: Any) -> Any:
    """value with NumPy's scalars as Python's, in tuples and lists too."""
    if isinstance(value, np.generic):
        return value.item()
    return type(value)(map(python_numbers, value)) if type(value) in (tuple, list) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def op_from_dict(where: str, fields: Mapping[str, Any]) -> Op:
    """The op that ``to_dict`` described. Raises ModelFileError for unknown kinds, fields, or values an op refuses."""
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in OPS:
        raise ModelFileError(
            where, f"expected a known kind of op, got {str(kind)[:40]!r}; the file may be from a newer version"
        )
    declared = {field.name for field in dataclasses.fields(OPS[kind])}  # type: ignore[arg-type]
    given = {name: _frozen(value) for name, value in fields.items() if name != "kind"}
    if not set(given) <= declared:
        unknown = ", ".join(sorted(map(str, set(given) - declared)))[:80]
        raise ModelFileError(
            where,
            f"expected the fields of op {kind!r}, got unknown field(s) {unknown}; the file may be from a newer version",
        )
    try:
        return OPS[kind](**given)
    except (OpError, ShapeError):
        raise
    except Exception as error:  # a hostile file may hold any value in any field
        raise ModelFileError(
            where, f"expected valid fields for op {kind!r}, got {type(error).__name__}; the file is damaged"
        ) from None


def size_of(shape: Shape) -> int:
    """Elements of one sample. Raises ShapeError when a size is open."""
    if any(size is None for size in shape):
        raise ShapeError("shape", f"expected a closed shape, got {shape}; give the input size")
    return math.prod(size for size in shape if size is not None)


def normal_axis(op: str, axis: int, shape: Shape) -> int:
    """An axis of ``N,*shape`` as an index into the sample's shape (so the batch axis is refused)."""
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise OpError(op, f"expected an axis as an integer, got {axis!r}; -1 is the channel axis")
    ndim = len(shape) + 1
    if not -ndim <= axis < ndim:
        raise ShapeError(
            op, f"expected an axis from {-ndim} to {ndim - 1} for input {('N', *shape)}, got {axis}; choose one of them"
        )
    axis %= ndim
    if axis == 0:
        raise ShapeError(
            op,
            f"expected an axis of the sample, got the batch axis 0 for input {('N', *shape)}; choose 1 to {ndim - 1}",
        )
    return axis - 1


def is_number(value: Any) -> bool:
    """Whether value is a finite real number (bool is not), and no integer beyond all floats."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def positive_int(op: str, field: str, value: Any) -> int:
    """value as an int >= 1, else OpError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise OpError(op, f"expected {field} to be an integer of at least 1, got {value!r}; give for example {field}=1")
    return int(value)


def number(op: str, field: str, value: Any, low: float, high: float) -> float:
    """value as a finite float in [low, high], else OpError."""
    if not is_number(value) or not low <= value <= high:
        raise OpError(
            op, f"expected {field} to be a number from {low:g} to {high:g}, got {value!r}; choose one in that range"
        )
    return float(value)


def choice(op: str, field: str, value: Any, allowed: tuple[str, ...]) -> None:
    """OpError unless value is one of the allowed words."""
    if value not in allowed:
        raise OpError(op, f"expected {field} to be one of {', '.join(allowed)}, got {value!r}; choose one of them")
