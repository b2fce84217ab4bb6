"""Weights that other libraries stored, into a model of the same architecture: layouts are converted, names are mapped.

PyTorch files (``.pt``, ``.pth``, ``.th``) are read without PyTorch, safetensors by its library. Layers are found by the
names of a known scheme, else by their order and shapes; what does not fit is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from fovea.errors import ModelFileError
from fovea.graph.graph import Graph, Node
from fovea.interop.torch_file import read_torch_file, state_dict
from fovea.model import Model
from fovea.models.foreign_names import names_in

__all__ = ["TORCH_SUFFIXES", "assign", "foreign_tensors", "output_count"]

Array = npt.NDArray[Any]
Modules = dict[str, dict[str, Array]]
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads that only help training (Szegedy et al. 2015, section 5), stored beside the network."""
TORCH_SUFFIXES = (".pt", ".pth", ".th", ".t7", ".ckpt", ".bin")


def foreign_tensors(path: str | PathLike[str]) -> dict[str, Array] | None:
    """The tensors of another library's file by name, in the file's order; None for a model file or run of ours.

    Raises ModelFileError when the file cannot be read.
    """
    where, file = fspath(path), Path(path)
    if file.suffix.lower() in TORCH_SUFFIXES:
        return state_dict(where, read_torch_file(path))
    if file.suffix.lower() != ".safetensors" or not file.is_file():
        return None
    try:
        with safe_open(where, framework="numpy") as content:
            if "fovea" in (content.metadata() or {}):
                return None
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise ModelFileError(where, f"expected a safetensors file that can be read, got: {error}") from None


def output_count(network: str, graph: Graph, tensors: Mapping[str, Array]) -> int | None:
    """How many outputs the stored network has: the rows of its last layer; None where that is not to be seen."""
    modules = _modules(tensors)
    names = names_in(network, graph, set(modules)) or list(modules)
    weights = [modules[name]["weight"] for name in names if modules[name].get("weight", np.zeros(0)).ndim >= 2]
    return int(weights[-1].shape[0]) if weights else None


def assign(where: str, model: Model, tensors: Mapping[str, Array]) -> None:
    """Copy all parameters and statistics into a model, all or none.

    Raises ModelFileError that names the first layer that is missing or has another shape, ours and theirs.
    """
    modules, graph = _modules(tensors), model.graph
    nodes = [node for node in graph.nodes.values() if node.parameters]
    names = names_in(model.name, graph, set(modules))
    if names is None:
        names = list(modules)
        if len(names) != len(nodes):
            raise ModelFileError(
                where,
                f"expected {len(nodes)} layers with weights as {model.name or 'this model'} has, got {len(names)} "
                f"({', '.join(names[:3])}, ...); build the network as the file's, options included",
            )
    values: dict[str, Array] = {}
    for node, name in zip(nodes, names, strict=True):
        values |= _converted(where, graph, node, name, modules[name])
    used = set(names)
    unused = [name for name in modules if name not in used and not name.startswith(AUXILIARY)]
    if unused:
        raise ModelFileError(
            where,
            f"expected the layers of {model.name or 'this model'}, got {', '.join(unused[:3])} besides; build the "
            "network as the file's, options included",
        )
    model.store.load(values, where)


def _modules(tensors: Mapping[str, Array]) -> Modules:
    """Tensors by module and short name, in the file's order; counters of batches are dropped."""
    modules: Modules = {}
    for name, array in tensors.items():
        prefix, _, short = name.removeprefix("module.").rpartition(".")
        if short != "num_batches_tracked":
            modules.setdefault(prefix, {})[short] = array
    return modules


def _converted(where: str, graph: Graph, node: Node, name: str, given: Mapping[str, Array]) -> dict[str, Array]:
    wanted = {path: spec.shape for path, spec in {**node.parameters, **node.buffers}.items()}
    values: dict[str, Array] = {}
    for path, shape in wanted.items():
        short = "layer_scale" if node.op.kind == "layerscale" else path.rpartition(".")[2]
        if short not in given:
            held = ", ".join(given)
            raise ModelFileError(
                where, f"expected {name}.{short} for our {path}, got only {held}; build the network as the file's"
            )
        array = np.asarray(given[short], np.float32)
        if short == "weight":
            array = _weight(graph, node, array)
        if short == "layer_scale":  # C,1,1
            array = array.reshape(-1)
        if array.shape != shape:
            raise ModelFileError(
                where,
                f"expected {path} with shape {shape}, got {name}.{short} with {given[short].shape}; build it with the "
                "file's number of classes and input shape",
            )
        values[path] = array
    extra = [short for short in given if short != "layer_scale" and f"{node.name}.{short}" not in wanted]
    if extra:
        raise ModelFileError(
            where, f"expected {', '.join(wanted)}, got {name}.{extra[0]} besides; build the network as the file's"
        )
    return values


def _weight(graph: Graph, node: Node, array: Array) -> Array:
    """PyTorch's layout in ours: channels first become last, and rows behind a Flatten follow the map."""
    if node.op.kind == "convtranspose" and array.ndim > 2:
        return np.moveaxis(array, (0, 1), (-1, -2))
    if array.ndim > 2:
        array = np.moveaxis(array, (0, 1), (-1, -2))
        return array if node.op.kind != "dense" else array.reshape(-1, array.shape[-1])  # 1x1 convolution as dense
    if array.ndim != 2 or node.op.kind != "dense":
        return array
    spatial = _flattened(graph, node)
    if spatial and np.prod(spatial) == array.shape[1]:
        *sizes, channels = spatial
        array = np.moveaxis(array.reshape(-1, channels, *sizes), 1, -1).reshape(array.shape)
    return array.T


def _flattened(graph: Graph, node: Node) -> tuple[int, ...]:
    """The shape of the map that a dense layer sees flattened; nothing where it sees a vector."""
    current = node
    while (current.inputs and current.op.kind not in ("conv", "dense")) or current is node:
        before = graph.node(current.inputs[0].node)
        if before.op.kind == "flatten":
            return tuple(size or 0 for size in before.input_shapes[0])
        if len(before.output_shapes[0]) != 1 or not before.inputs:
            return ()
        current = before
    return ()
