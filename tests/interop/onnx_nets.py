"""Small ONNX networks, and the comparison of an import with onnxruntime on the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from fovea.interop.onnx.load import import_model

FLOAT = onnx.TensorProto.FLOAT


def network(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], weights: dict[str, Any] | None = None, opset: int = 17
) -> Any:
    """A model; sizes of inputs as numbers, names for open ones."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def compare(model: Any, n: int = 2, tolerance: float = 1e-5, **options: Any) -> Any:
    """Both engines against onnxruntime on random input; n samples at once on our side, one after the other there."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    imported = import_model("net.onnx", model, **options)
    rng = np.random.default_rng(0)
    shapes = list(imported.model.graph.input_shapes)
    feeds = [rng.standard_normal((n, *shape)).astype(np.float32) for shape in shapes]
    theirs = [feed.transpose(np.argsort(order)) for feed, order in zip(feeds, imported.inputs, strict=True)]
    names = [one.name for one in session.get_inputs()]
    runs = [session.run(None, {k: v[i : i + 1] for k, v in zip(names, theirs, strict=True)}) for i in range(n)]
    expected = [np.concatenate(one) for one in zip(*runs, strict=True)]
    for engine in ("reference", "native"):
        results: Any = imported.model.compile(engine, n).forward(*feeds)
        for result, order, wanted in zip(
            results if isinstance(results, tuple) else (results,), imported.outputs, expected, strict=True
        ):
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(
                result.transpose(np.argsort(order)), wanted, atol=tolerance * scale, err_msg=engine
            )
    return imported


def conv(x: str, y: str, weight: str, **attributes: Any) -> Any:
    return helper.make_node("Conv", [x, weight], [y], **attributes)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
