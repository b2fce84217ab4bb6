"""What a shift does to several networks, as a picture: accuracy, change of the output, and one image on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fovea.explain.shift import ShiftCurve
from fovea.report.lettering import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["shift_picture"]

_COLOURS = ("#b2182b", "#2166ac", "#1b7837", "#7b3294")
_DPI = 110


def shift_picture(found: ShiftCurve) -> bytes:
    """PNG: two panels of curves over the shift, and below them an image at every shift with each network's label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    strip = 1.25 + 0.3 * len(found.names)
    figure = Figure(figsize=(9.2, 3.7 + strip), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subfigures(2, 1, height_ratios=(3.7, strip), squeeze=False)[:, 0]
    left, right = above.subplots(1, 2)
    _curves(left, found, found.accuracy, "accuracy")
    _curves(right, found, found.change, "change of the probabilities (0: none, 1: altogether)")
    left.legend(fontsize=8, frameon=False, loc="lower center")
    _strip(below, found)
    return png(figure)


def _curves(axes: Axes, found: ShiftCurve, rows: tuple[tuple[float, ...], ...], title: str) -> None:
    for number, (name, row, count) in enumerate(zip(found.names, rows, found.parameters, strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(found.shifts, row, "o-", ms=3.5, lw=1.6, color=colour, label=f"{name} ({count:,} parameters)")
    axes.set_title(title, fontsize=9.5, loc="left")
    axes.set(ylim=(-0.03, 1.03))
    axes.set_xlabel("shift in pixels, mean over 4 directions", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", lw=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _strip(figure: SubFigure, found: ShiftCurve) -> None:
    """The example, shifted along its rows, with every network's label in its colour."""
    grid = figure.subplots(1, len(found.shifts), squeeze=False)[0]
    grey = found.example.shape[-1] == 1
    for number, (axes, shift) in enumerate(zip(grid, found.shifts, strict=True)):
        image = found.example[number]
        axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{shift:+d}" if shift else "0", fontsize=8)
        for row, labels in enumerate(found.labels):
            right = labels[number] == found.target
            label = labels[number] if len(labels[number]) <= 8 else f"{labels[number][:7]}."
            axes.text(
                0.5, -0.16 - 0.3 * row, label, ha="center", va="top", transform=axes.transAxes, fontsize=8,
                color=_COLOURS[row % len(_COLOURS)], weight="bold" if right else "normal", alpha=1.0 if right else 0.45,
            )  # fmt: skip
    words = "one image at every shift, and what each network says: bold where it is right"
    figure.suptitle(words, fontsize=9.5, x=0.005, ha="left")
