"""Which network of the zoo a file of weights belongs to, by the names of its layers."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from fovea.errors import ConfigError
from fovea.model import load
from fovea.models.foreign import AUXILIARY, KERAS_SUFFIXES, TORCH_SUFFIXES, read_foreign
from fovea.models.foreign_names import SCHEMES, recognised
from fovea.models.published import PUBLISHED
from fovea.models.registry import MODELS

__all__ = ["network_of"]


def network_of(path: str | PathLike[str]) -> str:
    """The one network whose layers, by the names of a known scheme, are exactly those of a file.

    Raises ConfigError where there is none or more than one, ModelFileError when the file cannot be read.
    """
    where = fspath(path)
    if where.split(":")[0] in PUBLISHED:
        raise ConfigError("--network", f"expected the name of a network for {where}, got none; see fovea models")
    if Path(where).suffix.lower() not in (*TORCH_SUFFIXES, *KERAS_SUFFIXES, ".safetensors") and Path(where).is_file():
        raise ConfigError(
            "import", f"expected a file of ONNX, PyTorch, Keras or safetensors, got {where}; its name must end so"
        )
    foreign = read_foreign(path)
    if foreign is None:
        load(path)
        raise ConfigError(
            "import", f"expected a file of another system, got a model of fovea, {where}; use it as it is"
        )
    layers = [name for name in foreign.layers if not name.startswith(AUXILIARY)]
    found = []
    for network in SCHEMES:
        match = recognised(network, MODELS[network].graph(), layers)
        if match is not None and len(set(match[1])) == len(layers):
            found.append(network)
    if len(found) == 1:
        return found[0]
    some = ", ".join(layers[:3])
    raise ConfigError(
        "--network",
        f"expected the name of the network, since the layers of {where} ({some}, ...) have the names of "
        f"{' and '.join(found) or 'no network that is known'}; choose from fovea models, options included",
    )
