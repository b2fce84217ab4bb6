"""Engines with a mistake each: what ``fovea.verify`` has to find."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.engines.reference import ReferenceEngine
from fovea.engines.reference.plan import ReferencePlan
from fovea.engines.spec import PlanSpec
from fovea.graph.graph import Node, Ref
from fovea.graph.store import ParameterStore

__all__ = ["WRONG_NODE", "WrongAlone", "WrongFused", "WrongNumber"]

WRONG_NODE = "relu2"


class _WrongPlan(ReferencePlan):
    """Adds ``amount`` to the fourth element of sample 1 of one node."""

    amount = 1e-3
    only_fused = False

    def _run(self, node: Node) -> None:
        super()._run(node)
        if node.name == WRONG_NODE and not (self.only_fused and node.inputs[0].node in self.spec.keep):
            value = np.array(self.values[Ref(node.name)])
            value[1].flat[3] += self.amount
            self.values[Ref(node.name)] = value


class _FusedPlan(_WrongPlan):
    only_fused = True


class _NumberPlan(_WrongPlan):
    amount = float("nan")


class WrongAlone(ReferenceEngine):
    """Wrong whenever the node is computed."""

    name = "wrong-alone"
    plans: type[ReferencePlan] = _WrongPlan

    def plan(self, spec: PlanSpec, store: ParameterStore) -> Any:
        return self.plans(spec, store, np.dtype(np.float32))


class WrongFused(WrongAlone):
    """Wrong only where nobody keeps what the node reads: as if both were fused by a mistaken kernel."""

    name = "wrong-fused"
    plans = _FusedPlan


class WrongNumber(WrongAlone):
    """Gives what is not a number."""

    name = "wrong-number"
    plans = _NumberPlan
