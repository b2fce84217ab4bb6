"""The textbook in float64 with rounding put in by hand: every value and every gradient is a little off at random.

It measures what a network makes of rounding, where float32 itself may happen to be exact: sums that cancel, norms of a
map without variance.
"""

from __future__ import annotations

import numpy as np

from fovea.engines.reference import ReferenceEngine
from fovea.engines.reference.pair import Array
from fovea.engines.reference.plan import ReferencePlan
from fovea.engines.spec import PlanSpec
from fovea.graph.graph import Node, Ref
from fovea.graph.store import ParameterStore

__all__ = ["NoisyEngine"]


class NoisyEngine(ReferenceEngine):
    """``half_step``: the largest relative error of one rounding; ``seed`` draws the errors."""

    name = "noisy"
    precisions = ("fp32", "int8", "bf16")

    def __init__(self, half_step: float, seed: int) -> None:
        super().__init__(np.float64)
        self.half_step, self.seed = half_step, seed

    def plan(self, spec: PlanSpec, store: ParameterStore) -> _NoisyPlan:
        plan = _NoisyPlan(spec, store, self.dtype)
        plan.rng, plan.half_step = np.random.default_rng(self.seed), self.half_step
        return plan


class _NoisyPlan(ReferencePlan):
    rng: np.random.Generator
    half_step: float

    def _rounded(self, array: Array) -> Array:
        if array.dtype.kind != "f":
            return array
        return array * (1 + self.half_step * self.rng.uniform(-1, 1, array.shape))

    def _run(self, node: Node) -> None:
        super()._run(node)
        for index in range(node.op.num_outputs):
            ref = Ref(node.name, index)
            self.values[ref] = self._rounded(self.values[ref])

    def _run_back(self, node: Node, grad_outputs: tuple[Array, ...], gradients: dict[Ref, Array]) -> None:
        super()._run_back(node, tuple(map(self._rounded, grad_outputs)), gradients)

    def _parameter(self, path: str) -> Array:
        return self._rounded(super()._parameter(path))
