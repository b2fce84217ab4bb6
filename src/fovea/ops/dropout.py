"""Ops that behave differently in training or only touch the gradient, and LayerScale."""

from __future__ import annotations

from dataclasses import dataclass

from fovea.errors import ShapeError
from fovea.ops.base import Op, ParamSpec, Shape, number

__all__ = ["Dropout", "LayerScale", "StochasticDepth", "StopGradient"]


@dataclass(frozen=True)
class Dropout(Op):
    """Training: each element is zeroed with probability ``rate``, the others divided by ``1 - rate``; inference:
    identity.

    Element e of sample n keeps its value when ``bits(key, ...)[n * size + e] >= rate * 2**32``: the mask is a
    function of
    the key and the position. Source: Srivastava et al. 2014 (inverted form).
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        number(self.kind, "rate", self.rate, 0.0, 0.999999)

    @property
    def has_randomness(self) -> bool:
        return self.rate > 0


@dataclass(frozen=True)
class StochasticDepth(Op):
    """Training: each whole SAMPLE is zeroed with probability ``rate``, the others divided by ``1 - rate``; inference:
    identity.

    Place it on the residual branch. Source: Huang et al. 2016 (per sample, inverted form).
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        number(self.kind, "rate", self.rate, 0.0, 0.999999)

    @property
    def has_randomness(self) -> bool:
        return self.rate > 0


@dataclass(frozen=True)
class LayerScale(Op):
    """``y = x * weight`` with one learned factor per channel, starting at ``init_value``; weight: C.

    Source: Touvron et al. 2021, "Going deeper with image transformers", section 2.
    """

    init_value: float = 1e-6

    def __post_init__(self) -> None:
        number(self.kind, "init_value", self.init_value, -1e6, 1e6)

    def parameters(self, *inputs: Shape) -> dict[str, ParamSpec]:
        if not inputs[0] or inputs[0][-1] is None:
            raise ShapeError(
                self.kind, f"expected known channels, got {('N', *inputs[0])}; put it behind a layer with channels"
            )
        return {"weight": ParamSpec((inputs[0][-1],), "value", decay=False, value=self.init_value)}


@dataclass(frozen=True)
class StopGradient(Op):
    """Identity forward, zero gradient backward."""
