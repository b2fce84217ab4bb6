"""Weights for a network of the zoo: what ``weights=`` names, what it tells about the network, and how it gets in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from fovea.data.preprocess import Preprocessing
from fovea.errors import ModelFileError
from fovea.graph.graph import Graph
from fovea.model import Model, load
from fovea.models.foreign import Match, read_foreign
from fovea.models.published import PUBLISHED, imagenet_classes, published_file
from fovea.models.registry import Architecture

__all__ = ["Weights", "find_weights"]

FOREIGN = {
    ".onnx": "an ONNX file",
    ".npz": "a NumPy archive",
    ".pb": "a TensorFlow file",
    ".tflite": "a TensorFlow Lite file",
}


@dataclass(frozen=True)
class Weights:
    """A file of weights for one network. What it does not tell is None or empty.

    ``num_classes``: outputs of the stored network. ``options``: of the network, as given, completed by what the library
    that wrote the file does otherwise. ``preprocessing``, ``classes``: of published weights.
    """

    where: str
    source: Match | Model
    num_classes: int | None
    options: Mapping[str, Any]
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None

    def adapted(self, graph: Graph) -> Graph:
        """The graph as the stored network computes it: with its eps."""
        return self.source.adapted(graph) if isinstance(self.source, Match) else graph

    def load_into(self, model: Model) -> None:
        """Copy every array into a model of the same architecture, all or none. Raises ModelFileError."""
        if isinstance(self.source, Match):
            self.source.assign(model)
            model.provenance["weights"] = {"file": Path(self.where).name, "matched": str(self.source)}
        else:
            _copy(self.where, self.source, model)


def find_weights(
    network: Architecture,
    weights: str | PathLike[str],
    input_shape: Sequence[int | None] | None,
    options: Mapping[str, Any],
) -> Weights:
    """What ``weights`` names: a model file or run folder of fovea, a file of PyTorch, Keras or safetensors, or the name
    of a publisher ("torchvision").

    Layers of other libraries are found by the names of torchvision, timm, the CIFAR ResNets and Keras Applications, or,
    with unknown names, as the same layers in the same order. Raises ModelFileError when the file is of another format,
    cannot be read, or is of another architecture; ConfigError for weights that are not published.
    """
    where = fspath(weights)
    plain = network.graph(None, input_shape, **options)  # a wrong option is told before anything is downloaded
    record = None
    if where.split(":")[0] in PUBLISHED:
        record, file = published_file(network.name, where)
        where = str(file)
    suffix = Path(where).suffix.lower()
    if suffix in FOREIGN:
        raise ModelFileError(
            where,
            f"expected a model file, a run folder, a PyTorch, Keras or safetensors file, got {FOREIGN[suffix]}; "
            "this version does not read weights from that format",
        )
    foreign = read_foreign(where)
    if foreign is None:
        model = load(where)
        shapes = model.graph.output_shapes[0]
        return Weights(where, model, shapes[-1] if shapes else None, options)
    scheme = foreign.scheme(network.name, plain)
    complete = {**(scheme.options if scheme is not None else {}), **options}
    match = foreign.match(network.name, network.graph(None, input_shape, **complete))
    if record is None:
        return Weights(where, match, match.outputs, complete)
    preprocessing = record.preprocessing(network.input_shape if input_shape is None else input_shape)
    return Weights(where, match, match.outputs, complete, preprocessing, imagenet_classes())


def _copy(where: str, source: Model, model: Model) -> None:
    given, own = source.store.tensors(), model.store.tensors()
    name = model.name or "this model"
    for path, array in own.items():
        if path not in given:
            raise ModelFileError(
                where, f"expected the weights of {name}, got none for {path}; the file holds another architecture"
            )
        if given[path].shape != array.shape:
            raise ModelFileError(
                where,
                f"expected {path} with shape {array.shape} for {name}, got {given[path].shape}; "
                "build it with the file's number of classes and input shape",
            )
    extra = [path for path in given if path not in own]
    if extra:
        raise ModelFileError(
            where,
            f"expected the weights of {name}, got {', '.join(extra[:3])} besides; the file holds another architecture",
        )
    model.store.load(given, where)
