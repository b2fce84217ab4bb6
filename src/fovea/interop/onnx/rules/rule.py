"""The table of rules."""

from __future__ import annotations

from collections.abc import Callable

from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.values import Traced

__all__ = ["RULES", "Rule", "rule"]

Rule = Callable[[Importer], list[Traced]]

RULES: dict[str, Rule] = {}
"""Operator -> rule."""


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Decorator: the function imports these operators."""

    def made(function: Rule) -> Rule:
        for operator in operators:
            RULES[operator] = function
        return function

    return made
