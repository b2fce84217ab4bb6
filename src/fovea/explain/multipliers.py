"""Walking a gated network: a forward pass of the true one, its gates, and one backward pass to the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.gated import Gates
from fovea.explain.gradients import PLAIN, Variant, capacity_of, forward_of, gradients
from fovea.explain.question import Question
from fovea.graph.store import ParameterStore

__all__ = ["Multipliers", "multipliers"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Multipliers:
    """``values``: of each pixel and channel, N,*spatial,C. ``scores``: N. ``grown``: by how much the score's tangent
    rose from the baseline, N (0 without one)."""

    values: Array
    scores: Array
    grown: Array


def multipliers(
    question: Question,
    gates: Gates,
    key: tuple[Any, ...],
    start: Array | None = None,
    *,
    network: Variant = PLAIN,
    numbers: ParameterStore | None = None,
) -> Multipliers:
    """The gradients of a question's scores in the gated network, batch by batch.

    ``start``: baselines N,*spatial,C, of methods that compare with them. ``network``: what the gates are computed from,
    where that is not the model as it is; ``numbers``: of the gated network, where they are not the model's. Plans are
    kept under ``key``.
    """
    x, node, model = question.x, question.scores[0].node, question.model
    result = Multipliers(np.empty_like(x), np.empty(len(x)), np.zeros(len(x)))
    room = capacity_of(model, x.shape[1:], len(x))
    gated = Variant(key, lambda _: (gates.graph, numbers))
    for first in range(0, len(x), room):
        piece = slice(first, first + room)
        n = len(x[piece])
        both = x[piece] if start is None else np.concatenate([x[piece], start[piece]])
        outputs, kept = forward_of(model, both, node, gates.keep, engine=question.engine, variant=network, room=room)
        seen, based = ({name: part[rows] for name, part in kept.items()} for rows in (slice(n), slice(n, None)))
        given = {name: compute(seen, based) for name, compute in gates.compute.items()}
        scores = question.scores[piece]
        found = gradients(
            model, np.zeros_like(x[piece]), scores, engine=question.engine, gates=given, outputs=outputs[:n],
            variant=gated, room=room,
        )  # fmt: skip
        result.values[piece], result.scores[piece] = found.wrt[question.graph.inputs[0]], found.scores
        for i, score in enumerate(scores if start is not None else ()):
            slope = score.scalars(outputs[i : i + 1])[1][0]
            result.grown[first + i] = float((slope * (outputs[i] - outputs[n + i])).sum())
    return result
