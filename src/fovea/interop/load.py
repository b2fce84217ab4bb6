"""A model from a file that holds one, of ours or of another system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.errors import MissingExtra, ModelFileError
from fovea.interop.sizes import at_its_size
from fovea.model import Model
from fovea.model import load as load_model_file

if TYPE_CHECKING:
    from fovea.interop.onnx.load import Imported

__all__ = ["export_file", "import_file", "load"]


def load(path: str | os.PathLike[str]) -> Model:
    """The model of a model file, a run folder or an ONNX file. Everything is validated; nothing in it is executed.

    Raises ModelFileError, in one line, for a file that is missing, damaged, hostile or of a newer format; MissingExtra
    for an ONNX file without the extra "onnx".
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ModelFileError("load", f"expected the path of a model, got {type(path).__name__}; give a path")
    return import_file(path).model if Path(path).suffix.lower() == ".onnx" else load_model_file(path)


def import_file(path: str | os.PathLike[str], input_shape: Sequence[int | None] | None = None) -> Imported:
    """The model of another system's file, with what a person should know about the import.

    ``input_shape``: of one sample, ``(H, W, C)``, where the file leaves sizes open. Raises ModelFileError, in one
    line; MissingExtra without the extra "onnx".
    """
    if Path(path).suffix.lower() != ".onnx":
        raise ModelFileError(str(path), "expected an ONNX file (.onnx); model files of fovea need no import")
    try:
        from fovea.interop.onnx.load import load_onnx
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "onnx":
            raise
        raise MissingExtra("import", "onnx", "reading an ONNX file") from None
    return load_onnx(path, input_shape)


def export_file(model: Model, path: str | os.PathLike[str], images: bool = False) -> Path:
    """Write a model for others, by the suffix of ``path``: ``.onnx``, or ``.pth``, ``.pt``: a ``state_dict`` with
    Python source of an ``nn.Module`` beside it (see ``fovea.interop.torch_code.export``).

    ``images``: an ONNX file with preprocessing and probabilities inside. Sizes that the network leaves open become
    those that the model's preprocessing makes. Raises ModelFileError, in one line; MissingExtra without the extra
    "onnx" or "torch".
    """
    if model.quantization is not None:  # a float network of its rounded weights computes something else
        fix = "export what it was made from"
        raise ModelFileError(str(path), f"expected a float32 model, got one quantised to int8; {fix}")
    model = at_its_size(model)
    if Path(path).suffix.lower() in (".pth", ".pt"):
        return _export_torch(model, path, images)
    try:
        from fovea.interop.onnx.export import export_onnx
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "onnx":
            raise
        raise MissingExtra("export", "onnx", "writing an ONNX file") from None
    return export_onnx(model, path, images)


def _export_torch(model: Model, path: str | os.PathLike[str], images: bool) -> Path:
    if images:
        raise ModelFileError(str(path), "expected images with an ONNX file, got one for PyTorch; leave images out")
    try:
        from fovea.interop.torch_code.export import export_torch
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "torch":
            raise
        raise MissingExtra("export", "torch", "writing a file for PyTorch") from None
    return export_torch(model, path)
