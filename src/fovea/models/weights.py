"""Weights from a file into a model of the same architecture."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from fovea.errors import ModelFileError
from fovea.model import Model, load
from fovea.models.foreign import assign, foreign_tensors

__all__ = ["load_weights"]

FOREIGN = {
    ".onnx": "an ONNX file",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".npz": "a NumPy archive",
    ".pb": "a TensorFlow file",
    ".tflite": "a TensorFlow Lite file",
}


def load_weights(model: Model, path: str | PathLike[str]) -> None:
    """Copy every array of a file into a model of the same architecture, all or none.

    The file: a model file or run folder of fovea, a PyTorch file or a safetensors file with the names of torchvision,
    timm or the CIFAR ResNets, or, with unknown names, the same layers in the same order. Raises ModelFileError when
    the file is of another format, cannot be read, or is of another architecture.
    """
    where = fspath(path)
    suffix = Path(where).suffix.lower()
    if suffix in FOREIGN:
        raise ModelFileError(
            where,
            f"expected a model file, a run folder, a PyTorch or safetensors file, got {FOREIGN[suffix]}; "
            "this version does not read that format",
        )
    tensors = foreign_tensors(path)
    if tensors is not None:
        assign(where, model, tensors)
        return
    given = load(where).store.tensors()
    own = model.store.tensors()
    name = model.name or "this model"
    for path_, array in own.items():
        if path_ not in given:
            raise ModelFileError(
                where, f"expected the weights of {name}, got none for {path_}; the file holds another architecture"
            )
        if given[path_].shape != array.shape:
            raise ModelFileError(
                where,
                f"expected {path_} with shape {array.shape} for {name}, got {given[path_].shape}; "
                "build it with the file's number of classes and input shape",
            )
    extra = [path_ for path_ in given if path_ not in own]
    if extra:
        raise ModelFileError(
            where,
            f"expected the weights of {name}, got {', '.join(extra[:3])} besides; the file holds another architecture",
        )
    model.store.load(given, where)
