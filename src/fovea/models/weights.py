"""Weights from a file into a model of the same architecture."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from fovea.errors import ModelFileError
from fovea.model import Model, load

__all__ = ["load_weights"]

FOREIGN = {
    ".pt": "a PyTorch checkpoint",
    ".pth": "a PyTorch checkpoint",
    ".th": "a PyTorch checkpoint",
    ".ckpt": "a checkpoint of another framework",
    ".bin": "a PyTorch checkpoint",
    ".onnx": "an ONNX file",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".npz": "a NumPy archive",
    ".pb": "a TensorFlow file",
    ".tflite": "a TensorFlow Lite file",
}


def load_weights(model: Model, path: str | PathLike[str]) -> None:
    """Copy every array of a fovea model file (or run folder) into a model of the same architecture, all or none.

    Raises ModelFileError when the file is of another format, cannot be read, or is of another architecture.
    """
    where = fspath(path)
    suffix = Path(where).suffix.lower()
    if suffix in FOREIGN:
        raise ModelFileError(
            where,
            f"expected a fovea model file (.safetensors) or a run folder, got {FOREIGN[suffix]}; "
            "this version does not read that format",
        )
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
