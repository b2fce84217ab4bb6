"""How far the attributions of a tour can be trusted, in numbers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fovea.explain.trusting import LIMIT, TrustReport, trusts
from fovea.report.page import short, table, text
from fovea.report.tour.visit import Visit
from fovea.report.trust import LOCATED, located_words

__all__ = ["numbers_of_trust"]

_DEPTHS, _STEPS, _SAMPLES = 4, 16, 4
"""Fewer than ``trust`` takes by itself: enough to tell a map that follows the weights from one that does not."""
_TIMES = 5
"""What the numbers of a picture cost, as a multiple of its attributions: nine maps a method, some of them coarser."""


def numbers_of_trust(visit: Visit, methods: Sequence[str]) -> list[str]:
    """A table for each picture, as HTML; an empty text where time did not allow one."""
    explained = sum(took for what, took in visit.spent.items() if what.startswith("attribution by"))
    tables, each = [], max(0.05 * visit.seconds, _TIMES * explained / len(visit.explained))
    for given, name in ((visit.given[row], visit.names[row]) for row in visit.explained):

        def measure(given: object = given) -> list[TrustReport]:
            return trusts(
                visit.model, given, methods, engine=visit.engine, depths=_DEPTHS, steps=_STEPS, samples=_SAMPLES,
                seed=visit.seed,
            )  # fmt: skip

        begun = time.monotonic()
        found = visit.attempt(f"trust numbers for {name}", measure, each)
        each = max(each, time.monotonic() - begun) if found is not None else each
        tables.append("" if found is None else _table(found))
    return tables


def _table(found: Sequence[TrustReport]) -> str:
    """Methods first, then the maps that know nothing, to compare with."""
    rows = [(one.method, "yes" if one.follows else "no") for one in found] + [(one, "") for one in found[0].baselines]
    head = ["map", "keeps", "follows the weights", "insertion", "deletion", "max-sensitivity"]
    located = found[0].method.localisation is not None
    cells = [
        (one.title, short(round(one.kept, 2)), follows, short(round(one.causal.insertion_auc, 3)),
         short(round(one.causal.deletion_auc, 3)), short(round(one.max_sensitivity, 2)), *located_words(one))
        for one, follows in rows
    ]  # fmt: skip
    shown = table(head + (LOCATED if located else []), cells)
    return f"<details><summary>how far to trust them</summary>{shown}{_note(located)}</details>"


def _note(located: bool) -> str:
    note = f"""keeps: the rank correlation with itself that a map keeps while the weights become random from the top
        down; below {LIMIT:g} it follows the weights. insertion, deletion: mean probability of the class while pixels
        are put in, or taken out, the most important first (high, and low, is good). max-sensitivity: how far the map
        moves when the picture hardly does."""
    if located:
        note += """ pointing: whether the highest point lies in the box. mass and rank inside: how much of the map
            lies there, and how many of its highest points."""
    return f"<p>{text(f'{note} Below the methods stand maps that know nothing of the network.')}</p>"
