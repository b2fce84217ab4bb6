"""Weights for a network of the zoo: what ``weights=`` names, what it tells about the network, and how it gets in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from fovea.data.preprocess import Preprocessing
from fovea.errors import ConfigError, ModelFileError
from fovea.graph.graph import Graph
from fovea.model import Model, load
from fovea.models.foreign import Match, read_foreign
from fovea.models.packaged import packaged_for
from fovea.models.published import PUBLISHED, imagenet_classes, published_file, published_for
from fovea.models.registry import Architecture
from fovea.tasks.base import Task

__all__ = ["Weights", "find_weights"]

FOREIGN = {
    ".onnx": "an ONNX file",
    ".npz": "a NumPy archive",
    ".pb": "a TensorFlow file",
    ".tflite": "a TensorFlow Lite file",
}


@dataclass(frozen=True)
class Weights:
    """Weights for one network, found. What they do not tell is None or empty.

    ``num_classes``, ``input_shape``: of the stored network. ``options``: of the network, as given, completed by what
    the library that wrote the file does otherwise. ``preprocessing``, ``classes``: of published weights and model
    files. ``task``: of a model file.
    """

    where: str
    source: Match | Model
    num_classes: int | None
    options: Mapping[str, Any]
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    input_shape: tuple[int | None, ...] | None = None
    task: Task | None = None
    name: str | None = None

    def adapted(self, graph: Graph) -> Graph:
        """The graph as the stored network computes it: with its eps."""
        return self.source.adapted(graph) if isinstance(self.source, Match) else graph

    def load_into(self, model: Model) -> None:
        """Copy every array into a model of the same architecture, all or none. Raises ModelFileError.

        A model with another number of classes keeps the starting values of its head, the last layer with weights.
        ``provenance["weights"]`` says so, and what the weights are ``of``: the provenance of a model file.
        """
        wanted = _outputs(model.graph)
        nodes = [node.name for node in model.graph.nodes.values() if node.parameters]
        head = nodes[-1] if None not in (self.num_classes, wanted) and wanted != self.num_classes else None
        about: dict[str, Any] = {"file": Path(self.where).name}
        if self.name is not None:
            about["name"] = self.name
        if isinstance(self.source, Match):
            self.source.assign(model, head)
            about["matched"] = str(self.source)
        else:
            _copy(self.where, self.source, model, head)
            about["of"] = dict(self.source.provenance)
            if head is None:  # what was trained is this model, until it is trained further
                own = {
                    key: value for key, value in self.source.provenance.items() if key not in ("packaged", "weights")
                }
                model.provenance.update(own)
        if head is not None:
            about["fresh"] = f"{head}, since the file has {self.num_classes} outputs and not {wanted}"
        model.provenance["weights"] = about


def find_weights(
    network: Architecture,
    weights: str | PathLike[str],
    input_shape: Sequence[int | None] | None,
    options: Mapping[str, Any],
) -> Weights:
    """What ``weights`` names: the data set of weights that come with fovea ("cifar10"), a publisher ("torchvision"), a
    model file or run folder of fovea, or a file of PyTorch, Keras or safetensors.

    Layers of other libraries are found by the names of torchvision, timm, the CIFAR ResNets and Keras Applications, or,
    with unknown names, as the same layers in the same order. Raises ModelFileError when the file is of another format,
    cannot be read, or is of another architecture; ConfigError for weights that are not published.
    """
    where, name = fspath(weights), None
    plain = network.graph(None, input_shape, **options)  # a wrong option is told before anything is downloaded
    record, own = None, packaged_for(network.name)
    if where in own:
        where, name = str(own[where].file), where
    elif where.split(":")[0] in PUBLISHED:
        record, file = published_file(network.name, where)
        where = str(file)
    elif _is_word(where):
        known = [*own, *(PUBLISHED if published_for(network.name) else ())]
        raise ConfigError(
            network.name,
            f"expected a file of weights{''.join(f', or {one}' for one in known)}, got {where!r}, which is none; "
            f"see fovea models {network.name}",
        )
    suffix = Path(where).suffix.lower()
    if suffix in FOREIGN:
        raise ModelFileError(
            where,
            f"expected a model file, a run folder, a PyTorch, Keras or safetensors file, got {FOREIGN[suffix]}; "
            "this version does not read weights from that format",
        )
    foreign = read_foreign(where)
    if foreign is None:
        return _of_model(where, name, load(where), network.name, input_shape, options)
    scheme = foreign.scheme(network.name, plain)
    complete = {**(scheme.options if scheme is not None else {}), **options}
    match = foreign.match(network.name, network.graph(None, input_shape, **complete))
    if record is None:
        return Weights(where, match, match.outputs, complete)
    preprocessing = record.preprocessing(network.input_shape if input_shape is None else input_shape)
    return Weights(where, match, match.outputs, complete, preprocessing, imagenet_classes())


def _is_word(where: str) -> bool:
    """Whether a text names no file: nothing lies there, and it looks like none."""
    path = Path(where)
    return not path.exists() and not path.suffix and path.name == where


def _of_model(
    where: str, name: str | None, model: Model, network: str, input_shape: Sequence[int | None] | None,
    options: Mapping[str, Any],
) -> Weights:  # fmt: skip
    """A model of ours tells all that it knows, as far as it holds for inputs of another size."""
    own = model.graph.input_shapes[0]
    shape = own if input_shape is None else tuple(input_shape)
    return Weights(
        where, model, _outputs(model.graph), options, _resized(model.preprocessing, shape), model.classes,
        own if model.name == network else None, model.task, name,
    )  # fmt: skip


def _resized(how: Preprocessing | None, shape: Sequence[int | None]) -> Preprocessing | None:
    """The same preprocessing for inputs of another size; None where the channels differ."""
    *sizes, channels = shape
    if how is None or channels != how.channels or len(sizes) + 1 != len(how.sample_shape):
        return None
    if how.size is None or tuple(sizes) == how.size:
        return how
    if None in sizes:
        return replace(how, size=None, resize_to=None)
    size = tuple(int(one or 0) for one in sizes)
    scaled = None if how.resize_to is None else round(how.resize_to * max(size[-2:]) / max(how.size[-2:]))
    return replace(how, size=size, resize_to=scaled)


def _outputs(graph: Graph) -> int | None:
    shape = graph.output_shapes[0]
    return shape[-1] if shape else None


def _copy(where: str, source: Model, model: Model, head: str | None) -> None:
    """All arrays but those of the node ``head``."""
    given, own = source.store.tensors(), model.store.tensors()
    name = model.name or "this model"
    fresh = set() if head is None else set(model.graph.node(head).parameters)
    for path, array in own.items():
        if path not in given:
            raise ModelFileError(
                where, f"expected the weights of {name}, got none for {path}; the file holds another architecture"
            )
        if path not in fresh and given[path].shape != array.shape:
            raise ModelFileError(
                where,
                f"expected {path} with shape {array.shape} for {name}, got {given[path].shape}; "
                "build it with the file's input shape and options",
            )
    extra = [path for path in given if path not in own]
    if extra:
        raise ModelFileError(
            where,
            f"expected the weights of {name}, got {', '.join(extra[:3])} besides; the file holds another architecture",
        )
    model.store.load({path: array for path, array in given.items() if path not in fresh}, where)
