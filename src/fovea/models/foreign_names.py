"""How other libraries name the layers of the zoo's networks: their names, in the order of our nodes with parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from fovea.graph.graph import Graph
from fovea.models.torchvision_names import TORCHVISION

__all__ = ["SCHEMES", "names_in"]

Scheme = Callable[[Graph], list[str]]
"""Names of modules for a graph of ours, one for every node with parameters."""


def _nodes(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes.values() if node.parameters]


def _resnet(stem: tuple[str, str], head: str, shortcut: str) -> Scheme:
    """torchvision's, timm's and the CIFAR networks' names differ in a few words."""

    def names(graph: Graph) -> list[str]:
        made = []
        for name in _nodes(graph):
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
    blocks = sorted({name.rsplit(".", 1)[0] for name in _nodes(graph) if ".block" in name}, key=_natural)
    for name in _nodes(graph):
        prefix, _, last = name.rpartition(".")
        kind, number = last.rstrip("0123456789"), int(re.sub(r"\D", "", last) or 1)
        if prefix == "stem" or (prefix == "head" and kind != "dense"):
            made.append(f"features.{0 if prefix == 'stem' else len(blocks) + 1}.{int(kind != 'conv')}")
        elif prefix == "head":
            made.append("classifier.1")
        else:
            count = sum(one.startswith(f"{prefix}.conv") for one in _nodes(graph))
            norm = int(kind != "conv")
            inner = f"{number - 1}.{norm}" if number < count else f"{number - 1 + norm}"
            made.append(f"features.{blocks.index(prefix) + 1}.conv.{inner}")
    assert folded or len(made) == len(set(made))
    return made


def _mobilenetv2_timm(graph: Graph) -> list[str]:
    made = []
    for name in _nodes(graph):
        prefix, _, last = name.rpartition(".")
        kind, number = last.rstrip("0123456789"), int(re.sub(r"\D", "", last) or 1)
        block = re.fullmatch(r"stage(\d+)\.block(\d+)", prefix)
        if block:
            convs = ("conv_pw", "conv_dw", "conv_pwl") if block[1] != "1" else ("conv_dw", "conv_pw")
            inner = convs[number - 1] if kind == "conv" else f"bn{number}"
            made.append(f"blocks.{int(block[1]) - 1}.{block[2]}.{inner}")
        else:
            table = {"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2")}[prefix]
            made.append("classifier" if kind == "dense" else table[int(kind != "conv")])
    return made


def _vgg(head: tuple[str, str, str]) -> Scheme:
    def names(graph: Graph) -> list[str]:
        made, position, stage = [], 0, "stage1"
        for name in _nodes(graph):
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
    for name in _nodes(graph):
        parts = name.split(".")
        if parts[0] in places:
            made.append(f"features.{places[parts[0]]}.{inner[parts[-2]]}")
        else:
            made.append("features.0" if parts[0] == "stem" else "classifier.1")
    return made


_TORCHVISION_RESNET = _resnet(("conv1", "bn1"), "fc", "downsample")
_CIFAR_RESNET = _resnet(("conv1", "bn1"), "linear", "shortcut")
_DENSE = ("classifier.0", "classifier.3", "classifier.6")

SCHEMES: dict[str, tuple[Scheme, ...]] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50"), (_TORCHVISION_RESNET,)),  # timm's are the same
    **dict.fromkeys(("resnet20", "resnet32", "resnet56"), (_CIFAR_RESNET, _TORCHVISION_RESNET)),
    "mobilenetv2": (_mobilenetv2_torchvision, _mobilenetv2_timm),
    **dict.fromkeys(("vgg11", "vgg16"), (_vgg(_DENSE), _vgg(("pre_logits.fc1", "pre_logits.fc2", "head.fc")))),
    "alexnet": (_alexnet,),
    "squeezenet": (_squeezenet,),
    **{name: (scheme,) for name, scheme in TORCHVISION.items()},
}
"""For every network the naming schemes that are known; the first whose names are all in a file is taken."""


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts "block2" before "block10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def names_in(network: str, graph: Graph, present: set[str]) -> list[str] | None:
    """The names of a known scheme that are all present, in the order of our nodes; else None."""
    return next((names for names in _known(network, graph) if set(names) <= present), None)


def _known(network: str, graph: Graph) -> Iterator[list[str]]:
    for scheme in SCHEMES.get(network, ()):
        yield scheme(graph)
