"""How other libraries name the layers of the zoo's networks: their names, in the order of our nodes with parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from fovea.graph.graph import Graph
from fovea.models.keras_names import KERAS
from fovea.models.scheme import Scheme, nodes_with_parameters
from fovea.models.timm_names import TIMM
from fovea.models.torchvision_names import TORCHVISION, densenet_as_published

__all__ = ["SCHEMES", "recognised"]

Names = Callable[[Graph], list[str]]


def _resnet(stem: tuple[str, str], head: str, shortcut: str) -> Names:
    """torchvision's, timm's and the CIFAR networks' names differ in a few words."""

    def names(graph: Graph) -> list[str]:
        made = []
        for name in nodes_with_parameters(graph):
            block = re.fullmatch(r"stage(\d)\.block(\d+)\.(shortcut\.)?(conv|batchnorm)(\d)", name)
            if block:
                stage, index, skip, kind, number = block.groups()
                inner = f"{'conv' if kind == 'conv' else 'bn'}{number}"
                skipping = f"{shortcut}.{int(kind != 'conv')}"
                made.append(f"layer{stage}.{index}.{skipping if skip else inner}")
            else:
                made.append({"stem.conv1": stem[0], "stem.batchnorm1": stem[1]}.get(name, head))
        return made

    return names


def _mobilenetv2_torchvision(graph: Graph) -> list[str]:
    """features.N.conv.*: every convolution with its norm is a pair N.0, N.1, but the last one, which is flat.

    With folded norms the same names lack the norms.
    """
    made, folded = [], not any(node.op.kind == "batchnorm" for node in graph.nodes.values())
    blocks = sorted({name.rsplit(".", 1)[0] for name in nodes_with_parameters(graph) if ".block" in name}, key=_natural)
    for name in nodes_with_parameters(graph):
        prefix, _, last = name.rpartition(".")
        kind, number = last.rstrip("0123456789"), int(re.sub(r"\D", "", last) or 1)
        if prefix == "stem" or (prefix == "head" and kind != "dense"):
            made.append(f"features.{0 if prefix == 'stem' else len(blocks) + 1}.{int(kind != 'conv')}")
        elif prefix == "head":
            made.append("classifier.1")
        else:
            count = sum(one.startswith(f"{prefix}.conv") for one in nodes_with_parameters(graph))
            norm = int(kind != "conv")
            inner = f"{number - 1}.{norm}" if number < count else f"{number - 1 + norm}"
            made.append(f"features.{blocks.index(prefix) + 1}.conv.{inner}")
    assert folded or len(made) == len(set(made))
    return made


def _vgg(head: tuple[str, str, str]) -> Names:
    def names(graph: Graph) -> list[str]:
        made, position, stage = [], 0, "stage1"
        for name in nodes_with_parameters(graph):
            current = name.split(".")[0]
            if current != stage and current != "head":
                position, stage = position + 1, current  # the pooling between
            if current == "head":
                made.append(head[int(name[-1]) - 1])
            else:
                made.append(f"features.{position}")
                position += 2  # convolution, ReLU
        return made

    return names


def _alexnet(graph: Graph) -> list[str]:
    return [f"features.{i}" for i in (0, 3, 6, 8, 10)] + [f"classifier.{i}" for i in (1, 4, 6)]


def _squeezenet(graph: Graph) -> list[str]:
    places = {"fire2": 3, "fire3": 4, "fire4": 5, "fire5": 7, "fire6": 8, "fire7": 9, "fire8": 10, "fire9": 12}
    inner = {"squeeze": "squeeze", "one": "expand1x1", "three": "expand3x3"}
    made = []
    for name in nodes_with_parameters(graph):
        parts = name.split(".")
        if parts[0] in places:
            made.append(f"features.{places[parts[0]]}.{inner[parts[-2]]}")
        else:
            made.append("features.0" if parts[0] == "stem" else "classifier.1")
    return made


_TORCHVISION_RESNET = _resnet(("conv1", "bn1"), "fc", "downsample")
_CIFAR_RESNET = _resnet(("conv1", "bn1"), "linear", "shortcut")
_DENSE = ("classifier.0", "classifier.3", "classifier.6")

_NAMES: dict[str, dict[str, Names]] = {
    **{name: {"torchvision and timm": _TORCHVISION_RESNET} for name in ("resnet18", "resnet34", "resnet50")},
    **{
        name: {"CIFAR ResNets": _CIFAR_RESNET, "torchvision": _TORCHVISION_RESNET}
        for name in ("resnet20", "resnet32", "resnet56")
    },
    "mobilenetv2": {"torchvision": _mobilenetv2_torchvision},
    **{
        name: {"torchvision": _vgg(_DENSE), "timm": _vgg(("pre_logits.fc1", "pre_logits.fc2", "head.fc"))}
        for name in ("vgg11", "vgg16", "vgg19")
    },
    "alexnet": {"torchvision": _alexnet},
    "squeezenet": {"torchvision": _squeezenet},
    **{name: {"torchvision": names} for name, names in TORCHVISION.items()},
    "densenet121": {"torchvision and timm": TORCHVISION["densenet121"], "torchvision's file": densenet_as_published},
}

SCHEMES: dict[str, tuple[Scheme, ...]] = {
    network: (
        *(Scheme(library, names) for library, names in _NAMES.get(network, {}).items()),
        *(one for table in (TIMM, KERAS) if (one := table.get(network)) is not None),
    )
    for network in {**_NAMES, **TIMM, **KERAS}
}
"""For every network the naming schemes that are known; the first whose names are all in a file is taken."""


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts "block2" before "block10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def recognised(network: str, graph: Graph, present: Iterable[str]) -> tuple[Scheme, list[str]] | None:
    """The first known scheme whose names are all present, and those names in the order of our nodes; else None."""
    given = list(present)
    for scheme in SCHEMES.get(network, ()):
        spelt = {scheme.plain(name): name for name in given}
        wanted = scheme.names(graph)
        if all(name in spelt for name in wanted):
            return scheme, [spelt[name] for name in wanted]
    return None
