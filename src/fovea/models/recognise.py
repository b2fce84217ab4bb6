"""Which network of the zoo a file of weights belongs to, by the names of its layers."""

from __future__ import annotations

from fovea.errors import ModelFileError
from fovea.models.foreign import AUXILIARY, Foreign
from fovea.models.foreign_names import SCHEMES, recognised
from fovea.models.registry import MODELS

__all__ = ["network_of"]


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
