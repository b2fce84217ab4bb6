"""What becomes of each operator: one function per operator, which reads the importer's current node."""

from fovea.interop.onnx.rules import arithmetic, dense, move, resize, shape, window
from fovea.interop.onnx.rules.rule import RULES, Rule

__all__ = ["RULES", "Rule", "arithmetic", "dense", "move", "resize", "shape", "window"]
