"""Names of layers in keras.applications, in the order of our nodes with parameters, and in what its networks differ.

Names are written as Scheme.plain spells them: in lower case, "Conv/BatchNorm" of older versions as "conv_bn".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fovea.graph.graph import Graph
from fovea.models.convnext import DEPTHS
from fovea.models.scheme import Scheme, nodes_with_parameters
from fovea.models.squeeze_excite import B0, LARGE, SMALL, Row

__all__ = ["KERAS"]


def _resnet(graph: Graph) -> list[str]:
    """Stages count from 2 and blocks from 1; the shortcut is number 0."""
    made = []
    for name in nodes_with_parameters(graph):
        block = re.fullmatch(r"stage(\d)\.block(\d+)\.(shortcut\.)?(conv|batchnorm)(\d)", name)
        if block:
            stage, index, skip, kind, number = block.groups()
            prefix = f"conv{int(stage) + 1}_block{int(index) + 1}_{0 if skip else number}"
            made.append(f"{prefix}_{'conv' if kind == 'conv' else 'bn'}")
        else:
            made.append({"stem.conv1": "conv1_conv", "stem.batchnorm1": "conv1_bn"}.get(name, "predictions"))
    return made


def _vgg(graph: Graph) -> list[str]:
    made = []
    for name in nodes_with_parameters(graph):
        stage = re.fullmatch(r"stage(\d)\.conv(\d)", name)
        made.append(f"block{stage[1]}_conv{stage[2]}" if stage else ("fc1", "fc2", "predictions")[int(name[-1]) - 1])
    return made


def _densenet(graph: Graph) -> list[str]:
    made = ["conv1_conv", "conv1_bn"]
    for block, depth in enumerate((6, 12, 24, 16), 2):
        for layer in range(1, depth + 1):
            made += [f"conv{block}_block{layer}_{name}" for name in ("0_bn", "1_conv", "1_bn", "2_conv")]
        if block < 5:
            made += [f"pool{block}_bn", f"pool{block}_conv"]
    return [*made, "bn", "predictions"]


def _with_norm(prefix: str, *names: str) -> list[str]:
    return [f"{prefix}_{name}{end}" for name in names for end in ("", "_bn")]


def _mobilenetv2(graph: Graph) -> list[str]:
    made = ["conv1", "bn_conv1", *_with_norm("expanded_conv", "depthwise", "project")]
    for block in range(1, 17):
        made += _with_norm(f"block_{block}", "expand", "depthwise", "project")
    return [*made, "conv_1", "conv_1_bn", "predictions"]


def _mobilenetv3(rows: Sequence[Row]) -> list[str]:
    made, channels = ["conv", "conv_bn"], 16
    for index, (_, expanded, out, excited, _, _) in enumerate(rows):
        prefix = f"expanded_conv_{index}" if index else "expanded_conv"
        made += _with_norm(prefix, *(("expand", "depthwise") if expanded != channels else ("depthwise",)))
        if excited:
            made += [f"{prefix}_squeeze_excite_conv", f"{prefix}_squeeze_excite_conv_1"]
        made += _with_norm(prefix, "project")
        channels = out
    return [*made, "conv_1", "conv_1_bn", "conv_2", "logits"]


def _efficientnet(graph: Graph) -> list[str]:
    made = ["stem_conv", "stem_bn"]
    for stage, (expansion, _, _, _, repeats) in enumerate(B0, 1):
        for index in range(repeats):
            names = ["expand_conv", "expand_bn"] if expansion != 1 else []
            names += ["dwconv", "bn", "se_reduce", "se_expand", "project_conv", "project_bn"]
            made += [f"block{stage}{'abcd'[index]}_{name}" for name in names]
    return [*made, "top_conv", "top_bn", "predictions"]


def _convnext(graph: Graph) -> list[str]:
    made = ["stem_conv", "stem_layernorm"]
    inner = ("depthwise_conv", "layernorm", "pointwise_conv_1", "pointwise_conv_2", "layer_scale")
    for stage, depth in enumerate(DEPTHS):
        if stage:
            made += [f"downsampling_{name}_{stage - 1}" for name in ("layernorm", "conv")]
        made += [f"stage_{stage}_block_{index}_{name}" for index in range(depth) for name in inner]
    return [f"convnext_tiny_{name}" for name in (*made, "head_layernorm", "head_dense")]


_LIBRARY = "Keras Applications"
_SAME = {"padding": "same"}  # TensorFlow's rule; written as a layer of its own before convolutions with stride 2

KERAS = {
    "resnet50": Scheme(_LIBRARY, _resnet, {"stride_at": "1x1"}, eps=1.001e-5),
    **{name: Scheme(_LIBRARY, _vgg) for name in ("vgg16", "vgg19")},
    "densenet121": Scheme(_LIBRARY, _densenet, eps=1.001e-5),
    "mobilenetv2": Scheme(_LIBRARY, _mobilenetv2, _SAME, eps=1e-3),
    "mobilenetv3_large": Scheme(_LIBRARY, lambda graph: _mobilenetv3(LARGE), _SAME, eps=1e-3),
    "mobilenetv3_small": Scheme(_LIBRARY, lambda graph: _mobilenetv3(SMALL), _SAME, eps=1e-3),
    "efficientnet_b0": Scheme(_LIBRARY, _efficientnet, _SAME, eps=1e-3),
    "convnext_tiny": Scheme(_LIBRARY, _convnext),
}
