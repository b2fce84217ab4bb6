"""timm's names of layers where they are not torchvision's, in the order of our nodes with parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fovea.graph.graph import Graph
from fovea.models.convnext import DEPTHS
from fovea.models.scheme import Scheme, nodes_with_parameters
from fovea.models.squeeze_excite import B0, LARGE, SMALL, Row

__all__ = ["TIMM"]


def _mobilenetv2(graph: Graph) -> list[str]:
    made = []
    for name in nodes_with_parameters(graph):
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


def _block(prefix: str, widens: bool, excited: bool) -> list[str]:
    """An inverted residual: the convolution up is missing where the width stays, and then the names move up."""
    convs = ("conv_pw", "conv_dw", "conv_pwl") if widens else ("conv_dw", "conv_pw")
    made = []
    for number, conv in enumerate(convs, 1):
        if excited and number == len(convs):
            made += ["se.conv_reduce", "se.conv_expand"]
        made += [conv, f"bn{number}"]
    return [f"{prefix}.{name}" for name in made]


def _mobilenetv3(rows: Sequence[Row]) -> list[str]:
    """A stage begins at a stride of 2, and where the width changes."""
    made, channels, stage, index = ["conv_stem", "bn1"], 16, -1, 0
    for _, expanded, out, excited, _, stride in rows:
        stage, index = (stage + 1, 0) if stride == 2 or out != channels or stage < 0 else (stage, index + 1)
        made += _block(f"blocks.{stage}.{index}", expanded != channels, excited)
        channels = out
    return [*made, f"blocks.{stage + 1}.0.conv", f"blocks.{stage + 1}.0.bn1", "conv_head", "classifier"]


def _efficientnet(graph: Graph) -> list[str]:
    made = ["conv_stem", "bn1"]
    for stage, (expansion, _, _, _, repeats) in enumerate(B0):
        for index in range(repeats):
            made += _block(f"blocks.{stage}.{index}", expansion != 1, True)
    return [*made, "conv_head", "bn2", "classifier"]


def _convnext(graph: Graph) -> list[str]:
    made = ["stem.0", "stem.1"]
    for stage, depth in enumerate(DEPTHS):
        if stage:
            made += [f"stages.{stage}.downsample.0", f"stages.{stage}.downsample.1"]
        for index in range(depth):
            prefix = f"stages.{stage}.blocks.{index}"
            made += [*(f"{prefix}.{name}" for name in ("conv_dw", "norm", "mlp.fc1", "mlp.fc2")), prefix]  # gamma
    return [*made, "head.norm", "head.fc"]


TIMM = {
    "mobilenetv2": Scheme("timm", _mobilenetv2),
    "mobilenetv3_large": Scheme("timm", lambda graph: _mobilenetv3(LARGE), eps=1e-5),
    "mobilenetv3_small": Scheme("timm", lambda graph: _mobilenetv3(SMALL), eps=1e-5),
    "efficientnet_b0": Scheme("timm", _efficientnet),
    "convnext_tiny": Scheme("timm", _convnext),
}
"""DenseNet's and the ResNets' names are torchvision's; GoogLeNet, SqueezeNet, ShuffleNet and AlexNet timm lacks."""
