"""The table of this engine: kind of op -> its rule. Inputs have no arithmetic; the plan fills them in."""

from __future__ import annotations

from fovea.engines.torch.rules import activation, join, loss, mask, norm, pool, product, reshape, resize
from fovea.engines.torch.rules.rule import Rule

__all__ = ["RULES"]

RULES: dict[str, Rule] = {
    **product.RULES,
    **pool.RULES,
    **norm.RULES,
    **activation.RULES,
    **mask.RULES,
    **join.RULES,
    **reshape.RULES,
    **resize.RULES,
    **loss.RULES,
}
