"""One rule per kind of op: the instructions of its forward and backward pass."""

from fovea.engines.native.rules.activation import ACTIVATIONS
from fovea.engines.native.rules.fused import BATCHNORM
from fovea.engines.native.rules.join import JOINS
from fovea.engines.native.rules.loss import LOSSES
from fovea.engines.native.rules.norm import NORMS
from fovea.engines.native.rules.reduce import REDUCTIONS
from fovea.engines.native.rules.reshape import RESHAPES
from fovea.engines.native.rules.rule import Rule
from fovea.engines.native.rules.window import WINDOWS

__all__ = ["RULES"]

RULES: dict[str, Rule] = {**ACTIVATIONS, **WINDOWS, **NORMS, **BATCHNORM, **JOINS, **REDUCTIONS, **RESHAPES, **LOSSES}
