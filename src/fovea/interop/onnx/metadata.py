"""What an ONNX file of ours says beside the network: how images become input, the classes, how outputs are read.

ONNX's key "metadata_props" holds texts: ``classes``, ``preprocessing`` and ``task`` as JSON. A file that takes images
holds ``network`` as well: where in it the network proper begins and ends, so that it can be imported again.
``layout`` says of each output of the network whether it is N,C,*spatial.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from fovea.data.preprocess import Preprocessing
from fovea.errors import FoveaError, ModelFileError
from fovea.model import Model
from fovea.tasks.base import task_from_dict

__all__ = ["PRODUCER", "Layout", "layout_of", "metadata_of", "network_of", "network_text", "restored"]

PRODUCER = "fovea"
LARGEST_TEXT = 16 << 20


def metadata_of(model: Model) -> dict[str, str]:
    """The texts that a file about this model carries."""
    metadata = {"task": json.dumps(model.task.to_dict())}
    if model.classes is not None:
        metadata["classes"] = json.dumps(list(model.classes), ensure_ascii=False)
    if model.preprocessing is not None:
        metadata["preprocessing"] = json.dumps(model.preprocessing.to_dict())
    return metadata


def network_text(name: str, shape: tuple[int | None, ...], outputs: list[str]) -> str:
    """The text about the network inside a file that takes images: the value that is its input, N,*shape float32, and
    those that are its outputs."""
    return json.dumps({"input": name, "shape": list(shape), "outputs": outputs})


def network_of(where: str, proto: onnx.ModelProto) -> onnx.GraphProto:
    """The graph to import: the file's, or the network inside where a file of ours takes images.

    Raises ModelFileError for a text that does not fit the graph.
    """
    record = _texts(where, proto).get("network")
    if record is None:
        return proto.graph
    try:
        name, outputs = record["input"], list(record["outputs"])
        start = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *record["shape"]])
        ends = [helper.make_tensor_value_info(one, onnx.TensorProto.FLOAT, None) for one in outputs]
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(
            where, "expected where the network begins and ends, got something else; it is damaged"
        ) from None
    needed, nodes = set(outputs), []
    for node in reversed(proto.graph.node):
        if name not in node.output and needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    weights = [tensor for tensor in proto.graph.initializer if tensor.name in needed]
    return helper.make_graph(nodes[::-1], proto.graph.name, [start], ends, weights)


@dataclass(frozen=True)
class Layout:
    """Which inputs and outputs of the graph that ``network_of`` gives are N,C,*spatial, those of more than two axes;
    None where the file does not tell."""

    inputs: bool | None = None
    outputs: tuple[bool, ...] | None = None

    def output(self, index: int) -> bool | None:
        """Of one output."""
        return None if self.outputs is None else self.outputs[index]


def layout_of(where: str, proto: onnx.ModelProto) -> Layout:
    """The axis orders in a file of ours: inputs are N,C,*spatial, but not that of the network inside a file that takes
    images."""
    if proto.producer_name != PRODUCER:
        return Layout()
    texts = _texts(where, proto)
    told, record = texts.get("layout"), texts.get("network")
    count = len(proto.graph.output) if record is None else len(record["outputs"])
    if not isinstance(told, list) or len(told) != count or not all(isinstance(one, bool) for one in told):
        return Layout(record is None)
    return Layout(record is None, tuple(told))


def restored(where: str, proto: onnx.ModelProto) -> dict[str, Any]:
    """What the file says about the model, where it is one of ours: ``task``, ``preprocessing``, ``classes``.

    Raises ModelFileError for damaged texts.
    """
    texts = _texts(where, proto)
    found: dict[str, Any] = {}
    try:
        if "task" in texts:
            found["task"] = task_from_dict(texts["task"])
        if "preprocessing" in texts:
            found["preprocessing"] = Preprocessing.from_dict(texts["preprocessing"])
    except FoveaError as error:
        raise ModelFileError(where, f"expected metadata of fovea, got: {error.message}; the file is damaged") from None
    if "classes" in texts:
        found["classes"] = texts["classes"]
    return found


def _texts(where: str, proto: onnx.ModelProto) -> dict[str, Any]:
    if proto.producer_name != PRODUCER:
        return {}
    found = {}
    for entry in proto.metadata_props:
        if entry.key in ("task", "classes", "preprocessing", "network", "layout"):
            try:
                found[entry.key] = json.loads(entry.value) if len(entry.value) <= LARGEST_TEXT else None
            except (ValueError, RecursionError):
                raise ModelFileError(
                    where, f"expected JSON as {entry.key}, got something else; it is damaged"
                ) from None
    return found
