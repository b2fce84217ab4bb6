"""An attribution as a picture: the image, the map over it with a colour bar, and in words what it shows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.base import Attribution
from fovea.report.lettering import png

__all__ = ["WARNING", "picture", "scale", "sheet"]

Array = npt.NDArray[Any]
_SIDE, _DPI = 3.6, 110  # inches of one panel
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


def picture(found: Attribution) -> bytes:
    """PNG: the image, and beside it the map over the image in grey, with method, layer, target and score."""
    figure, height = _figure(2, 1, found, extra=1.0)
    left, right = figure.subplots(1, 2)
    _photograph(left, found)
    left.set_title("what the network sees", loc="left", fontsize=9)
    colours = _map(right, found)
    right.set_title(_title(found), loc="left", fontsize=9)
    label = "for (+) and against (-)" if found.facts.signed else "how much"
    figure.colorbar(colours, ax=right, fraction=0.046 * height, pad=0.02, label=label)
    lines = [*found.notes] if not found.facts.fails_randomisation else [WARNING, *found.notes]
    if lines:
        warned = found.facts.fails_randomisation
        figure.supxlabel("\n".join(_wrapped(lines)), fontsize=8, color="#b00020" if warned else "#444444")
    return png(figure)


def sheet(found: Sequence[Attribution], columns: int = 4) -> bytes:
    """PNG: one image and the maps of several methods, in rows; maps that fail the randomisation test say so."""
    columns = min(columns, len(found) + 1)
    rows = -(-(len(found) + 1) // columns)
    figure, _ = _figure(columns, rows, found[0], extra=0.55 * rows)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).reshape(-1))
    _photograph(axes[0], found[0])
    axes[0].set_title(_short(found[0].name, 34), loc="left", fontsize=9)
    for one, panel in zip(found, axes[1:], strict=False):
        _map(panel, one)
        warned = one.facts.fails_randomisation
        words = one.facts.title + (f", {one.layer}" if one.layer else "") + ("\n" + WARNING if warned else "")
        panel.set_title(words, loc="left", fontsize=9, color="#b00020" if warned else "black")
    for panel in axes[len(found) + 1 :]:
        panel.set_axis_off()
    return png(figure)


def _figure(columns: int, rows: int, found: Attribution, extra: float) -> tuple[Any, float]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = found.values.shape
    tall = min(2.0, max(0.4, height / width))
    figure = Figure(figsize=(_SIDE * columns + 0.9, _SIDE * tall * rows + extra), dpi=_DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.05)  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    return figure, tall


def _photograph(axes: Any, found: Attribution) -> None:
    grey = found.image.shape[-1] == 1
    axes.imshow(found.image[..., 0] if grey else found.image, cmap="gray" if grey else None, vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    _box(axes, found)


def _box(axes: Any, found: Attribution) -> None:
    """The explained box of a detector; pixel centres have whole numbers here."""
    from matplotlib.patches import Rectangle

    if found.box is not None:
        x1, y1, x2, y2 = found.box
        for colour, wide in (("black", 2.6), ("#ffd400", 1.3)):
            axes.add_patch(
                Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=wide)
            )


def _map(axes: Any, found: Attribution) -> Any:
    """The map over a pale grey image: where it is near zero the image shines through, else the colour covers it."""
    low, high = scale(found.values, found.facts.signed)
    grey = found.image.astype(np.float32).mean(-1)
    axes.imshow(150 + grey * (105 / 255), cmap="gray", vmin=0, vmax=255)
    strength = np.clip((np.abs(found.values) - max(low, 0.0)) / (high - max(low, 0.0)), 0, 1)
    map_ = _DIVERGING if found.facts.signed else _SEQUENTIAL
    drawn = axes.imshow(found.values, cmap=map_, vmin=low, vmax=high, alpha=0.35 + 0.55 * np.sqrt(strength))
    axes.set(xticks=[], yticks=[])
    _box(axes, found)
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(drawn.norm, map_)  # the bar shows the colours as they are, not as they cover the image


def _title(found: Attribution) -> str:
    where = f" at {found.layer}" if found.layer else ""
    return f"{found.facts.title}{where}\n{_short(found.name, 44)}: {found.score:.4g}"


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, 110)]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
