"""ONNX's own backend tests as pairs of a model with one set of weights and the arrays that go in and come out.

Those are ours to pass: every operator is one that we import, and all arrays are float32. The first input is computed
from; the others are weights and become constants, but where two activations meet (Add, Concat, MatMul, ...).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from fovea.interop.onnx.rules import RULES

Array = npt.NDArray[Any]

MEETING = {"Add", "Sub", "Mul", "Div", "Sum", "Concat", "MatMul"}
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
REFUSED = Path(__file__).with_name("onnx_refused.txt")


@dataclass(frozen=True)
class BackendCase:
    """One case; ``feeds`` are the arrays of the inputs that are left."""

    name: str
    model: onnx.ModelProto
    feeds: list[Array]
    expected: list[Array]


def backend_cases() -> Iterator[BackendCase]:
    """All cases that are ours, in ONNX's order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX's own, while it makes the cases
        from onnx.backend.test.loader import load_model_tests

        cases = [case for kind in KINDS for case in load_model_tests(kind=kind)]
    for case in cases:
        model, inputs, outputs = _read(case)
        ours = {node.op_type for node in model.graph.node} <= set(RULES)
        arrays = [*inputs, *outputs]
        if ours and inputs and all(isinstance(one, np.ndarray) and one.size for one in arrays):
            made = _case(case.name, model, inputs, outputs)
            if all(one.dtype == np.float32 for one in (*made.feeds, *made.expected)):
                yield made


def refused() -> dict[str, str]:
    """Cases that cannot be imported, each with the reason."""
    lines = REFUSED.read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))


def _read(case: Any) -> tuple[onnx.ModelProto, list[Any], list[Any]]:
    if case.model is not None:
        inputs, outputs = case.data_sets[0]
        return case.model, list(inputs), list(outputs)
    folder = Path(case.model_dir)
    model, first = onnx.load(folder / "model.onnx"), folder / "test_data_set_0"
    return model, _arrays(first, "input"), _arrays(first, "output")


def _arrays(folder: Path, kind: str) -> list[Array]:
    arrays = []
    for index in range(len(list(folder.glob(f"{kind}_*.pb")))):
        tensor = onnx.TensorProto()
        tensor.ParseFromString((folder / f"{kind}_{index}.pb").read_bytes())
        arrays.append(numpy_helper.to_array(tensor))
    return arrays


def _case(name: str, model: onnx.ModelProto, inputs: list[Array], outputs: list[Array]) -> BackendCase:
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [one.name for one in model.graph.input if one.name not in weights]
    meets = len(model.graph.node) == 1 and model.graph.node[0].op_type in MEETING
    alike = all(one.ndim == inputs[0].ndim and one.shape[:1] == inputs[0].shape[:1] for one in inputs)
    computed = names if meets and alike else names[:1]
    for one, array in zip(names, inputs, strict=False):
        if one not in computed:
            bound.graph.initializer.append(numpy_helper.from_array(array, one))
    feeds = [array for one, array in zip(names, inputs, strict=False) if one in computed]
    return BackendCase(name, bound, feeds, outputs)
