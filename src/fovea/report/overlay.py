"""What every picture of a map shares: its colours, the map over what the network saw, and its words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.base import Attribution

__all__ = ["WARNING", "bar_label", "colours_of", "notes_below", "over", "scale", "short", "title_of", "words_of"]

Array = npt.NDArray[Any]
_DIVERGING, _SEQUENTIAL = "RdBu_r", "inferno"  # both even to the eye; red for, blue against
_SHARE = 99.5  # per cent of the pixels that lie within the colours: one outlier must not darken all others
_NEAR_ZERO = 0.25
WARNING = "fails the randomisation test: shows edges, not reasons"
"""What the picture of a method says that hardly changes when the weights are replaced by random ones."""


def scale(values: Array, signed: bool) -> tuple[float, float]:
    """The ends of the colours: symmetric about 0 for signed maps, else from 0, or from the lowest value where all are
    far from it (RISE, whose values are mean scores)."""
    if signed:
        high = float(np.percentile(np.abs(values), _SHARE)) or float(np.abs(values).max()) or 1.0
        return -high, high
    low, high = (float(np.percentile(values, share)) for share in (100 - _SHARE, _SHARE))
    if low < _NEAR_ZERO * high:
        low = min(0.0, float(values.min()))
    high = high if high > low else float(values.max())
    return low, high if high > low else low + 1.0


def colours_of(signed: bool) -> str:
    """The name of the colour map."""
    return _DIVERGING if signed else _SEQUENTIAL


def over(axes: Any, grey: Array, values: Array, limits: tuple[float, float], signed: bool) -> Any:
    """The map over a pale picture H,W of 0 to 255: where it is near zero the picture shines through, else the colour
    covers it. Returns what a colour bar is made of."""
    from matplotlib.cm import ScalarMappable

    low, high = limits
    axes.imshow(150 + grey * (105 / 255), cmap="gray", vmin=0, vmax=255)
    strength = np.clip((np.abs(values) - max(low, 0.0)) / (high - max(low, 0.0)), 0, 1)
    drawn = axes.imshow(values, cmap=colours_of(signed), vmin=low, vmax=high, alpha=0.35 + 0.55 * np.sqrt(strength))
    axes.set(xticks=[], yticks=[])
    return ScalarMappable(drawn.norm, colours_of(signed))  # the bar shows the colours as they are, not as they cover


def bar_label(found: Attribution) -> str:
    """What the colour bar counts."""
    return "for (+) and against (-)" if found.facts.signed else "how much"


def title_of(found: Attribution) -> str:
    """Method, layer, target and score."""
    where = f" at {found.layer}" if found.layer else ""
    return f"{found.facts.title}{where}\n{short(found.name, 44)}: {found.score:.4g}"


def words_of(found: Attribution) -> str:
    """Method and layer, of one map among several, and whether it shows edges."""
    warned = found.facts.fails_randomisation
    return found.facts.title + (f", {found.layer}" if found.layer else "") + ("\n" + WARNING if warned else "")


def notes_below(figure: Any, found: Attribution) -> None:
    """What a reader should know, below the picture; red where the method shows edges."""
    warned = found.facts.fails_randomisation
    lines: Sequence[str] = [WARNING, *found.notes] if warned else found.notes
    if lines:
        wrapped = [part for line in lines for part in textwrap.wrap(line, 110)]
        figure.supxlabel("\n".join(wrapped), fontsize=8, color="#b00020" if warned else "#444444")


def short(text: str, most: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
