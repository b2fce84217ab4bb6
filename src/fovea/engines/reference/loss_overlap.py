"""The loss of boxes: how much the found and the true one overlap; backward scales its gradient by grad_output."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.engines.reference.pair import Array, Arrays, BackwardResult, ForwardResult, Key, Needs, Params
from fovea.ops.loss import IoULoss

__all__ = ["iouloss_backward", "iouloss_forward"]

LEAST = 1e-12
"""Areas below this count as this: two empty boxes do not divide by 0."""


# loss = 1/N sum_i w_i (1 - s_i),   s = I/U [giou: - (C - U)/C = + U/C - 1] [diou: - d^2/c^2]
# with  I = (min(l, l') + min(r, r')) (min(t, t') + min(b, b')),   U = A + A' - I,   C the same with max,
#       d = half of (r - l - r' + l', b - t - b' + t'),   c the diagonal of C
def iouloss_forward(
    op: IoULoss, inputs: Arrays, params: Params, buffers: Params, *, training: bool, key: Key
) -> ForwardResult:
    """Distances N,*spatial,4 and targets N,*spatial,5 -> the weighted sum over all points / N."""
    found, (truth, weight) = inputs[0], _parts(inputs[1])
    similarity, _ = overlap(op.variant, found, truth)
    return (np.asarray((weight * (1 - similarity)).sum() / len(found)),), inputs, {}


# dloss/dfound = -w ds/dfound / N;   ds/dtruth has the same form with the two exchanged;   dloss/dw = (1 - s) / N
def iouloss_backward(
    op: IoULoss, grad_outputs: Arrays, saved: Arrays, params: Params, *, needs: Needs
) -> BackwardResult:
    """Gradients of the distances and of the targets with their weights."""
    found, (truth, weight) = saved[0], _parts(saved[1])
    scale = grad_outputs[0] / len(found)
    similarity, slope = overlap(op.variant, found, truth)
    grad_targets = None
    if needs.inputs[1]:
        by_truth = -weight[..., None] * overlap(op.variant, truth, found)[1]
        grad_targets = scale * np.concatenate([by_truth, (1 - similarity)[..., None]], axis=-1)
    return (-scale * weight[..., None] * slope if needs.inputs[0] else None, grad_targets), {}


def _parts(targets: Array) -> tuple[Array, Array]:
    return targets[..., :4], targets[..., 4]


def overlap(variant: str, p: Array, q: Array) -> tuple[Array, Array]:
    """How alike boxes are, given as left, top, right, bottom (..., 4), and its derivative by those of ``p``."""
    width, height = p[..., 0] + p[..., 2], p[..., 1] + p[..., 3]
    low, high = np.minimum(p, q), np.maximum(p, q)
    inner = np.stack([low[..., 0] + low[..., 2], low[..., 1] + low[..., 3]], axis=-1)  # ...,2
    outer = np.stack([high[..., 0] + high[..., 2], high[..., 1] + high[..., 3]], axis=-1)
    common = inner.prod(-1)
    union = np.maximum(width * height + (q[..., 0] + q[..., 2]) * (q[..., 1] + q[..., 3]) - common, LEAST)
    d_area = np.stack([height, width, height, width], axis=-1)  # ...,4
    d_common = np.where(p < q, inner[..., [1, 0, 1, 0]], 0)
    d_union = d_area - d_common
    value = common / union
    slope = (d_common - value[..., None] * d_union) / union[..., None]
    if variant == "giou":
        around = np.maximum(outer.prod(-1), LEAST)
        d_around = np.where(p > q, outer[..., [1, 0, 1, 0]], 0)
        share = union / around
        return value + share - 1, slope + (d_union - share[..., None] * d_around) / around[..., None]
    if variant == "diou":
        diagonal = np.maximum(np.square(outer).sum(-1), LEAST)
        apart = np.stack([_shift(p, 0) - _shift(q, 0), _shift(p, 1) - _shift(q, 1)], axis=-1) / 2
        share = np.square(apart).sum(-1) / diagonal
        d_apart = np.concatenate([-apart, apart], axis=-1)  # of d^2, by left, top, right, bottom
        d_diagonal = np.where(p > q, 2 * outer[..., [0, 1, 0, 1]], 0)
        return value - share, slope - (d_apart - share[..., None] * d_diagonal) / diagonal[..., None]
    return value, slope


def _shift(box: Array, axis: int) -> Any:
    return box[..., axis + 2] - box[..., axis]
