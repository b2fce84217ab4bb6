"""Weights that other libraries stored, into a model of the same architecture: layouts are converted, names are mapped.

PyTorch files (``.pt``, ``.pth``, ``.th``) are read without PyTorch, Keras's through h5py, safetensors by its library.
Layers are found by the names of a known scheme, else by their order and shapes; what does not fit is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ModelFileError
from fovea.graph.graph import Graph, Node
from fovea.graph.serialize import is_plain_safetensors
from fovea.interop.keras_file import KerasLayer, read_keras_file
from fovea.interop.safetensors_file import read_safetensors
from fovea.interop.torch_file import read_torch_file, state_dict
from fovea.model import Model
from fovea.models.foreign_names import recognised
from fovea.models.keras_names import KERAS
from fovea.models.keras_order import KERAS_EPS, by_class
from fovea.models.scheme import Scheme

__all__ = ["AUXILIARY", "FOREIGN_SUFFIXES", "Foreign", "Match", "read_foreign"]

Array = npt.NDArray[Any]
Modules = Mapping[str, Mapping[str, Array]]
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads that only help training (Szegedy et al. 2015, section 5), stored beside the network."""
TORCH_SUFFIXES = (".pt", ".pth", ".th", ".t7", ".ckpt", ".bin")
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
FOREIGN_SUFFIXES = (*TORCH_SUFFIXES, *KERAS_SUFFIXES, ".safetensors")


@dataclass(frozen=True)
class Foreign:
    """What another library's file holds: arrays by layer and short name ("weight", "running_mean"), in its order.

    ``keras``: layouts are Keras's, and ``kinds`` and ``eps`` say what the file tells of classes and norms.
    """

    where: str
    layers: Modules
    keras: bool = False
    kinds: Mapping[str, str] = field(default_factory=dict)
    eps: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_torch(cls, where: str, tensors: Mapping[str, Array]) -> Foreign:
        """Of a dictionary of PyTorch's, ``layer.weight`` -> array; counters of batches are dropped, and what wrappers
        put before all names ("module", "_orig_mod", a trainer's "model")."""
        layers: dict[str, dict[str, Array]] = {}
        outer = _common(list(tensors))
        for name, array in tensors.items():
            prefix, _, short = name[len(outer) :].removeprefix("module.").rpartition(".")
            if short != "num_batches_tracked":
                layers.setdefault(prefix, {})[short] = array
        return cls(where, layers)

    def scheme(self, network: str, graph: Graph) -> Scheme | None:
        """The known scheme that this file follows: by its names; without them, Keras Applications' for one of Keras."""
        found = recognised(network, graph, self.layers)
        return found[0] if found is not None else KERAS.get(network) if self.keras else None

    def match(self, network: str, graph: Graph) -> Match:
        """Which layer of the file belongs to each node with parameters. Raises ModelFileError where that is open."""
        nodes = [node for node in graph.nodes.values() if node.parameters]
        found = recognised(network, graph, self.layers)
        if found is not None:
            return Match(self, dict(zip((node.name for node in nodes), found[1], strict=True)), found[0], True)
        if self.keras:
            scheme = KERAS.get(network)
            known = scheme.names(graph) if scheme is not None else []
            known_names = dict(zip((node.name for node in nodes), known, strict=False))
            names = by_class(graph, self.layers, self.kinds, known_names)
        else:
            names = dict(zip((node.name for node in nodes), self.layers, strict=False))
        if len(self.layers) != len(nodes) or len(names) != len(nodes):
            some = ", ".join(list(self.layers)[:3])
            raise ModelFileError(
                self.where,
                f"expected {len(nodes)} layers with weights as {network or 'this model'} has, got {len(self.layers)} "
                f"({some}, ...); build the network as the file's, options included",
            )
        return Match(self, names, self.scheme(network, graph), False)


@dataclass(frozen=True)
class Match:
    """Node -> layer of a file, for every node of ours with parameters; ``by_name``: of ``scheme``, else by order."""

    foreign: Foreign
    names: Mapping[str, str]
    scheme: Scheme | None
    by_name: bool

    def __str__(self) -> str:
        named = self.scheme is not None and self.by_name
        how = f"the names of {self.scheme.library}" if self.scheme and named else "order and shape alone: check outputs"
        return f"{len(self.names)} layers by {how}"

    @property
    def outputs(self) -> int | None:
        """How many outputs the stored network has: those of its last layer; None where that is not to be seen."""
        layers = self.foreign.layers
        weights = [layers[name]["weight"] for name in self.names.values() if "weight" in layers[name]]
        shapes = [array.shape for array in weights if array.ndim >= 2]
        return int(shapes[-1][-1 if self.foreign.keras else 0]) if shapes else None

    def adapted(self, graph: Graph) -> Graph:
        """The graph with the eps of the stored network's batch and layer norms, where it is known to be another."""
        entries = []
        for node in graph.nodes.values():
            op, eps = node.op, self._eps(node)
            if eps is not None and eps != getattr(op, "eps", eps):
                op = replace(op, eps=eps)  # type: ignore[type-var]  # ops are records
            entries.append((node.name, op, node.inputs))
        return Graph.from_nodes(entries, graph.inputs, graph.outputs)

    def _eps(self, node: Node) -> float | None:
        if node.op.kind not in ("batchnorm", "layernorm"):
            return None
        told = self.foreign.eps.get(self.names[node.name])
        if told is not None or node.op.kind == "layernorm":
            return told
        usual = KERAS_EPS if self.foreign.keras else None
        return self.scheme.eps if self.scheme is not None else usual

    def assign(self, model: Model, fresh: str | None = None) -> None:
        """Copy all parameters and statistics into a model, all or none; the node ``fresh`` stays as it is.

        Raises ModelFileError that names the first layer that is missing or has another shape, ours and theirs.
        """
        where, graph, layers = self.foreign.where, model.graph, self.foreign.layers
        values: dict[str, Array] = {}
        for node in [node for node in graph.nodes.values() if node.parameters and node.name != fresh]:
            values |= _converted(self.foreign, graph, node, self.names[node.name])
        used = set(self.names.values())
        unused = [name for name in layers if name not in used and not name.startswith(AUXILIARY)]
        if unused:
            raise ModelFileError(
                where,
                f"expected the layers of {model.name or 'this model'}, got {', '.join(unused[:3])} besides; build the "
                "network as the file's, options included",
            )
        for path, bias in _shifts(self, graph).items():
            values[path] = values[path] - bias
        model.store.load(values, where)


