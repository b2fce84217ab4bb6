"""Detectors without anchors: a backbone, a pyramid of features, and at each of its levels what is where.

Sources: Tian et al. 2019, "FCOS: fully convolutional one-stage object detection"; Lin et al. 2017, "Feature pyramid
networks"; Liu et al. 2018, "Path aggregation network"; Feng et al. 2021, "TOOD".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fovea.errors import ConfigError, ShapeError
from fovea.graph.compose import Layer, Sequential, build
from fovea.graph.depth import block_ends
from fovea.graph.graph import Graph, Ref
from fovea.graph.initialize import Initializer
from fovea.model import Model
from fovea.models.registry import MODELS, register
from fovea.ops import Add, BatchNorm, Clip, Conv, Exp, ReLU, Resize, Value, scope
from fovea.ops.base import Shape
from fovea.tasks.detect.task import Detection

__all__ = ["SIZES", "detector", "detector_medium", "detector_nano", "detector_small"]

STRIDES = (8, 16, 32)
_OPEN = (None, None, 3)
_INITIALIZER = Initializer(
    "kaiming_fan_out",
    overrides=(
        ("head.class*.weight", "lecun_uniform"),
        ("head.reach*.weight", "lecun_uniform"),
        ("head.class*.bias", "rare"),
    ),
)
_FARTHEST = 6.0
"""Distances are at most e^6 = 403 strides."""


@dataclass(frozen=True)
class _Size:
    """Backbone and its options; channels of the pyramid; convolutions of a head, and whether these are separable."""

    backbone: str
    options: dict[str, Any]
    channels: int
    depth: int
    separable: bool = True


SIZES = {
    "nano": _Size("mobilenetv2", {"width": 0.35}, 64, 2),
    "small": _Size("mobilenetv2", {"width": 1.0}, 96, 2),
    "medium": _Size("mobilenetv2", {"width": 1.4}, 128, 2, separable=False),
}


def detector(
    num_classes: int | None = None,
    *,
    size: str = "nano",
    backbone: str | Model | None = None,
    image_size: int | tuple[int, int] = 320,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "",
) -> Model:
    """A detector for images ``N,H,W,3``, H and W any multiples of 32: for strides s = 8, 16, 32 maps of logits
    ``N,H/s,W/s,K`` and of distances ``N,H/s,W/s,4`` (see ``fovea.tasks.Detection``).

    ``size``: "nano", "small" or "medium". ``backbone``: another network of the zoo by name, or a trained Model, whose
    weights and pixel preprocessing the detector begins with; it must have maps at strides 8, 16 and 32. Images are then
    letterboxed to ``image_size``; without a trained backbone the data's preprocessing is taken when training begins.

    Raises ConfigError or ShapeError for what does not fit.

    >>> detector(20, size="nano").graph.at((64, 64, 3)).output_shapes[0]
    (8, 8, 20)
    """
    if size not in SIZES:
        raise ConfigError("detector", f"expected size as {', '.join(SIZES)}, got {size!r}; choose one")
    if (num_classes is None) == (classes is None):
        raise ConfigError("detector", "expected either num_classes or classes; give the names of the classes")
    sides = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sides) != 2 or not all(_fits(one) for one in sides):
        raise ConfigError(
            "detector", f"expected image_size in multiples of {STRIDES[-1]}, got {image_size!r}; 320 is fast"
        )
    count = len(classes) if classes is not None else num_classes
    own = SIZES[size]
    trained: Model | None = None
    if isinstance(backbone, Model):
        trained, body = backbone, backbone.graph
    else:
        body = _body(backbone or own.backbone, _OPEN, {} if backbone else own.options)
    graph = build(_network(count, own, _taps(body)), _OPEN)
    model = Model(
        graph, classes=None if classes is None else tuple(classes), seed=seed, initializer=_INITIALIZER,
        task=Detection(STRIDES), name=name or f"detector_{size}",
    )  # fmt: skip
    if trained is not None:
        _carry(trained, model)
        if trained.preprocessing is not None:
            how = dataclasses.replace(trained.preprocessing, size=sides, resize="letterbox", resize_to=None)
            model.preprocessing = how
    return model


def _fits(side: Any) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and side > 0 and side % STRIDES[-1] == 0


def _body(name: str, input_shape: Shape, options: dict[str, Any]) -> Graph:
    if name not in MODELS or name.startswith("detector"):
        known = ", ".join(sorted(one for one in MODELS if not one.startswith("detector")))
        raise ConfigError("detector", f"expected a backbone of the zoo, got {name!r}; choose one of {known}")
    return MODELS[name].graph(2, tuple(input_shape), **options)


def _taps(body: Graph) -> Graph:
    """The backbone up to the last values that hold everything at strides 8, 16 and 32, for any input size.

    Where channels widen for a classifier's head, nothing is kept. Raises ShapeError where a stride is missing.
    """
    inside = body.input_shapes[0]
    if len(inside) != 3 or inside[2] != 3 or len(body.inputs) != 1:
        raise ShapeError("detector", f"expected a backbone for images (H, W, 3), got one for {inside}; take another")
    side = STRIDES[-1] * 10
    found: dict[int, str] = {}
    opened = _opened(body)
    seen = opened.at((side, side, 3))
    for end in block_ends(seen):
        out = seen.node(end).output_shapes[0]
        if end.split(".")[0] == "head" or len(out) != 3:
            continue
        for stride in STRIDES:
            if out[:2] == (side // stride, side // stride):
                found[stride] = end
    missing = [str(stride) for stride in STRIDES if stride not in found]
    if missing:
        raise ShapeError(
            "detector",
            f"expected a backbone with maps at strides 8, 16 and 32, got none at {missing[0]}; take one that halves "
            "its input five times, such as mobilenetv2 or resnet18",
        )
    return opened.pruned([Ref(found[stride]) for stride in STRIDES])


def _opened(body: Graph) -> Graph:
    """The convolutional part of a network for any input size: without what its head does with a fixed one."""
    if None in body.input_shapes[0]:
        return body
    ends = [end for end in block_ends(body) if len(body.node(end).output_shapes[0]) == 3]
    part = body.pruned([Ref(ends[-1])])
    entries = [
        (node.name, type(node.op)(_OPEN) if node.name in part.inputs else node.op, node.inputs)  # type: ignore[call-arg]
        for node in part.nodes.values()
    ]
    return Graph.from_nodes(entries, part.inputs, part.outputs)


def _conv(channels: int, separable: bool, stride: int = 1) -> Sequential:
    """A 3x3 convolution of ``channels`` with batch norm and ReLU; separable: a depthwise and a pointwise one."""
    if not separable:
        return Sequential(Conv(channels, 3, stride=stride, padding=1, use_bias=False), BatchNorm(), ReLU())
    return Sequential(
        Conv(channels, 3, stride=stride, padding=1, groups=channels, use_bias=False), BatchNorm(), ReLU(),
        Conv(channels, 1, use_bias=False), BatchNorm(), ReLU(),
    )  # fmt: skip


def _named(name: str, layers: Sequential, value: Value) -> Value:
    with scope("part", name):
        result: Value = layers.inline(value)
        return result


def _pyramid(features: Sequence[Value], channels: int, separable: bool) -> tuple[Value, ...]:
    """Features of every stride -> as many maps of ``channels``, each of which knows the others: coarse ones are added
    to fine ones, then fine ones to coarse ones."""
    levels = [
        _named(f"lateral{stride}", Sequential(Conv(channels, 1, use_bias=False), BatchNorm(), ReLU()), value)
        for stride, value in zip(STRIDES, features, strict=True)
    ]
    for index in reversed(range(len(levels) - 1)):
        joined = Add()(levels[index], Resize(scale=2)(levels[index + 1]))
        levels[index] = _named(f"down{STRIDES[index]}", _conv(channels, separable), joined)
    for index in range(1, len(levels)):
        finer = _named(f"up{STRIDES[index]}", _conv(channels, separable, stride=2), levels[index - 1])
        levels[index] = _named(f"join{STRIDES[index]}", _conv(channels, separable), Add()(levels[index], finer))
    return tuple(levels)


def _network(num_classes: Any, size: _Size, backbone: Graph) -> Layer:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ConfigError(
            "detector", f"expected num_classes as an integer of at least 1, got {num_classes!r}; count them"
        )

    def neck(*features: Value) -> tuple[Value, ...]:
        return _pyramid(features, size.channels, size.separable)

    def head(*levels: Value) -> tuple[Value, ...]:
        classes, boxes = [], []
        for stride, level in zip(STRIDES, levels, strict=True):
            seen = _named(f"what{stride}", _branch(size), level)
            lies = _named(f"where{stride}", _branch(size), level)
            classes.append(Conv(num_classes, 1)(seen, name=f"class{stride}"))
            reach = Clip(-_FARTHEST, _FARTHEST)(Conv(4, 1)(lies, name=f"reach{stride}"))
            boxes.append(Exp()(reach, name=f"box{stride}"))
        return (*classes, *boxes)

    return Sequential({"backbone": backbone, "neck": neck, "head": head})


def _branch(size: _Size) -> Sequential:
    """The convolutions of one half of a head; their names stand in its scope."""
    return Sequential(*(layer for _ in range(size.depth) for _, layer in _conv(size.channels, size.separable).layers))


def _carry(trained: Model, model: Model) -> None:
    """Copy the backbone's numbers: its layer ``stage1.conv1`` is the detector's ``backbone.stage1_conv1``."""
    own = model.store.tensors()
    values = {}
    for path, array in trained.store.tensors().items():
        node, _, field = path.rpartition(".")
        target = f"backbone.{node.replace('.', '_')}.{field}"
        if target in own:
            values[target] = array.copy()
    model.store.load(values)


def _sized(size: str, num_classes: int, backbone: str | None) -> Layer:
    own = SIZES[size]
    body = _body(backbone or own.backbone, _OPEN, {} if backbone else own.options)
    return _network(num_classes, own, _taps(body))


_SOURCE = 'after Tian et al. 2019, "FCOS", Liu et al. 2018, "PANet", and Feng et al. 2021, "TOOD"'
_USUAL: dict[str, Any] = {
    "num_classes": 80, "input_shape": (320, 320, 3), "source": _SOURCE, "initializer": _INITIALIZER,
    "task": Detection(STRIDES),
}  # fmt: skip


@register(parameters=365_916, **_USUAL)
def detector_nano(num_classes: int, backbone: str | None = None) -> Layer:
    """A detector on MobileNetV2 at width 0.35 (or another ``backbone`` of the zoo), for 320x320 on a small computer."""
    return _sized("nano", num_classes, backbone)


@register(parameters=2_068_092, **{**_USUAL, "input_shape": (416, 416, 3)})
def detector_small(num_classes: int, backbone: str | None = None) -> Layer:
    """A detector on MobileNetV2 (or another ``backbone`` of the zoo) with a pyramid of 96 channels."""
    return _sized("small", num_classes, backbone)


@register(parameters=6_282_364, **{**_USUAL, "input_shape": (512, 512, 3)})
def detector_medium(num_classes: int, backbone: str | None = None) -> Layer:
    """A detector on MobileNetV2 at width 1.4 (or another ``backbone`` of the zoo), 3x3 convolutions in its heads."""
    return _sized("medium", num_classes, backbone)
