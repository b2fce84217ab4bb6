"""``load_onnx``: a file of another system becomes an ordinary model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter

from fovea.errors import FoveaError, ModelFileError
from fovea.graph.graph import Graph, Ref
from fovea.graph.serialize import MAX_NODES
from fovea.graph.store import ParameterStore
from fovea.interop.onnx.external import external_arrays
from fovea.interop.onnx.fold import FOLDED, array_of
from fovea.interop.onnx.gelu import with_gelu
from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.metadata import Layout, layout_of, network_of, restored
from fovea.interop.onnx.rules import RULES
from fovea.interop.onnx.values import BATCH, Array, Const, Tensor, Traced, channels_last_order
from fovea.model import Model
from fovea.ops.base import OPS, Shape

__all__ = ["Imported", "import_model", "load_onnx"]

OLDEST_OPSET, CONVERTED_OPSET = 7, 6
"""What the rules know, and what ONNX's own converter brings there."""
LARGEST_FILE = 1 << 31
"""Protocol buffers end at 2 GiB."""
MAPS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"}
MAPS |= {"InstanceNormalization", "GroupNormalization", "LRN", "Resize", "Upsample", "PRelu", "DepthToSpace"}
"""Operators whose input is a feature map N,C,*spatial."""
THROUGH = {"Add", "Sub", "Mul", "Div", "Relu", "Clip", "Cast", "Identity", "Pad", "Dropout", "LeakyRelu", "Sigmoid"}
"""Operators behind which one looks on for such a node."""


@dataclass(frozen=True)
class Imported:
    """What an import gave.

    ``transposes``: nodes of the file that have to move elements at run time. ``inputs``, ``outputs``: for each, which
    axis of the file our axis i holds: (0, 2, 3, 1) is a feature map N,C,H,W that we take as N,H,W,C.
    """

    model: Model
    transposes: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


def load_onnx(
    path: str | os.PathLike[str], input_shape: Sequence[int | None] | Sequence[Sequence[int | None]] | None = None
) -> Imported:
    """The model of an ONNX file (opset 7 and newer), channels-last, trainable like any other.

    ``input_shape``: of one sample in our layout, ``(H, W, C)``, where the file leaves sizes open. Raises
    ModelFileError, in one line, for a file that is damaged, and for an operator that cannot be imported, naming node
    and operator.
    """
    where = str(path)
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise ModelFileError(where, f"expected an ONNX file, got: {error.strerror}; check the path") from None
    if size > LARGEST_FILE:
        raise ModelFileError(where, f"expected a file below 2 GiB, got {size:,} bytes; it is no ONNX file")
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
    except Exception as error:  # the parser has its own family of errors
        raise ModelFileError(where, f"expected an ONNX file, got {type(error).__name__} while reading it") from None
    return import_model(where, model, input_shape, external_arrays(Path(path), model.graph))


def import_model(
    where: str,
    proto: onnx.ModelProto,
    input_shape: Sequence[int | None] | Sequence[Sequence[int | None]] | None = None,
    external: Mapping[str, Array] | None = None,
) -> Imported:
    """The same for a file that is read already; ``external``: weights that lie outside it, by name."""
    opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 1)
    if not CONVERTED_OPSET <= opset <= onnx.defs.onnx_opset_version():
        newest = onnx.defs.onnx_opset_version()
        raise ModelFileError(
            where, f"expected opset {CONVERTED_OPSET} to {newest}, got {opset}; convert it with onnx.version_converter"
        )
    if not 0 < len(proto.graph.node) <= MAX_NODES:
        raise ModelFileError(
            where, f"expected an ONNX graph with 1 to {MAX_NODES:,} nodes, got {len(proto.graph.node):,}; it is damaged"
        )
    try:
        about = restored(where, proto)
        if opset < OLDEST_OPSET:
            proto = onnx.version_converter.convert_version(proto, OLDEST_OPSET)
        graph, layout = network_of(where, proto), layout_of(where, proto)
        return _imported(where, graph, opset, input_shape, external or {}, about, layout)
    except ModelFileError:
        raise
    except FoveaError as error:
        raise ModelFileError(where, error.message) from None
    except Exception as error:  # a hostile file may hold anything anywhere
        raise ModelFileError(
            where,
            f"expected a valid ONNX graph, got {type(error).__name__} ({str(error)[:100]}); it is damaged",
        ) from None


def _imported(
    where: str,
    graph: onnx.GraphProto,
    opset: int,
    input_shape: object,
    external: Mapping[str, Array],
    about: Mapping[str, Any],
    layout: Layout,
) -> Imported:
    weights = {
        tensor.name: external[tensor.name] if tensor.name in external else array_of(where, tensor)
        for tensor in graph.initializer
    }
    into = Importer(where, max(opset, OLDEST_OPSET), weights)
    into.converted = opset < OLDEST_OPSET
    into.values = {name: Const(array) for name, array in weights.items()}
    infos = [one for one in graph.input if one.name not in weights]
    inputs, orders = _inputs(into, graph, infos, input_shape, layout.inputs)
    nodes = with_gelu(graph, weights)
    into.following = _following(nodes, {one.name for one in graph.output})
    for node in nodes:
        if node.output and node.output[0] in into.absorbed:
            into.values[node.output[0]] = into.values[into.absorbed[node.output[0]]]
            continue
        into.enter(node)
        for name, value in zip(node.output, _node(into), strict=False):
            if name:
                into.values[name] = value
    results = [_output(into, one.name, layout.output(index)) for index, one in enumerate(graph.output)]
    outputs = [ref for ref, _ in results]
    made = Graph.from_nodes(into.entries, inputs, outputs).pruned(outputs)
    made = made.with_constants(into.tensors)
    store = ParameterStore(
        {name: into.tensors[name] for name in made.parameters()},
        {name: into.tensors[name] for name in made.buffers()},
        0,
    )
    model = Model.from_store(
        made, store, name=graph.name[:80], provenance={"imported": {"format": "onnx", "opset": opset}}, **about
    )
    return Imported(model, tuple(into.transposes), tuple(orders), tuple(order for _, order in results))


