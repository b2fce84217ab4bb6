"""The table of rules."""

from __future__ import annotations

from collections.abc import Callable

from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.values import Traced
from fovea.interop.writing import rules_into

__all__ = ["RULES", "Rule", "rule"]

Rule = Callable[[Importer], list[Traced]]

RULES: dict[str, Rule] = {}
"""Operator -> rule."""


rule = rules_into(RULES)
