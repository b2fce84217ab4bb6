"""Normalisation layers. All compute ``(x - mean) / sqrt(var + eps) * weight + bias``; they differ in what mean and
var run over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fovea.errors import OpError, ShapeError
from fovea.ops.base import Op, ParamSpec, Shape, choice, is_number, number, positive_int
from fovea.ops.conv import divisors

__all__ = ["LRN", "BatchNorm", "GroupNorm", "LayerNorm", "Normalize"]


def _channels(op: str, shape: Shape) -> int:
    if not shape or shape[-1] is None:
        raise ShapeError(
            op,
            f"expected input N,*spatial,C with known channels, got {('N', *shape)}; put it behind a layer with "
            "channels",
        )
    return shape[-1]


def _affine(channels: int) -> dict[str, ParamSpec]:
    return {
        "weight": ParamSpec((channels,), "ones", decay=False),
        "bias": ParamSpec((channels,), "zeros", decay=False),
    }


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch normalisation over N and all positions, per channel: N,*spatial,C -> the same; weight, bias: C.

    Training normalises with the batch's mean and biased variance and renews the buffers
    ``running = (1 - momentum) running + momentum batch`` (momentum is the weight of the NEW statistics; running_var
    takes
    the unbiased variance); inference normalises with running_mean and running_var.
    Source: Ioffe and Szegedy 2015, "Batch normalization", algorithms 1 and 2.
    """

    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        number(self.kind, "eps", self.eps, 0.0, 1.0)
        number(self.kind, "momentum", self.momentum, 0.0, 1.0)

    def parameters(self, *inputs: Shape) -> dict[str, ParamSpec]:
        return _affine(_channels(self.kind, inputs[0]))

    def buffers(self, *inputs: Shape) -> dict[str, ParamSpec]:
        channels = _channels(self.kind, inputs[0])
        return {"running_mean": ParamSpec((channels,), "zeros"), "running_var": ParamSpec((channels,), "ones")}


@dataclass(frozen=True)
class LayerNorm(Op):
    """Layer normalisation over the channels of each position: N,*spatial,C -> the same; weight, bias: C.

    Source: Ba et al. 2016, "Layer normalization", section 3; over channels alone as in ConvNeXt (Liu et al. 2022, 2.6).
    """

    eps: float = 1e-5

    def __post_init__(self) -> None:
        number(self.kind, "eps", self.eps, 0.0, 1.0)

    def parameters(self, *inputs: Shape) -> dict[str, ParamSpec]:
        return _affine(_channels(self.kind, inputs[0]))


@dataclass(frozen=True)
class GroupNorm(Op):
    """Normalisation over all positions and the channels of each group, per sample: N,*spatial,C -> the same; weight,
    bias: C.

    ``groups=C`` is instance normalisation, ``groups=1`` normalises the whole sample.
    Source: Wu and He 2018, "Group normalization", equation 7.
    """

    groups: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        positive_int(self.kind, "groups", self.groups)
        number(self.kind, "eps", self.eps, 0.0, 1.0)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        channels = _channels(self.kind, inputs[0])
        if channels % self.groups:
            raise ShapeError(
                self.kind,
                f"in_channels={channels} is not divisible by groups={self.groups}; choose groups from "
                f"{divisors(channels)}",
            )
        return (inputs[0],)

    def parameters(self, *inputs: Shape) -> dict[str, ParamSpec]:
        return _affine(_channels(self.kind, inputs[0]))


@dataclass(frozen=True)
class LRN(Op):
    """Local response normalisation across channels: ``y_c = x_c / (k + alpha / size * sum_{c'} x_{c'}^2)^beta``.

    The sum runs over the ``size`` channels ``c - (size-1)//2 .. c + size//2`` that exist (alpha is divided by size,
    as in
    PyTorch, ONNX and Caffe). N,*spatial,C -> the same. Source: Krizhevsky et al. 2012, section 3.3.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        positive_int(self.kind, "size", self.size)
        number(self.kind, "alpha", self.alpha, 0.0, 1e6)
        number(self.kind, "beta", self.beta, 0.0, 1e3)
        number(self.kind, "k", self.k, 1e-12, 1e6)


@dataclass(frozen=True)
class Normalize(Op):
    """The pixel half of preprocessing: N,*spatial,C (uint8 or float32) -> float32 ``(x * scale - mean) / std``.

    ``mean`` and ``std`` have one entry, or one per channel in the order the NETWORK sees; ``order="bgr"`` reverses the
    channels of the RGB input first.
    """

    mean: Any = (0.0,)
    std: Any = (1.0,)
    scale: float = 1.0
    order: str = "rgb"

    def __post_init__(self) -> None:
        for field in ("mean", "std"):
            value = getattr(self, field)
            items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
            if (
                not items
                or not all(is_number(item) for item in items)
                or (field == "std" and not all(item > 0 for item in items))
            ):
                raise OpError(
                    self.kind,
                    f"expected {field} as positive numbers, one or one per channel, got {value!r}; give for "
                    "example (0.5,)",
                )
            object.__setattr__(self, field, tuple(float(item) for item in items))
        number(self.kind, "scale", self.scale, 0.0, 1e6)
        choice(self.kind, "order", self.order, ("rgb", "bgr"))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        channels = _channels(self.kind, inputs[0])
        for field in ("mean", "std"):
            if len(getattr(self, field)) not in (1, channels):
                raise ShapeError(
                    self.kind,
                    f"expected {field} with 1 or {channels} entries, got {len(getattr(self, field))}; give one "
                    "per channel",
                )
        return (inputs[0],)
