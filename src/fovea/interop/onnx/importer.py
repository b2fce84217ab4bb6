"""Walks an ONNX graph once and writes the fovea graph down: nodes, parameters, and the axis order of every value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from fovea.errors import FoveaError, ModelFileError
from fovea.graph.graph import Ref
from fovea.interop.onnx.fold import LARGEST_CONSTANT, elements_of, evaluate
from fovea.interop.onnx.names import Names
from fovea.interop.onnx.values import BATCH, Array, Tensor, Traced, by_factors, channels_last_order
from fovea.ops import ChannelShuffle, Constant, Reshape, Transpose
from fovea.ops.base import Op, Shape

__all__ = ["Importer"]


class Importer:
    """The state of one import; rules read inputs, emit nodes, and return the values of their node's outputs."""

    def __init__(self, where: str, opset: int, weights: Mapping[str, Array]) -> None:
        self.where = where
        self.opset = opset
        self.names = Names(weights)
        self.allowance = LARGEST_CONSTANT + 2.0 * sum(array.nbytes for array in weights.values())
        """Bytes of arrays that may still be made: a file must not fill the memory."""
        self.entries: list[tuple[str, Op, tuple[Ref, ...]]] = []
        self.shapes: dict[Ref, Shape] = {}
        self.tensors: dict[str, Array] = {}
        self.values: dict[str, Traced] = {}
        self.absent: dict[str, str] = {}
        """Outputs of operators that nothing here gives, and what they are: an error where one is read."""
        self.following: dict[str, onnx.NodeProto] = {}
        """Of every value that one node alone reads, that node."""
        self.absorbed: dict[str, str] = {}
        """Outputs of nodes that became part of an earlier one, and what that one gives."""
        self.transposes: list[str] = []
        """Nodes that had to be transposed at run time: import tells about each."""
        self.fixed_batch: int | None = None
        """The batch size that the file was written for, where it names one."""
        self.converted = False
        """Whether ONNX's converter brought the file to this opset."""
        self.node: onnx.NodeProto = onnx.NodeProto()
        self.attributes: dict[str, Any] = {}

    # --- errors and attributes

    def refuse(self, why: str, fix: str = "change the network before exporting it") -> FoveaError:
        """The error for a node that cannot be imported; raise it."""
        name = self.node.name or (self.node.output[0] if self.node.output else "?")
        operator = re.sub(r"[^\w.]", "?", self.node.op_type)[:60]
        why = why.replace(str(BATCH), "N")[:300]
        return ModelFileError(
            self.where, f"node {name[:80]!r}, operator {operator} of opset {self.opset}: {why}; {fix}"
        )

    def allow(self, elements: float, itemsize: int = 4) -> None:
        """Refuse the current node where it would make more elements than a file may."""
        self.allowance -= elements * itemsize
        if not self.allowance >= 0:
            raise self.refuse("expected a constant of moderate size, got one that depends on the batch or is huge")

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the current node as a Python value."""
        return self.attributes.get(name, default)

    def enter(self, node: onnx.NodeProto) -> None:
        """Make a node the current one."""
        self.node = node
        self.attributes = {}
        for attribute in node.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            self.attributes[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def leave_out(self, what: str) -> None:
        """The current node gives its first output alone; the others are ``what``."""
        self.absent.update((name, what) for name in self.node.output[1:] if name)

    # --- inputs

    def given(self, index: int) -> bool:
        """Whether the node has this input."""
        return index < len(self.node.input) and self.node.input[index] != ""

    def value(self, index: int) -> Traced:
        """An input of the current node."""
        if not self.given(index):
            raise self.refuse(f"expected input {index}, got none", "the file is damaged")
        name = self.node.input[index]
        if name in self.absent:
            raise self.refuse(f"expected an input that is there, {self.absent[name]} of another node is not")
        if name not in self.values:
            raise self.refuse(f"expected {name!r} to be computed before it is read", "the file is damaged")
        return self.values[name]

    def constant(self, index: int, what: str) -> Array:
        """An input that must be known now, such as the shape of a Reshape."""
        value = self.value(index)
        if isinstance(value, Tensor):
            raise self.refuse(f"expected {what} known at import, got one that is computed")
        return value.array

    def constant_or_none(self, index: int, what: str) -> Array | None:
        """The same for an optional input."""
        return self.constant(index, what) if self.given(index) else None

    def tensor(self, index: int) -> Tensor:
        """An input as a computed value; a constant becomes a Constant node."""
        value = self.value(index)
        return value if isinstance(value, Tensor) else self.as_tensor(value.array)

    def as_tensor(self, array: Array) -> Tensor:
        """A constant (with its batch axis, which must be 1) as a node."""
        if array.ndim == 0 or array.shape[0] != 1:
            raise self.refuse(f"expected a constant with a batch axis of 1, got the shape {array.shape}")
        return self.fresh(self.emit(Constant(array[0].astype(np.float32))), (BATCH, *array.shape[1:]))

    @staticmethod
    def fresh(ref: Ref, sizes: Sequence[int | None], order: Sequence[int] | None = None) -> Tensor:
        """A node's output with these ONNX sizes whose axes lie in memory in the given order (else their own)."""
        factors = tuple(() if size == 1 else (size,) for size in sizes)
        made = Tensor(ref, factors, ())
        return Tensor(ref, factors, made.memory_of(range(len(sizes)) if order is None else order))

    def fresh_like(self, ref: Ref, order: Sequence[int]) -> Tensor:
        """A node's output whose axis i holds ONNX's axis ``order[i]``."""
        own = (BATCH, *self.shapes[ref])
        return self.fresh(ref, [own[list(order).index(axis)] for axis in range(len(order))], order)

    def closed_sizes(self, value: Tensor) -> list[int]:
        """The ONNX shape where every size must be known; BATCH stands for the batch size."""
        if None in value.sizes:
            raise self.refuse(
                "the size of the input is left open, and this node needs it", "give input_shape=(H, W, C)"
            )
        return [size for size in value.sizes if size is not None]

    # --- nodes

    def emit(self, op: Op, *inputs: Ref, arrays: dict[str, Array] | None = None, hint: str = "") -> Ref:
        """Append a node; ``arrays``: its parameters and buffers by their short names. Returns its first output."""
        try:
            shapes = [self.shapes[ref] for ref in inputs]
            outputs = op.output_shapes(*shapes)
            expected = {**op.parameters(*shapes), **op.buffers(*shapes)}
        except FoveaError as error:
            raise self.refuse(error.message) from None
        name = self.names.for_node(self.node, op.kind, hint)
        for key, spec in expected.items():
            array = (arrays or {}).get(key)
            if array is None and op.kind == "constant":
                array = np.asarray(getattr(op, "value", 0.0))
            if array is None or array.shape != spec.shape:
                got = "none" if array is None else str(array.shape)
                raise self.refuse(f"expected {key} of shape {spec.shape}, got {got}", "the file is damaged")
            self.allow(array.size)
            self.tensors[f"{name}.{key}"] = np.array(array, np.float32, order="C")
        self.entries.append((name, op, inputs))
        for index, shape in enumerate(outputs):
            if any(size is not None and size % BATCH == 0 for size in shape):
                raise self.refuse(f"expected sizes that are no multiple of {BATCH:,}")
            self.shapes[Ref(name, index)] = shape
        return Ref(name)

    # --- axis order

    def arranged(self, value: Tensor, order: Sequence[int]) -> Tensor:
        """The value with one axis of ours for every ONNX axis, in this order. Free where memory lies so already;
        regrouping is a Reshape; only a true change of order is a Transpose, and is noted."""
        if not order or value.factors[order[0]] != (BATCH,):
            raise self.refuse("the batch axis is merged with others or has moved, so samples cannot be told apart")
        wanted = value.memory_of(order)
        ref = value.ref
        if wanted != value.memory:
            ref = self._moved(value, wanted)
        return Tensor(self.shaped(ref, [value.sizes[axis] for axis in order[1:]]), value.factors, wanted)

    def shaped(self, ref: Ref, sizes: Sequence[int | None]) -> Ref:
        """A node's output with these sizes of a sample; a Reshape where it has others."""
        if tuple(sizes) == self.shapes[ref]:
            return ref
        if None in sizes or None in self.shapes[ref]:
            raise self.refuse(
                "the size of the input is left open, and this node needs it", "give input_shape=(H, W, C)"
            )
        return self.emit(Reshape(tuple(sizes)), ref)

    def _moved(self, value: Tensor, wanted: tuple[int, ...]) -> Ref:
        """Transposed so that the factors lie as wanted: neighbours that stay neighbours move as one axis."""
        runs: list[list[int]] = []
        for index in value.memory:
            if runs and wanted.index(index) == wanted.index(runs[-1][-1]) + 1:
                runs[-1].append(index)
            else:
                runs.append([index])
        sizes = [
            None if any(value.flat[i] is None for i in run) else math.prod(value.flat[i] or 0 for i in run)
            for run in runs
        ]
        if value.memory[:1] != wanted[:1]:
            raise self.refuse("the batch axis would have to move from its place")
        if len(runs[0]) > 1:  # the batch stays an axis of its own
            runs[:1] = [runs[0][:1], runs[0][1:]]
            sizes[:1] = [BATCH, math.prod(value.flat[i] or 0 for i in runs[1])]
        shuffled = len(runs) > 2 and wanted[-len(runs[-2]) - len(runs[-1]) :] == (*runs[-1], *runs[-2])
        order = sorted(range(len(runs)), key=lambda run: wanted.index(runs[run][0]))
        if shuffled and order[:-2] == list(range(len(runs) - 2)):
            groups, rest = sizes[-2], sizes[-1]
            if self.node.op_type == "output":  # the file asked for no move: it only ends here
                self.transposes.append(self.node.name)
            channels = (groups or 0) * (rest or 0)
            whole = self.shapes[value.ref][-1:] == (channels,)
            ref = value.ref if whole else self.shaped(value.ref, [*sizes[1:-2], channels])
            return self.emit(ChannelShuffle(groups or 1), ref)
        self.transposes.append(self.node.name or self.node.op_type)
        return self.emit(Transpose(tuple(order)), self.shaped(value.ref, sizes[1:]))

    def channels_last(self, value: Tensor) -> Tensor:
        """N,*spatial,C, as convolution, pooling, normalisation and resizing need it."""
        if value.ndim < 2:
            raise self.refuse(f"expected an input N,C,..., got {value.ndim} axes")
        return self.arranged(value, channels_last_order(value.ndim))

    def plain(self, value: Tensor) -> Tensor:
        """The value with its axes in ONNX's own order."""
        return self.arranged(value, range(value.ndim))

    def in_place(self, value: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The value with one axis of ours for every ONNX axis, in whatever order memory has them, and that order:
        our axis i holds ONNX's ``order[i]``."""
        own = sorted(
            (axis for axis in range(value.ndim) if value.factors[axis]), key=lambda axis: self._first(value, axis)
        )
        lead = [own[0]] if own else []
        ones = [axis for axis in range(value.ndim) if not value.factors[axis]]
        nearest = (*lead, *ones, *own[1:])
        for order in (channels_last_order(value.ndim), tuple(range(value.ndim))):
            if value.memory_of(order) == value.memory:
                nearest = order
                break
        return self.arranged(value, nearest), nearest

    @staticmethod
    def _first(value: Tensor, axis: int) -> int:
        return value.memory.index(value.members(axis)[0])

    def constant_like(self, array: Array, like: Tensor) -> Array:
        """A constant that broadcasts against a value, in the axes of that value's node and without the batch axis."""
        array = np.asarray(array, np.float32)
        if array.ndim > like.ndim:
            raise self.refuse(f"expected a constant with at most {like.ndim} axes, got the shape {array.shape}")
        array = array.reshape((1,) * (like.ndim - array.ndim) + array.shape)
        if any(size != 1 and BATCH in one for size, one in zip(array.shape, like.factors, strict=True)):
            raise self.refuse(f"expected a constant that is the same for every sample, got the shape {array.shape}")
        moved: Array = by_factors(array, like).transpose(like.memory)[0]
        own, split = [size or 1 for size in self.shapes[like.ref]], [like.flat[i] or 1 for i in like.memory[1:]]
        if own == split:
            return moved
        if moved.size <= 1:
            return moved.reshape((1,) * len(own))
        self.allow(math.prod(own))
        full: Array = np.broadcast_to(moved, split).reshape(own)
        return full

    def folded(self, arrays: Sequence[Array | None]) -> list[Array]:
        """The outputs of the current node for known inputs."""
        size = elements_of(self.node, [array for array in arrays if array is not None])
        held = self.node.op_type == "ConstantOfShape" and size <= LARGEST_CONSTANT / 4  # as one number
        self.allow(0 if held else size, 8)
        return evaluate(self.node, arrays, self.opset)
