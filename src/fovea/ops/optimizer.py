"""Optimisers as declarations, like ops: the engines hold the arithmetic. ``lr`` is given at each update."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fovea.errors import ConfigError, OpError
from fovea.ops.base import number, python_numbers

__all__ = ["OPTIMIZERS", "SGD", "AdamW", "Optimizer", "ema_share", "optimizer_from_dict"]

OPTIMIZERS: dict[str, type[Optimizer]] = {}


@dataclass(frozen=True)
class Optimizer:
    """What every optimiser shares, in the order in which an update applies it.

    1. ``clip_norm``: gradients are scaled by ``min(1, clip_norm / norm)``, norm = the Euclidean norm of all of them.
    2. the rule of the subclass, with ``weight_decay`` only on parameters whose spec says ``decay`` (weights, not
    biases or norms).
    3. ``ema_decay``: ``ema = d ema + (1 - d) parameter`` with ``d = min(ema_decay, (1 + t) / (10 + t))`` at update
    t = 1, 2, ...

    ``lr_scales``: pairs (path prefix, factor): a parameter's lr is multiplied by the factor of its longest matching
    prefix.
    """

    kind: ClassVar[str] = ""
    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the state arrays, each of the parameter's shape."""

    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    lr_scales: tuple[tuple[str, float], ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = cls.__name__.lower()
        OPTIMIZERS[cls.kind] = cls

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, python_numbers(getattr(self, field.name)))
        number(self.kind, "weight_decay", self.weight_decay, 0.0, 1e6)
        if self.clip_norm is not None:
            number(self.kind, "clip_norm", self.clip_norm, 1e-12, 1e12)
        if self.ema_decay is not None:
            number(self.kind, "ema_decay", self.ema_decay, 0.0, 1.0)
        try:
            scales = tuple((str(prefix), float(scale)) for prefix, scale in self.lr_scales)
        except (TypeError, ValueError):
            raise OpError(
                self.kind,
                f"expected lr_scales as pairs (path prefix, factor), got {self.lr_scales!r}; give for example "
                '(("head", 10.0),)',
            ) from None
        object.__setattr__(self, "lr_scales", scales)

    def lr_scale(self, path: str) -> float:
        """The factor on lr for one parameter path."""
        matches = [
            (len(prefix), scale)
            for prefix, scale in self.lr_scales
            if path == prefix or path.startswith(prefix + ".") or not prefix
        ]
        return max(matches)[1] if matches else 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields with the kind."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


def ema_share(ema_decay: float, t: int) -> float:
    """What an average keeps of itself at update t = 1, 2, ...: ``min(ema_decay, (1 + t) / (10 + t))``."""
    return min(ema_decay, (1 + t) / (10 + t))


def optimizer_from_dict(fields: Mapping[str, Any]) -> Optimizer:
    """The optimiser that ``to_dict`` described."""
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in OPTIMIZERS:
        raise ConfigError("optimizer", f"expected one of {', '.join(OPTIMIZERS)}, got {kind!r}; choose one of them")
    try:
        return OPTIMIZERS[kind](**{name: value for name, value in fields.items() if name != "kind"})
    except (TypeError, ValueError, OpError) as error:
        raise ConfigError("optimizer", f"expected valid fields of {kind}, got: {error}; see its docstring") from None


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: with ``g = grad + weight_decay * p`` and ``v = momentum * v + g`` (v = g at the
    first step)

        p = p - lr * v                   nesterov:  p = p - lr * (g + momentum * v)

    L2 goes into the gradient, as in PyTorch. Source: Sutskever et al. 2013, equations 3 and 4, in PyTorch's form.
    """

    slots = ("momentum",)
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.kind, "momentum", self.momentum, 0.0, 1.0)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled decay: ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``, and at update number t = 1,
    2, ...

        p = p - lr * weight_decay * p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2.
    """

    slots = ("exp_avg", "exp_avg_sq")
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.kind, "beta1", self.beta1, 0.0, 0.9999999)
        number(self.kind, "beta2", self.beta2, 0.0, 0.9999999)
        number(self.kind, "eps", self.eps, 0.0, 1.0)
