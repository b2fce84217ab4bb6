"""``fovea.load``: a model from whatever file holds one, weights of networks that are known by their layers included."""

from __future__ import annotations

from os import PathLike

from fovea.errors import ModelFileError
from fovea.interop.load import load as load_file
from fovea.model import Model
from fovea.models.foreign import AUXILIARY, Foreign, read_foreign
from fovea.models.foreign_names import SCHEMES, recognised
from fovea.models.registry import MODELS, create

__all__ = ["load", "network_of"]


def load(path: str | PathLike[str]) -> Model:
    """The model of a model file, a run folder or an ONNX file; or of a file of weights of PyTorch, Keras or safetensors
    whose layers have the names of one network of the zoo. Everything is validated; nothing in it is executed.

    Raises ModelFileError, in one line, for a file that is missing, damaged, hostile or of a newer format; MissingExtra
    for an ONNX or Keras file without the extra "onnx" or "keras".
    """
    named = isinstance(path, (str, PathLike))
    foreign = read_foreign(path) if named else None
    return load_file(path) if foreign is None else create(network_of(foreign), weights=path)


def network_of(foreign: Foreign) -> str:
    """The one network whose layers, by the names of a known scheme, are exactly those of a file.

    Raises ModelFileError where there is none or more than one.
    """
    layers = [name for name in foreign.layers if not name.startswith(AUXILIARY)]
    found = []
    for network in SCHEMES:
        match = recognised(network, MODELS[network].graph(), layers)
        if match is not None and len(set(match[1])) == len(layers):
            found.append(network)
    if len(found) == 1:
        return found[0]
    some = ", ".join(one[:60] for one in layers[:3])
    raise ModelFileError(
        foreign.where,
        f"expected the network that these weights belong to, since their layers ({some}, ...) have the names of "
        f"{' and '.join(found) or 'no network that is known'}; give it: fovea import --network, or "
        "fovea.models.NAME(weights=...), options included",
    )
