"""``export_onnx``: a model of ours becomes an ONNX file that other runtimes run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

import fovea
from fovea.errors import ModelFileError
from fovea.graph.graph import Graph, Ref
from fovea.graph.serialize import write_atomically
from fovea.interop.onnx import write_moves
from fovea.interop.onnx.metadata import PRODUCER, metadata_of, network_text
from fovea.interop.onnx.write_boxes import FOUND, found_boxes
from fovea.interop.onnx.write_images import Resized, resized_images
from fovea.interop.onnx.write_rules import WRITE_RULES
from fovea.interop.onnx.writer import OPSET, Writer
from fovea.interop.writing import Value
from fovea.model import Model
from fovea.tasks import Classification, Detection, Regression

__all__ = ["export_onnx", "onnx_model", "onnx_values"]

LARGEST = (1 << 31) - (64 << 20)
"""Bytes of weights: a file ends at 2 GiB, and holds the graph as well."""
TYPES = {"float32": onnx.TensorProto.FLOAT, "uint8": onnx.TensorProto.UINT8, "int64": onnx.TensorProto.INT64}
_ = write_moves  # its rules join the table when it is imported


def export_onnx(model: Model, path: str | os.PathLike[str], images: bool = False) -> Path:
    """Write a model as ONNX (opset 18, float32), checked by onnx's own checker, atomically. Returns the path.

    The file takes N,C,*spatial float32 as usual there, and any number of samples; class names stand in its metadata.
    ``images``: it takes N,H,W,C uint8 images of any one size instead, resizes and normalises them as the model's
    preprocessing says, and gives what the task reads from outputs: probabilities of a classifier, values of a
    regression, of a detector the boxes that suppression leaves, in pixels of the image (``write_boxes.found_boxes``).
    ``fovea.load`` reads all kinds again. Raises ModelFileError, in one line, for open input sizes, an op that ONNX has
    no operator for, weights of 2 GiB and more, or a disk that is full.
    """
    made = onnx_model(model, str(path), images)

    def write(temporary: Path) -> None:
        temporary.write_bytes(made.SerializeToString())

    try:
        write_atomically(path, write)
    except OSError as error:
        raise ModelFileError(
            str(path), f"expected to write the file, got: {error.strerror or error}; free space or change the path"
        ) from None
    return Path(path)


def onnx_model(model: Model, where: str = "export", images: bool = False) -> Any:
    """The same as an ``onnx.ModelProto``."""
    write, inputs, outputs = _written(model, where, images)
    proto = _proto(model, write, inputs, outputs, images)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def onnx_values(model: Model, where: str = "export") -> tuple[Any, dict[Ref, Value]]:
    """The same with every value that a node computes as a further output, and what each is called there."""
    write, inputs, outputs = _written(model, where, False)
    computed = {name for node in write.nodes for name in node.output}
    values = {ref: value for ref, value in write.values.items() if value.name in computed}
    taken = {one.name for one in outputs}
    for name in dict.fromkeys(value.name for value in values.values()):
        if name not in taken:
            outputs.append(helper.make_tensor_value_info(name, TYPES["float32"], None))
    return _proto(model, write, inputs, outputs), values


def _written(model: Model, where: str, images: bool) -> tuple[Writer, list[Any], list[Any]]:
    """The export's nodes and weights, its inputs and its outputs."""
    if any(size is None for shape in model.graph.input_shapes for size in shape):
        shapes = model.graph.input_shapes
        raise ModelFileError(where, f"expected closed input sizes, got {shapes}; give --input-shape, or build it so")
    if images and (model.preprocessing is None or len(model.graph.inputs) != 1):
        raise ModelFileError(
            where, "expected a model with one input that knows its preprocessing, got none; export without images"
        )
    held = sum(array.nbytes for array in (*model.store.parameters.values(), *model.store.buffers.values()))
    if held > LARGEST:
        limit, size = f"{LARGEST / 1e9:.1f} GB", f"{held / 1e9:.1f} GB"
        raise ModelFileError(
            where, f"expected weights below {limit}, what an ONNX file holds, got {size}; save a model file instead"
        )
    graph = model.with_pixels() if images else model.graph
    names = _ends(model, images)
    write = Writer(where, graph, model.store, ["image", *names] if images else names)
    resized = _image(write, model) if images else None
    inputs = [_given(model)] if images else [_input(write, graph, name) for name in graph.inputs]
    for node in graph.nodes.values():
        if node.op.kind == "input":
            continue
        if node.op.kind not in WRITE_RULES:
            raise write.refuse(node, "there is no operator for it; leave the node out")
        WRITE_RULES[node.op.kind](write, node)
    if resized is not None and isinstance(model.task, Detection):
        return write, inputs, found_boxes(write, graph, model.task, resized)
    decoded = model if images else None
    outputs = [_output(write, graph, ref, name, decoded) for ref, name in zip(graph.outputs, names, strict=True)]
    return write, inputs, outputs


