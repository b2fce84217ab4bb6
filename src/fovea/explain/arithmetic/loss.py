"""Where the gradient starts: softmax and cross-entropy of one class (docs/losses.md).

p_c = exp(z_c) / sum over j of exp(z_j)        loss = -log p_target        dloss/dz_c = p_c - [c is the target]
"""

from __future__ import annotations

import math

import numpy as np

from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import Array, Calculation, Index, Step, Term, calculation
from fovea.explain.arithmetic.sums import grad_input, output
from fovea.ops.base import normal_axis

__all__ = ["loss_start", "softmax_backward", "softmax_forward"]


def loss_start(live: Live, label: str) -> Calculation:
    """The loss of the first sample, and the gradient at its logits, which everything else is multiplied with.

    The engine gives the mean over the samples; with several, the loss and gradients of each are divided by their
    number.
    """
    assert live.start is not None
    logits, targets, loss, grad_logits = live.start
    n, target = len(logits), int(targets[0])
    losses, shares = [], []
    for z, one in zip(logits.astype(np.float64), targets, strict=True):
        raised = np.exp(z - z.max())
        shares.append(raised / raised.sum())
        losses.append(float(np.log(raised.sum()) + z.max() - z[one]))
    p = shares[0]
    starts = tuple(
        Term(
            (c,), float(p[c]), None, 1 / n, (float(p[c]) - float(c == target)) / n, (c,),
            label="p - 1, the target" if c == target else "p",
        )
        for c in range(len(p))
    )  # fmt: skip
    off = max(abs(term.product - float(grad_logits[0, c])) for c, term in enumerate(starts))
    steps = (
        Step("z", f"logit of the target, {label}", float(logits[0, target])),
        Step("p", "exp(z_target) / sum over classes of exp(z)", float(p[target])),
        Step("loss", "-log p" if n == 1 else f"-log p, mean over {n} samples", math.fsum(losses) / n),
    )
    formula = "-log softmax(z)[target]; its gradient at the logits is p - 1 for the target and p for the others"
    size = float(np.abs(logits).max()) + abs(steps[-1].value) + 1.0
    note = f"largest difference of the gradient at the logits from the engine's: {off:.2g}"
    return calculation(
        "loss", "loss", (), formula, live.engine, loss, terms=starts, total=steps[-1].value, steps=steps,
        magnitude=size, values="probability", weights="1 / samples", notes=(note,),
    )  # fmt: skip


def softmax_forward(live: Live, at: Index, channel: int) -> Calculation:
    """A share: one exponential over the sum of all, shifted by the largest so that nothing overflows."""
    z, own = _line(live, at, channel)
    raised = np.exp(z - z.max())
    share = float(raised[own] / raised.sum())
    steps = (
        Step("largest", "the maximum of the values that share", float(z.max())),
        Step("raised", "exp(x - largest)", float(raised[own])),
        Step("sum", f"of the {len(z)} raised values", float(raised.sum())),
        Step("y", "raised / sum", share),
    )
    size = share * (1.0 + float(np.abs(z - z.max()).max()) + float(np.abs(z).max()))
    return output(
        live, (*at, channel), "exp(x) / sum of exp", steps=steps, total=share, magnitude=max(size, 1e-30), count=len(z)
    )


def softmax_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """y (delta - sum of delta y): what a share wins, all lose together."""
    axis, index = normal_axis("softmax", live.op.axis, live.node.input_shapes[0]), (*at, channel)
    y, own = _line(live, at, channel, live.output)
    delta, _ = _line(live, at, channel, live.delta)
    terms = tuple(
        Term(
            (*index[:axis], j, *index[axis + 1 :]), float(delta[j]), None, float(y[own] * ((j == own) - y[j])),
            float(delta[j] * y[own] * ((j == own) - y[j])), (j,),
        )
        for j in range(len(y))
    )  # fmt: skip
    size = float(abs(delta[own] * y[own]) + y[own] * np.abs(delta * y).sum())
    return (
        grad_input(
            live, 0, index, "sum over j of delta[j] y ([j is this one] - y[j])", terms, weights="y ([same] - y[j])",
            magnitude=size,
        ),
    )  # fmt: skip


def _line(live: Live, at: Index, channel: int, array: Array | None = None) -> tuple[Array, int]:
    """The values along the softmax's axis through one element of the first sample, and the element's place."""
    axis, index = normal_axis("softmax", live.op.axis, live.node.input_shapes[0]), (*at, channel)
    values = (live.inputs[0] if array is None else array)[0].astype(np.float64)
    return values[tuple(slice(None) if i == axis else q for i, q in enumerate(index))], index[axis]
