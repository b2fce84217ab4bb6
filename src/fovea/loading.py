"""``fovea.load``: a model from whatever file holds one, weights of networks that are known by their layers included."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from fovea.errors import ModelFileError
from fovea.graph.serialize import is_plain_safetensors
from fovea.interop.load import load as load_file
from fovea.model import Model

__all__ = ["is_zoo_name", "load"]


def load(path: str | PathLike[str]) -> Model:
    """The model of a model file, a run folder or an ONNX file; or of a file of weights of PyTorch, Keras or safetensors
    whose layers have the names of one network of the zoo; or ``NETWORK:WEIGHTS``, such as ``resnet20:cifar10``. All is
    validated; nothing in it is executed.

    Raises ModelFileError, in one line, for a file that is missing, damaged, hostile or of a newer format; ConfigError
    for a name that is none; MissingExtra for an ONNX or Keras file without the extra "onnx" or "keras".
    """
    if isinstance(path, str) and is_zoo_name(path):
        from fovea.models.registry import architecture  # the zoo: a model file of ours needs none of it

        network, _, weights = path.partition(":")
        return architecture(network)(weights=weights)
    if isinstance(path, str) and path.isidentifier() and not Path(path).exists():
        _refuse_network(path)
    if not isinstance(path, (str, PathLike)) or Path(path).is_dir() or Path(path).suffix.lower() == ".onnx":
        return load_file(path)
    if Path(path).suffix.lower() == ".safetensors" and not is_plain_safetensors(path):
        return load_file(path)
    from fovea.models.foreign import read_foreign
    from fovea.models.recognise import network_of
    from fovea.models.registry import create

    foreign = read_foreign(path)
    return load_file(path) if foreign is None else create(network_of(foreign), weights=path)


def is_zoo_name(text: str) -> bool:
    """Whether a text is meant as ``NETWORK:WEIGHTS``: a network of the zoo, and what its ``weights=`` may name."""
    return re.fullmatch(r"\w+:[\w:.-]+", text, re.ASCII) is not None and not Path(text).exists()


def _refuse_network(name: str) -> None:
    """Raise ModelFileError for the bare name of a network, which has no weights."""
    from fovea.models.packaged import default_weights
    from fovea.models.registry import MODELS

    if name in MODELS:
        known = default_weights(name)
        fix = f"give {name}:{known}" if known else "train it, or give its weights"
        raise ModelFileError(name, f"expected a model with weights, got the name of a network alone; {fix}")
