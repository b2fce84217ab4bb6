"""Losses: values and targets -> one number for the whole batch, in float32 whatever the network computes in."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from fovea.engines.torch.rules.rule import Fixed, Layer, Mode, Rule, Run
from fovea.graph.graph import Node

__all__ = ["RULES"]

_IGNORED = -100
_EMPTY = 1e-12
"""Areas below this count as this: two empty boxes do not divide by 0."""


def softmaxcrossentropy(node: Node, mode: Mode) -> Run:
    """Logits N,*spatial,C; targets N,*spatial (integers) or N,*spatial,C -> a scalar; 0 when no target counts."""
    op: Any = node.op
    classes = node.input_shapes[0][-1] or 0
    weights = Fixed(op.class_weights or (1.0,) * classes)
    run = _soft if op.soft_targets else _hard
    return lambda layer, logits, targets: run(op, weights, logits.float(), targets)


def _hard(op: Any, fixed: Fixed, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """``sum_i -w log p / sum_i w``: PyTorch's sum, divided by the weights that count."""
    flat, labels = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    counted = labels >= 0
    weights = None if op.class_weights is None else fixed.like(logits)
    total = F.cross_entropy(
        flat, labels.where(counted, _IGNORED), weights, ignore_index=_IGNORED, reduction="sum",
        label_smoothing=op.label_smoothing,
    )  # fmt: skip
    w = counted.to(logits.dtype) if weights is None else weights[labels.clamp_min(0)] * counted
    return _divided(total, w.sum())


def _soft(op: Any, fixed: Fixed, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """``-sum_i sum_c a_c t_ic log p_ic / sum_i w_i`` with smoothed t and w of t before it."""
    weights = fixed.like(logits)
    smooth = (1 - op.label_smoothing) * targets + op.label_smoothing / logits.shape[-1]
    total = -(weights * smooth * F.log_softmax(logits, -1)).sum()
    if op.class_weights is None:
        return total / targets[..., 0].numel()
    return _divided(total, (targets * weights).sum())


def _divided(total: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """total / weight, and 0 where nothing counts: its gradient, too."""
    return total / weight.where(weight != 0, 1) * (weight != 0)


def focalloss(node: Node, mode: Mode) -> Run:
    """Logits and targets of one shape -> the sum over all elements / N."""
    op: Any = node.op

    def run(layer: Layer, values: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = values.float()
        miss = t * torch.sigmoid(-x) + (1 - t) * torch.sigmoid(x)  # 1 - p_t, and neither cancels
        # u^(gamma - 1) is infinite at u = 0 for gamma < 1; there the cross-entropy is 0 as well
        power = miss.clamp_min(torch.finfo(x.dtype).tiny) ** op.gamma
        balance = t * op.alpha + (1 - t) * (1 - op.alpha) if op.alpha >= 0 else 1.0
        return (balance * power * F.binary_cross_entropy_with_logits(x, t, reduction="none")).sum() / x.shape[0]

    return run


def qualityfocalloss(node: Node, mode: Mode) -> Run:
    """Logits and targets of one shape -> the sum over all elements / N."""
    op: Any = node.op

    def run(layer: Layer, values: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = values.float()
        miss = (t - torch.sigmoid(x)).abs() ** op.beta
        return (miss * F.binary_cross_entropy_with_logits(x, t, reduction="none")).sum() / x.shape[0]

    return run


def iouloss(node: Node, mode: Mode) -> Run:
    """Distances N,*spatial,4 and targets N,*spatial,5 -> the weighted sum over all points / N."""
    op: Any = node.op

    def run(layer: Layer, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        similarity = _overlap(op.variant, values.float(), targets[..., :4])
        return (targets[..., 4] * (1 - similarity)).sum() / values.shape[0]

    return run


def _overlap(variant: str, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """How alike boxes are, given as left, top, right, bottom (..., 4)."""
    low, high = torch.minimum(p, q), torch.maximum(p, q)
    sides, truth = p[..., :2] + p[..., 2:], q[..., :2] + q[..., 2:]
    inner, outer = low[..., :2] + low[..., 2:], high[..., :2] + high[..., 2:]
    common = inner.prod(-1)
    union = (sides.prod(-1) + truth.prod(-1) - common).clamp_min(_EMPTY)
    value = common / union
    if variant == "giou":
        return value + union / outer.prod(-1).clamp_min(_EMPTY) - 1
    if variant == "diou":
        apart = (p[..., 2:] - p[..., :2] - q[..., 2:] + q[..., :2]) / 2
        return value - apart.square().sum(-1) / outer.square().sum(-1).clamp_min(_EMPTY)
    return value


def binarycrossentropy(node: Node, mode: Mode) -> Run:
    """Logits and targets of one shape -> the mean over all elements."""
    return lambda layer, x, t: F.binary_cross_entropy_with_logits(x.float(), t)


def meansquarederror(node: Node, mode: Mode) -> Run:
    """Values and targets of one shape -> the mean over all elements."""
    return lambda layer, x, t: F.mse_loss(x.float(), t)


def smoothl1(node: Node, mode: Mode) -> Run:
    """Values and targets of one shape -> the mean over all elements."""
    op: Any = node.op
    return lambda layer, x, t: F.smooth_l1_loss(x.float(), t, beta=op.beta)


RULES: dict[str, Rule] = {
    "softmaxcrossentropy": softmaxcrossentropy,
    "binarycrossentropy": binarycrossentropy,
    "focalloss": focalloss,
    "qualityfocalloss": qualityfocalloss,
    "iouloss": iouloss,
    "meansquarederror": meansquarederror,
    "smoothl1": smoothl1,
}
