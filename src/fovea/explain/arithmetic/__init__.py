"""The arithmetic of a layer, number by number: a value as patch times filter plus bias, a gradient as a sum of paths.

The records are plain (``to_dict()`` gives JSON) and come from the live network; every total is checked against the
engine.
"""

from __future__ import annotations

from fovea.explain.arithmetic.records import Calculation, Check, LayerArithmetic, ShapeStep, Step, Term
from fovea.explain.arithmetic.view import KINDS, layer_arithmetic

__all__ = ["KINDS", "Calculation", "Check", "LayerArithmetic", "ShapeStep", "Step", "Term", "layer_arithmetic"]
