"""The reference engine: plans that walk the graph node by node."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fovea.engines.base import Engine
from fovea.engines.reference.plan import ReferencePlan
from fovea.engines.spec import PlanSpec
from fovea.errors import EngineError
from fovea.graph.store import ParameterStore

__all__ = ["ReferenceEngine"]


class ReferenceEngine(Engine):
    """Computes every op with NumPy, as the textbook writes it.

    ``dtype`` float32 (default) or float64; float64 is for checking gradients by differences and for comparing engines.
    Raises EngineError for any other dtype.
    """

    name = "reference"
    precisions = ("fp32", "int8")

    def __init__(self, dtype: npt.DTypeLike = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise EngineError(self.name, f"expected dtype float32 or float64, got {self.dtype}; choose one of them")

    def plan(self, spec: PlanSpec, store: ParameterStore) -> ReferencePlan:
        """Compile a checked spec."""
        return ReferencePlan(spec, store, self.dtype)
