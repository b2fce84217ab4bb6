"""The arithmetic of one layer at one place: what is asked, checked and handed to the kind's own file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fovea.engines.base import Engine
from fovea.errors import ConfigError
from fovea.explain.arithmetic import conv, join, loss, norm, pointwise, pool
from fovea.explain.arithmetic.inputs import network_input
from fovea.explain.arithmetic.live import Live, run
from fovea.explain.arithmetic.records import Array, Calculation, Index, LayerArithmetic
from fovea.explain.arithmetic.taps import AXES, closed, shape_steps
from fovea.model import Model
from fovea.tasks.metrics import class_names

__all__ = ["KINDS", "layer_arithmetic"]


class _View(NamedTuple):
    forward: Callable[[Live, Index, int], Calculation]
    backward: Callable[[Live, Index, int, Index], tuple[Calculation, ...]]


_JOINS = ("add", "sub", "multiply")
_VIEWS: dict[str, _View] = {
    "conv": _View(conv.conv_forward, conv.conv_backward),
    "convtranspose": _View(conv.convtranspose_forward, conv.convtranspose_backward),
    "dense": _View(conv.dense_forward, conv.dense_backward),
    **dict.fromkeys(("maxpool", "globalmaxpool"), _View(pool.max_forward, pool.max_backward)),
    **dict.fromkeys(("avgpool", "adaptiveavgpool", "globalavgpool"), _View(pool.mean_forward, pool.mean_backward)),
    **dict.fromkeys(("batchnorm", "layernorm", "groupnorm"), _View(norm.norm_forward, norm.norm_backward)),
    **dict.fromkeys(pointwise.POINTWISE, _View(pointwise.pointwise_forward, pointwise.pointwise_backward)),
    **dict.fromkeys(_JOINS, _View(join.join_forward, join.join_backward)),
    "flatten": _View(join.flatten_forward, join.flatten_backward),
    "softmax": _View(loss.softmax_forward, loss.softmax_backward),
}

KINDS = tuple(_VIEWS)
"""The kinds of op that have an arithmetic view."""


def layer_arithmetic(
    model: Model, image: Any, layer: str, at: Sequence[int] | None = None, channel: int | None = None, *,
    backward: bool = False, weight_at: Sequence[int] | None = None, target: int | str | None = None,
    training: bool = False, engine: str | Engine | None = None,
) -> LayerArithmetic:  # fmt: skip
    """One number of a layer worked out from the numbers of a live network, and held to what the engine computed.

    ``image``: a path, uint8 H,W,C (with the model's preprocessing), or float32 network input ``*spatial,C`` or
    ``N,*spatial,C`` (the first sample is shown; sums over the batch run over all). ``at``: one integer for each spatial
    axis, ``channel`` the channel; forward they count in the layer's output, backward in its input (of a
    join: in its output); left out, they are
    where the output (the gradient) is strongest.

    Backward differentiates the softmax cross-entropy of class ``target`` (number or name; default: the predicted one):
    the gradient at one input element, of the weight at index ``weight_at`` of ``weight`` (default: the strongest of
    those that meet the channel) and of its bias. ``training``: batch norm uses the statistics of the samples given.

    Raises GraphError for an unknown layer, ConfigError for a layer without a view, a place outside of it or a network
    without logits.

    >>> import fovea
    >>> model = fovea.Model(fovea.Conv(2, 3), input_shape=(8, 8, 1))
    >>> found = layer_arithmetic(model, np.ones((8, 8, 1), np.float32), "conv1", at=(2, 3), channel=1)
    >>> len(found.calculations[0].terms), found.agrees
    (9, True)
    """
    node = model.graph.node(layer)
    if node.op.kind not in _VIEWS:
        named = [one.name for one in model.graph.nodes.values() if one.op.kind in _VIEWS]
        more = ", ..." if len(named) > 12 else ""
        raise ConfigError(
            layer,
            f"expected a layer with an arithmetic view, got {node.op.kind}; those are {', '.join(named[:12])}{more}",
        )
    samples = network_input(model, image)
    live = run(model, samples, layer, backward=backward, target=target, training=training, engine=engine)
    inward = backward and node.op.kind not in _JOINS
    place, channel = _place(live, live.grad_inputs[0][0] if inward else live.output[0], at, channel, inward)
    view = _VIEWS[node.op.kind]
    start, label, index = None, None, None
    if backward:
        assert live.start is not None
        index = int(live.start.targets[0])
        label = class_names(model.classes, live.start.logits.shape[1])[index]
        start = loss.loss_start(live, label)
        found = view.backward(live, place, channel, _weight_index(live, weight_at, channel))
    else:
        found = (view.forward(live, place, channel),)
    windowed = hasattr(node.op, "windows")
    return LayerArithmetic(
        layer, node.op.kind, "backward" if backward else "forward", live.training,
        {one.name: getattr(node.op, one.name) for one in dataclasses.fields(node.op)},  # type: ignore[arg-type]
        tuple(live.source(number) for number in range(len(node.inputs))),
        tuple(closed(shape) for shape in live.node.input_shapes), closed(live.node.output_shapes[0]),
        {name: array.shape for name, array in live.params.items()},
        shape_steps(live.op, closed(live.node.input_shapes[0])) if windowed else (),
        place, channel, found, start, index, label,
        _maps(live),
    )  # fmt: skip


def _maps(live: Live) -> dict[str, Array]:
    maps = {"input": live.inputs[0][0], "output": live.output[0]}
    if live.grad_inputs:
        maps |= {"grad_input": live.grad_inputs[0][0], "grad_output": live.delta[0]}
    return maps


def _place(live: Live, array: Array, at: Sequence[int] | None, channel: int | None, inward: bool) -> tuple[Index, int]:
    """The place that was asked for, or the strongest of the array ``*spatial,C`` there."""
    where = "input" if inward else "output"
    spatial, channels = array.shape[:-1], array.shape[-1]
    if channel is not None and not (_is_int(channel) and 0 <= channel < channels):
        raise ConfigError(
            live.name,
            f"expected a channel of its {where} from 0 to {channels - 1}, got {channel!r}; choose one of them",
        )
    if at is not None:
        place = tuple(at) if isinstance(at, (tuple, list)) else (at,)
        inside = len(place) == len(spatial) and all(
            _is_int(q) and 0 <= q < size for q, size in zip(place, spatial, strict=True)
        )
        if not inside:
            raise ConfigError(live.name, _expected_place(where, spatial, place))
        place = tuple(int(q) for q in place)
        return place, int(np.abs(array[place]).argmax()) if channel is None else int(channel)
    strength = np.abs(array if channel is None else array[..., channel : channel + 1])
    *found, best = np.unravel_index(int(np.nan_to_num(strength).argmax()), strength.shape)
    return tuple(int(q) for q in found), int(best) if channel is None else int(channel)


def _expected_place(where: str, spatial: tuple[int, ...], got: Any) -> str:
    if not spatial:
        return f"expected no position in its {where}, a vector, got {got}; the channel alone names one of its numbers"
    names = AXES.get(len(spatial), tuple(f"axis {i}" for i in range(len(spatial))))
    ranges = ", ".join(f"{name} 0 to {size - 1}" for name, size in zip(names, spatial, strict=True))
    return f"expected a position in its {where} ({ranges}), got {','.join(map(str, got))}; choose one inside"


def _weight_index(live: Live, given: Sequence[int] | None, channel: int) -> Index:
    """The index of one weight: the one asked for, else the one with the strongest gradient that meets the channel."""
    if "weight" not in live.params:
        if given is not None:
            raise ConfigError(live.name, "expected a layer with weights for the index of one, got none; leave it out")
        return ()
    shape = live.params["weight"].shape
    if given is not None:
        fits = len(given) == len(shape) and all(
            _is_int(i) and 0 <= i < size for i, size in zip(given, shape, strict=True)
        )
        if not fits:
            last = ",".join(str(size - 1) for size in shape)
            raise ConfigError(
                live.name,
                f"expected the index of a weight from {','.join('0' * len(shape))} to {last}, got "
                f"{','.join(map(str, given))}; its shape is {shape}",
            )
        return tuple(int(i) for i in given)
    if len(shape) == 1:
        return (channel,)
    strength = np.zeros(shape)
    met = _weights_of(live, channel)
    strength[met] = np.abs(live.grad_params["weight"][met]) + 1e-300
    return tuple(int(i) for i in np.unravel_index(int(strength.argmax()), shape))


def _weights_of(live: Live, channel: int) -> Any:
    """The index of all weights that an input channel is multiplied with."""
    op = live.op
    if op.kind == "dense":
        return (channel,)
    if op.kind == "convtranspose":
        return (..., channel)
    per_group = live.params["weight"].shape[-2]
    group, local = divmod(channel, per_group)
    outs = op.out_channels // op.groups
    return (..., local, slice(group * outs, (group + 1) * outs))


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
