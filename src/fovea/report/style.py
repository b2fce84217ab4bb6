"""The style sheet of a report (style.css) and the stand-ins for its colours that figures are drawn with."""

from __future__ import annotations

import re
from importlib import resources

__all__ = ["COLOURS", "CSS", "LIGHT", "PALETTE"]

# Figures are drawn with these stand-ins, which become CSS variables: one figure serves light and dark.
COLOURS = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "line": "#0a0b03",
    "accent": "#0a0b04",
    "second": "#0a0b05",
    "good": "#0a0b06",
    "bad": "#0a0b07",
}

CSS = resources.files("fovea.report").joinpath("style.css").read_text(encoding="utf-8")

PALETTE = CSS[: CSS.index("* {")]
"""The part of the style sheet that gives the colours their values, in light and dark."""

LIGHT = {name: re.findall(rf"--{name}: (#[0-9a-f]{{6}})", PALETTE)[0] for name in COLOURS}
"""The colours themselves, of the light set: for figures that are pictures of their own."""