def read_foreign(path: str | PathLike[str]) -> Foreign | None:
    """What another library's file holds; None for a model file or run of ours.

    Raises ModelFileError when the file cannot be read, MissingExtra for one of Keras without the extra "keras".
    """
    where, suffix = fspath(path), Path(path).suffix.lower()
    if suffix in TORCH_SUFFIXES:
        return Foreign.of_torch(where, state_dict(where, read_torch_file(path)))
    if suffix in KERAS_SUFFIXES:
        return _keras(where, path)
    if suffix != ".safetensors" or not is_plain_safetensors(path):  # what is damaged, the reader of model files tells
        return None
    return Foreign.of_torch(where, read_safetensors(path))


def _common(names: Sequence[str]) -> str:
    """The scopes that all layers lie in: ``module.`` of ``module.fc.weight`` and ``module.conv.weight``."""
    levels = zip(*(name.split(".")[:-2] for name in names), strict=False)
    return "".join(f"{level[0]}." for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels))


def _keras(where: str, path: str | PathLike[str]) -> Foreign:
    layers: dict[str, KerasLayer] = {}
    for one in read_keras_file(path):
        if one.name in layers:
            raise ModelFileError(where, f"expected every layer once, got {one.name[:60]!r} twice; rename one of them")
        layers[one.name] = one
    return Foreign(
        where, {name: one.arrays for name, one in layers.items()}, True,
        {name: one.kind for name, one in layers.items()},
        {name: one.eps for name, one in layers.items() if one.eps is not None},
    )  # fmt: skip


def _shifts(match: Match, graph: Graph) -> dict[str, Array]:
    """Biases of convolutions before a batch norm, which ours leave out: they only shift the mean that it takes away."""
    shifts = {}
    for node in graph.nodes.values():
        before = node.inputs[0].node if node.inputs else ""
        if match.foreign.keras and node.op.kind == "batchnorm" and before in match.names:
            bias = match.foreign.layers[match.names[before]].get("bias")
            if bias is not None and not getattr(graph.node(before).op, "use_bias", True):
                shifts[f"{node.name}.running_mean"] = bias
    return shifts


def _converted(foreign: Foreign, graph: Graph, node: Node, name: str) -> dict[str, Array]:
    where, given = foreign.where, foreign.layers[name]
    wanted = {path: spec.shape for path, spec in {**node.parameters, **node.buffers}.items()}
    values: dict[str, Array] = {}
    for path, shape in wanted.items():
        short = path.rpartition(".")[2]
        if node.op.kind == "layerscale":  # timm calls it gamma
            short = "gamma" if "gamma" in given else "layer_scale"
        if short not in given:
            held = ", ".join(given)
            raise ModelFileError(
                where, f"expected {name}.{short} for our {path}, got only {held}; build the network as the file's"
            )
        array = np.asarray(given[short], np.float32)
        if short == "weight":
            array = _keras_weight(array, shape) if foreign.keras else _weight(graph, node, array)
        if node.op.kind == "layerscale":  # C,1,1
            array = array.reshape(-1)
        if array.shape != shape:
            raise ModelFileError(
                where,
                f"expected {path} with shape {shape}, got {name}.{short} with {given[short].shape}; build it with the "
                "file's number of classes and input shape",
            )
        values[path] = array
    taken = ("layer_scale", "gamma", "bias" if foreign.keras and _before_norm(graph, node) else "")
    extra = [short for short in given if short not in taken and f"{node.name}.{short}" not in wanted]
    if extra:
        raise ModelFileError(
            where, f"expected {', '.join(wanted)}, got {name}.{extra[0]} besides; build the network as the file's"
        )
    return values


def _before_norm(graph: Graph, node: Node) -> bool:
    readers = [one for one in graph.nodes.values() if any(ref.node == node.name for ref in one.inputs)]
    return [one.op.kind for one in readers] == ["batchnorm"]


def _keras_weight(array: Array, shape: tuple[int, ...]) -> Array:
    """Keras's layout is ours, but for depthwise kernels ``*kernel,C,M`` and 1x1 convolutions that are dense here."""
    if array.ndim == len(shape) > 2 and shape[-2] == 1 and array.shape[-2] * array.shape[-1] == shape[-1]:
        return array.reshape(*array.shape[:-2], 1, -1)
    if array.ndim > len(shape) == 2 and set(array.shape[:-2]) == {1}:
        return array.reshape(array.shape[-2:])
    return array


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