def _ends(model: Model, images: bool) -> Sequence[str]:
    """What the outputs are called."""
    if images and isinstance(model.task, Detection):
        return FOUND
    name = "output"
    if images:
        name = {Classification: "probabilities", Regression: "values"}.get(type(model.task), name)
    count = len(model.graph.outputs)
    return [name] if count == 1 else [f"{name}{number}" for number in range(1, count + 1)]


def _proto(model: Model, write: Writer, inputs: list[Any], outputs: list[Any], images: bool = False) -> Any:
    about = metadata_of(model) | {"layout": json.dumps([write.values[ref].first for ref in write.graph.outputs])}
    if images:
        begin = write.values[Ref(next(name for name in write.graph.nodes if name not in model.graph.nodes))]
        ends = [write.values[ref].name for ref in write.graph.outputs]
        about["network"] = network_text(begin.name, model.graph.input_shapes[0], ends)
    proto = helper.make_model(
        helper.make_graph(write.nodes, model.name or "fovea", inputs, outputs, write.weights),
        opset_imports=[helper.make_opsetid("", OPSET)], producer_name=PRODUCER, producer_version=fovea.__version__,
    )  # fmt: skip
    proto.ir_version = 8
    helper.set_model_props(proto, about)
    return proto


def _input(write: Writer, graph: Graph, name: str) -> Any:
    shape, dtype = graph.shape(name), graph.node(name).op.dtype  # type: ignore[attr-defined]  # inputs have one
    first = len(shape) > 1
    own = write.name(name)
    write.give(graph.node(name), own, first)
    return helper.make_tensor_value_info(own, TYPES[dtype], ["N", *_ordered(shape, first)])


def _image(write: Writer, model: Model) -> Resized:
    """The network's own input behind the input "image"."""
    assert model.preprocessing is not None
    resized = resized_images(write, "image", model.preprocessing)
    write.give(model.graph.node(model.graph.inputs[0]), resized.pixels, False)
    return resized


def _given(model: Model) -> Any:
    """The input "image", N,H,W,C uint8."""
    assert model.preprocessing is not None
    return helper.make_tensor_value_info("image", TYPES["uint8"], ["N", "H", "W", model.preprocessing.channels])


def _ordered(shape: tuple[int | None, ...], first: bool) -> list[int]:
    sizes = [size or 0 for size in shape]
    return [sizes[-1], *sizes[:-1]] if first else sizes


def _output(write: Writer, graph: Graph, ref: Ref, name: str, decoded: Model | None) -> Any:
    """Feature maps as N,C,*spatial, everything else as it is; ``decoded``: as this model's task reads it."""
    value, shape = write.values[ref], graph.shape(ref)
    task = None if decoded is None else decoded.task
    result = value.name
    last = 1 if value.first else len(shape)
    if isinstance(task, Classification):
        assert decoded is not None
        if decoded.gives_probabilities:  # logits with the same softmax
            result = write.emit("Log", [result])
        if task.temperature != 1.0:
            result = write.emit("Div", [result, write.constant("temperature", np.array(task.temperature, np.float32))])
        result = write.emit("Softmax", [result], axis=last)
    elif isinstance(task, Regression):
        std, mean = (write.constant(field, np.array(getattr(task, field), np.float32)) for field in ("std", "mean"))
        result = write.emit("Add", [write.emit("Mul", [result, std]), mean])
    write.end(result, name)
    sizes = _ordered(shape, value.first and len(shape) > 1)
    return helper.make_tensor_value_info(name, TYPES["float32"], ["N", *sizes])
