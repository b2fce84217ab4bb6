"""An attribution as a picture: the sample, the map over it with a colour bar, and in words what it shows.

Of images here; of signals, volumes and clips in ``strips.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.base import Attribution
from fovea.report.lettering import png
from fovea.report.overlay import bar_label, notes_below, over, scale, short, title_of, words_of
from fovea.report.strips import strips

__all__ = ["picture", "sheet"]

Array = npt.NDArray[Any]
_SIDE, _DPI = 3.6, 110  # inches of one panel


def picture(found: Attribution) -> bytes:
    """PNG: the image, and beside it the map over the image in grey, with method, layer, target and score."""
    if found.image.ndim != 3:
        return strips([found])
    figure, height = _figure(2, 1, found, extra=1.0)
    left, right = figure.subplots(1, 2)
    _photograph(left, found)
    left.set_title("what the network sees", loc="left", fontsize=9)
    colours = _map(right, found)
    right.set_title(title_of(found), loc="left", fontsize=9)
    figure.colorbar(colours, ax=right, fraction=0.046 * height, pad=0.02, label=bar_label(found))
    notes_below(figure, found)
    return png(figure)


def sheet(found: Sequence[Attribution], columns: int = 4) -> bytes:
    """PNG: one image and the maps of several methods, in rows; maps that fail the randomisation test say so."""
    if found[0].image.ndim != 3:
        return strips(found)
    columns = min(columns, len(found) + 1)
    rows = -(-(len(found) + 1) // columns)
    figure, _ = _figure(columns, rows, found[0], extra=0.55 * rows)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).reshape(-1))
    _photograph(axes[0], found[0])
    axes[0].set_title(short(found[0].name, 34), loc="left", fontsize=9)
    for one, panel in zip(found, axes[1:], strict=False):
        _map(panel, one)
        warned = one.facts.fails_randomisation
        panel.set_title(words_of(one), loc="left", fontsize=9, color="#b00020" if warned else "black")
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
    signed = found.facts.signed
    drawn = over(axes, found.image.astype(np.float32).mean(-1), found.values, scale(found.values, signed), signed)
    _box(axes, found)
    return drawn
