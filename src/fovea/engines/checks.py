"""Checks of arguments that every engine's plan makes in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.spec import PlanSpec
from fovea.errors import DataError, EngineError, ShapeError
from fovea.graph.graph import Ref
from fovea.ops import Optimizer, SoftmaxCrossEntropy

__all__ = [
    "as_many", "given_gradients", "label_limits", "labels_in_range", "loss_weights", "needs_forward", "optimizer_of",
]  # fmt: skip

Array = npt.NDArray[Any]


def needs_forward(n: int) -> None:
    """Raise EngineError when the plan has no samples of a last forward."""
    if not n:
        raise EngineError("plan", "expected forward before loss and backward; call plan.forward(inputs) first")


def optimizer_of(spec: PlanSpec) -> Optimizer:
    """The optimizer that the plan was compiled with. Raises EngineError when there is none."""
    if spec.optimizer is None:
        raise EngineError("plan", "expected a plan compiled with an optimizer; compile with optimizer=fovea.SGD(), say")
    return spec.optimizer


def loss_weights(spec: PlanSpec, weights: Sequence[float] | None) -> tuple[float, ...]:
    """The weights of the losses: those given, else those compiled. Raises EngineError without a loss, or for another
    number of weights."""
    if not spec.losses:
        raise EngineError(
            "plan", "expected a plan compiled with a loss; compile with loss=fovea.SoftmaxCrossEntropy(), say"
        )
    result = spec.loss_weights if weights is None else tuple(float(weight) for weight in weights)
    if len(result) != len(spec.losses):
        raise EngineError("plan", f"expected {len(spec.losses)} loss weights, got {len(result)}; give one per loss")
    return result


def as_many(spec: PlanSpec, targets: Sequence[Array], n: int) -> None:
    """Raise ShapeError unless there are targets for the n samples of the last forward."""
    if targets and targets[0].shape[0] != n:
        raise ShapeError(
            spec.targets[0],
            f"expected targets for the {n} samples of the last forward, got {len(targets[0])}; give as many",
        )


def label_limits(spec: PlanSpec) -> dict[int, int]:
    """Classes by the number of the target that holds integer labels."""
    limits = {}
    for node in spec.graph.nodes.values():
        if isinstance(node.op, SoftmaxCrossEntropy) and not node.op.soft_targets:
            name = node.inputs[1].node
            if name in spec.targets:
                limits[spec.targets.index(name)] = node.input_shapes[0][-1] or 0
    return limits


def labels_in_range(limits: Mapping[int, int], targets: Sequence[Array]) -> None:
    """Raise DataError for a label that names no class."""
    for index, classes in limits.items():
        largest = int(targets[index].max())
        if largest >= classes:
            raise DataError("targets", f"expected classes from 0 to {classes - 1}, got {largest}; check the labels")


def given_gradients(spec: PlanSpec, given: Sequence[Array | None], n: int) -> list[tuple[Ref, Array | None]]:
    """Every output with its grad_output. Raises ShapeError for another number of them, or other shapes."""
    if len(given) != len(spec.outputs):
        raise ShapeError(
            "plan",
            f"expected {len(spec.outputs)} grad_outputs, got {len(given)}; give one per output, None for zero",
        )
    pairs = list(zip(spec.outputs, given, strict=True))
    for ref, gradient in pairs:
        shape = (n, *spec.graph.shape(ref))
        if gradient is not None and np.shape(gradient) != shape:
            raise ShapeError(
                ref.node, f"expected grad_output {shape}, got {np.shape(gradient)}; it has the output's shape"
            )
    return pairs
