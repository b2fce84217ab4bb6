"""The native engine."""

from __future__ import annotations

from fovea.engines.base import Engine
from fovea.engines.native.executable import core
from fovea.engines.native.plan import NativePlan
from fovea.engines.native.rules import RULES
from fovea.engines.spec import PlanSpec
from fovea.errors import EngineError
from fovea.graph.store import ParameterStore

__all__ = ["NativeEngine"]


class NativeEngine(Engine):
    """Computes in C++ with the best instruction set of the CPU and ``fovea.set_threads`` threads.

    The same inputs give the same bits for any number of threads, for one version, instruction set and plan capacity.
    Raises EngineError when the compiled core is missing: build it with ``make native`` or install fovea with pip.
    """

    name = "native"
    precisions = ("fp32", "bf16", "int8")

    def plan(self, spec: PlanSpec, store: ParameterStore) -> NativePlan:
        """Compile a checked spec."""
        core()
        for node in spec.graph.nodes.values():
            if node.op.kind not in RULES and node.op.kind != "input":
                raise EngineError(
                    node.name, f"the native engine does not compute {node.op.kind}; use the reference engine"
                )
        return NativePlan(spec, store)
