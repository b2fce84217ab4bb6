"""Nodes whose inputs are all known are computed while a file is read, within bounds: a file of a few lines must not
fill the memory, nor compute for hours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from fovea.errors import ModelFileError
from fovea.interop.onnx.values import Array

__all__ = ["FOLDED", "LARGEST_CONSTANT", "array_of", "elements_of", "evaluate"]

LARGEST_CONSTANT = 1 << 30
"""Bytes of all arrays together that reading a file may make beyond those that stand in it."""
LARGEST_LOOP = 1 << 14
"""The same of operators that ONNX's reference implementation computes element by element."""

_NO_LARGER = {
    *("Abs", "ArgMax", "ArgMin", "Cast", "Ceil", "Clip", "Concat", "Cos", "CumSum", "Erf", "Exp", "Flatten", "Floor"),
    *("Identity", "IsInf", "IsNaN", "Log", "Neg", "NonZero", "Not", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMax"),
    *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "Shape"),
    *("Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Tanh", "Transpose", "Trilu"),
    *("Unsqueeze",),
}
_BROADCAST = {
    *("Add", "And", "Div", "Equal", "Expand", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod"),
    *("Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"),
}
_LOOPS = {"GatherElements", "GatherND", "ScatterElements", "ScatterND"}
FOLDED = frozenset(_NO_LARGER | _BROADCAST | _LOOPS | {"ConstantOfShape", "Gather", "MatMul", "Range", "Tile"})
"""Operators that are computed at import when all their inputs are known."""


def elements_of(node: onnx.NodeProto, arrays: Sequence[Array]) -> float:
    """At most so many elements the outputs of a node of these inputs have; infinity for what would take too long."""
    kind = node.op_type
    if kind == "ConstantOfShape":
        return _product(arrays[0])
    if kind == "Tile":
        return float(arrays[0].size) * _product(arrays[1])
    if kind == "Range":
        start, stop, step = (float(array.reshape(-1)[0]) for array in arrays)
        return abs(stop - start) / abs(step) + 1 if step else math.inf
    if kind in _BROADCAST:
        shapes = [list(array.shape) for array in arrays]
        if kind == "Expand":
            shapes[1] = arrays[1].reshape(-1).tolist()
        longest = max(len(shape) for shape in shapes)
        padded = [[1] * (longest - len(shape)) + shape for shape in shapes]
        return float(math.prod(max(map(abs, column)) for column in zip(*padded, strict=True)))
    total = sum(array.size for array in arrays)
    if kind in _LOOPS:
        return total if total <= LARGEST_LOOP else math.inf
    if kind == "Gather":
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        return float(arrays[1].size * arrays[0].size / max(arrays[0].shape[axis], 1))
    if kind == "MatMul":
        inner = max(arrays[0].shape[-1], 1) if arrays[0].ndim else 1
        size = arrays[0].size * arrays[1].size / inner**2
        return size if size * inner <= 1 << 32 else math.inf
    return total * arrays[0].ndim if kind == "NonZero" else total


def _product(sizes: Array) -> float:
    return float(math.prod(abs(float(size)) for size in sizes.reshape(-1)))


def evaluate(node: onnx.NodeProto, arrays: Sequence[Array | None], opset: int) -> list[Array]:
    """One node on NumPy arrays, by ONNX's own reference implementation."""
    from onnx.reference import ReferenceEvaluator

    if node.op_type == "ConstantOfShape" and arrays[0] is not None:  # one number, not as many copies of it
        filling = next(
            (numpy_helper.to_array(one.t) for one in node.attribute if one.name == "value"), np.zeros(1, "f4")
        )
        return [np.broadcast_to(filling.reshape(()), [int(size) for size in arrays[0].reshape(-1)])]
    feeds = {name: array for name, array in zip(node.input, arrays, strict=True) if array is not None and name}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        results: Any = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(result) for result in results]


def array_of(where: str, tensor: onnx.TensorProto) -> Array:
    """A tensor that stands in the file. Raises ModelFileError for data of another size than its shape says."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelFileError(
            where,
            f"expected the numbers of {tensor.name[:80]!r} in the file, they lie in another; save it whole with onnx",
        )
    try:
        if min(tensor.dims, default=0) < 0:
            raise ValueError("dims")
        array: Array = numpy_helper.to_array(tensor)
    except Exception as error:  # a hostile file may hold anything
        raise ModelFileError(
            where, f"expected a tensor {tensor.name[:80]!r}, got {type(error).__name__} while reading it; it is damaged"
        ) from None
    return array
