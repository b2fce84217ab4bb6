"""Figures as PNG, with the letters of every script that some font of this machine has."""

from __future__ import annotations

import functools
import io
import warnings
from typing import TYPE_CHECKING

from fovea import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["png"]


def png(figure: Figure) -> bytes:
    """The figure drawn. Names of classes may be in any script, and matplotlib's own font has few: texts with other
    letters get the fonts of this machine that have them. Letters that no font has are drawn as boxes, and told once.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        letters = frozenset(letter for letter in text.get_text() if not letter.isascii() and letter.isprintable())
        if letters:
            text.set_fontfamily([*text.get_fontfamily(), *_families(letters)])
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")
        figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


@functools.cache
def _families(letters: frozenset[str]) -> tuple[str, ...]:
    """Fonts beside the default one that have, together, the letters which that one lacks."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    default = get_font(findfont(FontProperties()))
    missing = {letter for letter in letters if not default.get_char_index(ord(letter))}
    names = []
    for entry in sorted(
        fontManager.ttflist, key=lambda one: (one.style != "normal", one.weight not in (400, "normal"))
    ):
        if not missing:
            break
        if entry.name.startswith("Last Resort"):  # boxes for all that there is
            continue
        try:
            font = get_font(entry.fname)
        except (OSError, RuntimeError):  # listed once and gone, or damaged
            continue
        has = {letter for letter in missing if font.get_char_index(ord(letter))}
        if has:
            names.append(entry.name)
            missing -= has
    if missing:
        few = "".join(sorted(missing)[:8])
        progress.say(f"note: no font here has {few}; pictures show boxes in their place until one is installed")
    return tuple(names)
