"""Losses: logits or values and targets -> one number, the MEAN over the batch (and positions)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fovea.errors import OpError, ShapeError
from fovea.ops.base import Op, Shape, choice, is_number, number

__all__ = [
    "BinaryCrossEntropy", "FocalLoss", "IoULoss", "MeanSquaredError", "QualityFocalLoss", "SmoothL1",
    "SoftmaxCrossEntropy",
]  # fmt: skip

VARIANTS = ("iou", "giou", "diou")
"""Of IoULoss."""


@dataclass(frozen=True)
class _Loss(Op):
    arity = 2
    is_loss = True

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        values, targets = inputs
        if values != targets:
            raise ShapeError(
                self.kind,
                f"expected targets of the values' shape {('N', *values)}, got {('N', *targets)}; reshape the targets",
            )
        return ((),)

    def target_shape(self, values: Shape) -> Shape:
        """The shape of one sample's target."""
        return values


@dataclass(frozen=True)
class SoftmaxCrossEntropy(_Loss):
    """Cross-entropy of softmax(logits): logits N,*spatial,C; targets integers N,*spatial or probabilities N,*spatial,C.

    ``loss = -sum_i sum_c a_c t_ic log softmax(logits_i)_c / sum_i w_i`` with t one-hot for integers, smoothed to
    ``(1 - label_smoothing) t + label_smoothing / C`` (Szegedy et al. 2016, section 7), and a the ``class_weights`` (C
    numbers), 1 when there are none. ``w_i`` is the class weight of the integer target, or ``sum_c a_c t_ic`` of the
    probabilities before smoothing (PyTorch's rule, but that PyTorch divides by N for probabilities); without
    class_weights ``w_i = 1``. A negative integer target is ignored; when no target counts, loss and gradient are 0.
    """

    label_smoothing: float = 0.0
    class_weights: Any = None
    soft_targets: bool = False

    def __post_init__(self) -> None:
        number(self.kind, "label_smoothing", self.label_smoothing, 0.0, 0.999999)
        weights = self.class_weights.tolist() if isinstance(self.class_weights, np.ndarray) else self.class_weights
        if weights is not None:
            if (
                not isinstance(weights, (tuple, list))
                or not all(is_number(w) and w >= 0 for w in weights)
                or sum(weights) <= 0
            ):
                raise OpError(
                    self.kind,
                    f"expected class_weights as numbers of at least 0, one per class, got {weights!r}; give a tuple",
                )
            object.__setattr__(self, "class_weights", tuple(float(w) for w in weights))

    def target_shape(self, values: Shape) -> Shape:
        return values if self.soft_targets else values[:-1]

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        logits, targets = inputs
        if not logits or logits[-1] is None:
            raise ShapeError(
                self.kind,
                f"expected logits N,*spatial,C, got {('N', *logits)}; end the network with Dense(num_classes)",
            )
        if targets != self.target_shape(logits):
            raise ShapeError(
                self.kind,
                f"expected targets {('N', *self.target_shape(logits))} for logits {('N', *logits)}, got "
                f"{('N', *targets)}; soft_targets={self.soft_targets}",
            )
        if self.class_weights is not None and len(self.class_weights) != logits[-1]:
            raise ShapeError(
                self.kind, f"expected {logits[-1]} class_weights, got {len(self.class_weights)}; give one per class"
            )
        return ((),)


@dataclass(frozen=True)
class BinaryCrossEntropy(_Loss):
    """Mean of ``-t log s(x) - (1 - t) log(1 - s(x))`` with s the sigmoid, computed stably from logits; targets in [0,
    1]."""


@dataclass(frozen=True)
class FocalLoss(_Loss):
    """Binary focal loss from logits, SUM over elements / N: ``alpha_t (1 - p_t)^gamma * cross_entropy``; targets in
    [0, 1].

    ``p_t = t p + (1 - t)(1 - p)``, ``alpha_t = t alpha + (1 - t)(1 - alpha)``; alpha < 0 leaves the balance out.
    Source: Lin et al. 2017, "Focal loss for dense object detection", equation 5.
    """

    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        number(self.kind, "gamma", self.gamma, 0.0, 100.0)
        number(self.kind, "alpha", self.alpha, -1.0, 1.0)


@dataclass(frozen=True)
class QualityFocalLoss(_Loss):
    """Focal loss of qualities, from logits, SUM over elements / N: ``|t - s(x)|^beta * cross_entropy``; targets in [0,
    1].

    The target is how good what is found there is (a box's overlap with the truth), not only whether something is; an
    element that says just that costs nothing. Source: Li et al. 2020, "Generalized focal loss", equation 6.
    """

    beta: float = 2.0

    def __post_init__(self) -> None:
        number(self.kind, "beta", self.beta, 1.0, 100.0)


@dataclass(frozen=True)
class IoULoss(_Loss):
    """Overlap of boxes around common points: distances N,*spatial,4 and targets N,*spatial,5, SUM over points / N.

    Distances, at least 0, lead from the point to the left, top, right and bottom side; the target holds those of the
    true box and the weight w of the point, 0 where there is none. With I, U the areas of intersection and union, C that
    of the smallest box around both, d the distance of the centres and c the diagonal of that smallest box,

    ``variant="giou"``: ``w (1 - I/U + (C - U)/C)`` (Rezatofighi et al. 2019, algorithm 1);
    ``variant="diou"``: ``w (1 - I/U + d^2/c^2)`` (Zheng et al. 2020, equation 7); ``"iou"``: ``w (1 - I/U)``.
    """

    variant: str = "giou"

    def __post_init__(self) -> None:
        choice(self.kind, "variant", self.variant, VARIANTS)

    def target_shape(self, values: Shape) -> Shape:
        return (*values[:-1], 5)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        values, targets = inputs
        if not values or values[-1] != 4 or targets != self.target_shape(values):
            raise ShapeError(
                self.kind,
                f"expected distances N,*spatial,4 and targets N,*spatial,5, got {('N', *values)} and "
                f"{('N', *targets)}; give left, top, right, bottom, and a weight behind those of the target",
            )
        return ((),)


@dataclass(frozen=True)
class MeanSquaredError(_Loss):
    """Mean over all elements of ``(x - t)^2``."""


@dataclass(frozen=True)
class SmoothL1(_Loss):
    """Mean over all elements of ``d^2 / (2 beta)`` where ``d = |x - t| < beta``, else ``d - beta / 2`` (Girshick
    2015)."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        number(self.kind, "beta", self.beta, 1e-12, 1e12)
