"""torchvision's names of the newer networks' layers, in the order of our nodes with parameters."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.graph.graph import Graph
from fovea.models.googlenet import MODULES
from fovea.models.squeeze_excite import B0, LARGE, SMALL, Row

__all__ = ["TORCHVISION", "densenet_as_published"]


def _densenet(graph: Graph, dot: str = "") -> list[str]:
    """``dot``: the published file still has "norm.1" from a time when modules could be called so."""
    made = ["features.conv0", "features.norm0"]
    for block, depth in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, depth + 1):
            prefix = f"features.denseblock{block}.denselayer{layer}"
            made += [f"{prefix}.{name}{dot}{number}" for number in (1, 2) for name in ("norm", "conv")]
        if block < 4:
            made += [f"features.transition{block}.norm", f"features.transition{block}.conv"]
    return [*made, "features.norm5", "classifier"]


def _googlenet(graph: Graph) -> list[str]:
    units = ["conv1", "conv2", "conv3"]
    for name in MODULES:
        branches = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
        units += [f"inception{name}.{branch}" for branch in branches]
    return [f"{unit}.{part}" for unit in units for part in ("conv", "bn")] + ["fc"]


def _block(prefix: str, widens: bool, excited: bool) -> list[str]:
    """An inverted residual: convolutions with norms are pairs 0 and 1; squeeze-and-excitation stands between."""
    made, position = [], 0
    for part in ("up", "depthwise", "excite", "down"):
        if (part == "up" and not widens) or (part == "excite" and not excited):
            continue
        inner = ("fc1", "fc2") if part == "excite" else ("0", "1")
        made += [f"{prefix}.block.{position}.{name}" for name in inner]
        position += 1
    return made


def _mobilenetv3(rows: Sequence[Row]) -> list[str]:
    made, channels = ["features.0.0", "features.0.1"], 16
    for index, (_, expanded, out, excited, _, _) in enumerate(rows, 1):
        made += _block(f"features.{index}", expanded != channels, excited)
        channels = out
    last = len(rows) + 1
    return [*made, f"features.{last}.0", f"features.{last}.1", "classifier.0", "classifier.3"]


def _efficientnet(graph: Graph) -> list[str]:
    made = ["features.0.0", "features.0.1"]
    for stage, (expansion, _, _, _, repeats) in enumerate(B0, 1):
        for index in range(repeats):
            made += _block(f"features.{stage}.{index}", expansion != 1, True)
    return [*made, "features.8.0", "features.8.1", "classifier.1"]


def _convnext(graph: Graph) -> list[str]:
    made = ["features.0.0", "features.0.1"]
    for stage, depth in enumerate((3, 3, 9, 3)):
        if stage:
            made += [f"features.{2 * stage}.0", f"features.{2 * stage}.1"]
        for index in range(depth):
            prefix = f"features.{2 * stage + 1}.{index}"
            made += [*(f"{prefix}.block.{number}" for number in (0, 2, 3, 5)), prefix]  # the last holds layer_scale
    return [*made, "classifier.0", "classifier.2"]


def _shufflenet(graph: Graph) -> list[str]:
    made = ["conv1.0", "conv1.1"]
    for stage, repeats in ((2, 4), (3, 8), (4, 4)):
        for index in range(repeats):
            prefix = f"stage{stage}.{index}"
            if index == 0:
                made += [f"{prefix}.branch1.{number}" for number in (0, 1, 2, 3)]
            made += [f"{prefix}.branch2.{number}" for number in (0, 1, 3, 4, 5, 6)]
    return [*made, "conv5.0", "conv5.1", "fc"]


TORCHVISION = {
    "densenet121": _densenet,
    "googlenet": _googlenet,
    "mobilenetv3_large": lambda graph: _mobilenetv3(LARGE),
    "mobilenetv3_small": lambda graph: _mobilenetv3(SMALL),
    "efficientnet_b0": _efficientnet,
    "convnext_tiny": _convnext,
    "shufflenetv2": _shufflenet,
}


def densenet_as_published(graph: Graph) -> list[str]:
    """DenseNet's names in the file that torchvision publishes."""
    return _densenet(graph, ".")