def _following(nodes: Sequence[onnx.NodeProto], ends: set[str]) -> dict[str, onnx.NodeProto]:
    """The one node that reads a value, of values that are read once and are no outputs."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return {name: read[0] for name, read in readers.items() if len(read) == 1 and name not in ends}


def _node(into: Importer) -> list[Traced]:
    node = into.node
    if node.domain not in ("", "ai.onnx"):
        raise into.refuse(f"expected ONNX's own operators, got the domain {node.domain[:40]!r}")
    given = [into.value(i) if into.given(i) else None for i in range(len(node.input))]
    known = [value.array if isinstance(value, Const) else None for value in given]
    if node.op_type == "Constant":
        return RULES["Constant"](into)
    if given and node.op_type in FOLDED and all(value is None or isinstance(value, Const) for value in given):
        return [Const(array) for array in into.folded(known)]
    if node.op_type not in RULES:
        raise into.refuse("this operator is not known here", "replace it before exporting, or ask for it")
    try:
        return RULES[node.op_type](into)
    except ModelFileError:
        raise
    except FoveaError as error:  # an op of ours does not take what the node asks for
        raise into.refuse(error.message) from None


def _inputs(
    into: Importer,
    graph: onnx.GraphProto,
    infos: list[onnx.ValueInfoProto],
    given: object,
    channels_first: bool | None,
) -> tuple[list[str], list[tuple[int, ...]]]:
    if not infos:
        raise ModelFileError(into.where, "expected a graph with an input, got none; the file is damaged")
    names, orders = [], []
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for one in set(node.input[:1] if node.op_type not in THROUGH else node.input):
            readers.setdefault(one, []).append(node)
    for index, info in enumerate(infos):
        dims = info.type.tensor_type.shape.dim
        sizes: list[int | None] = [
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims
        ]
        if not sizes:
            raise ModelFileError(
                into.where, f"expected input {info.name!r} with a batch axis, got a scalar or no shape"
            )
        if sizes[0] is not None:
            into.fixed_batch = sizes[0]
        last = len(sizes) > 2 and (_is_map(readers, info.name) if channels_first is None else channels_first)
        order = channels_last_order(len(sizes)) if last else tuple(range(len(sizes)))
        shape: Shape = tuple(sizes[axis] for axis in order[1:])
        wanted = _given_shape(given, index, len(infos))
        if wanted is not None:
            if len(wanted) != len(shape) or any(a not in (None, b) for a, b in zip(shape, wanted, strict=True)):
                raise ModelFileError(
                    into.where, f"expected an input_shape that fits {shape}, got {wanted}; None is open"
                )
            shape = wanted
        name = into.names.take(info.name)
        op = OPS["input"](shape)  # type: ignore[call-arg]  # every op is a dataclass with fields of its own
        into.entries.append((name, op, ()))
        into.shapes[Ref(name)] = shape
        own = (BATCH, *shape)
        into.values[info.name] = into.fresh(Ref(name), [own[order.index(axis)] for axis in range(len(order))], order)
        names.append(name)
        orders.append(order)
    return names, orders


def _given_shape(given: object, index: int, count: int) -> tuple[int | None, ...] | None:
    if not isinstance(given, (tuple, list)):
        return None
    nested = bool(given) and isinstance(given[0], (tuple, list))
    one = given[index] if nested else given if count == 1 else None
    return None if one is None else tuple(one)


def _is_map(readers: Mapping[str, list[onnx.NodeProto]], name: str) -> bool:
    """Whether the first node that cares reads an input as a feature map."""
    pending, seen = [name], {name}
    while pending:
        for node in readers.get(pending.pop(0), ()):
            if node.op_type in MAPS:
                return True
            if node.op_type in THROUGH and node.output and node.output[0] not in seen:
                seen.add(node.output[0])
                pending.append(node.output[0])
    return False


def _output(into: Importer, name: str, channels_first: bool | None) -> tuple[Ref, tuple[int, ...]]:
    """A feature map as N,*spatial,C, anything else in ONNX's order; where the file does not tell, a feature map is what
    lies in memory so."""
    value = into.values.get(name)
    into.node = onnx.NodeProto(name=name, op_type="output", output=[name])
    if name in into.absent:
        raise into.refuse(f"{into.absent[name]} is not there", "leave this output out")
    if value is None:
        raise ModelFileError(
            into.where, f"expected the output {name[:80]!r} to be computed by a node; the file is damaged"
        )
    if not isinstance(value, Tensor):
        value = into.as_tensor(np.asarray(value.array, np.float32))
    order = channels_last_order(value.ndim)
    is_map = value.memory == value.memory_of(order) if channels_first is None else channels_first
    if value.ndim <= 2 or not is_map:
        order = tuple(range(value.ndim))
    return into.arranged(value, order).ref, order
