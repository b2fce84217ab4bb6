"""Attributions of signals, volumes and clips as a picture: the sample, and below it each map over the sample.

A signal is a curve over time, and a map the colour of the strip behind it; a volume or a clip is shown in a few slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.base import Attribution
from fovea.report.lettering import png
from fovea.report.overlay import bar_label, colours_of, notes_below, over, scale, short, title_of, words_of

__all__ = ["seen_of", "slices_of", "strips", "strongest_of", "strongest_slice"]

Array = npt.NDArray[Any]
_DPI, _WIDE = 110, 9.0
_COLUMNS, _SLICES = 900, 5
_COLOURS = ("#1f4e79", "#b8860b", "#4d4d4d", "#2a7f62", "#8b1a1a", "#6a3d9a", "#b15928", "#000000")
"""Of the channels of a signal; further ones are left out."""


def strips(found: Sequence[Attribution]) -> bytes:
    """PNG: the sample, then one strip for each map of it. A map alone has its target and its notes in words."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, first = len(found) + 1, found[0]
    is_signal = first.values.ndim == 1
    columns = 1 if is_signal else min(_SLICES, len(first.values))
    side = _WIDE / columns * min(2.0, max(0.4, first.values.shape[-2] / first.values.shape[-1])) if not is_signal else 0
    tall = 1.6 if is_signal else min(3.0, side) + 0.45
    figure = Figure(figsize=(_WIDE + 0.9, tall * rows + 0.7), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=is_signal)
    chosen = [] if is_signal else slices_of([one.values for one in found], columns)
    if is_signal:
        _curves(grid[0, 0], first)
        grid[-1, 0].set_xlabel("samples" if first.rate is None else "seconds", fontsize=8)
    else:
        for axes, number in zip(grid[0], chosen, strict=True):
            axes.imshow(seen_of(first)[number], cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
        for axes, number in zip(grid[-1], chosen, strict=True):
            axes.set_xlabel(f"{'frame' if first.image.dtype == np.uint8 else 'slice'} {number}", fontsize=8)
    what = "what the network sees" if len(found) == 1 else f"what the network sees; explained: {short(first.name, 60)}"
    grid[0, 0].set_title(what, loc="left", fontsize=9)
    for one, row in zip(found, grid[1:], strict=True):
        bar = _strip(row[0], one) if is_signal else _slices(row, one, chosen)
        drawn = figure.colorbar(bar, ax=list(row), fraction=0.03, pad=0.01)
        drawn.set_label(bar_label(one), fontsize=7)
        drawn.ax.tick_params(labelsize=7)
        warned = one.facts.fails_randomisation
        words = title_of(one).replace("\n", ", ") if len(found) == 1 else words_of(one).replace("\n", ": ")
        row[0].set_title(words, loc="left", fontsize=9, color="#b00020" if warned else "black")
    if len(found) == 1:
        notes_below(figure, first)
    return png(figure)


def slices_of(maps: Sequence[Array], count: int) -> list[int]:
    """Of each of ``count`` equal stretches of the first axis the slice where maps D,H,W have the largest values."""
    masses = [np.abs(one).sum((1, 2), dtype=np.float64) for one in maps]
    total = np.sum([mass / max(float(mass.max()), 1e-30) for mass in masses], axis=0)
    return [int(part[np.argmax(total[part])]) for part in np.array_split(np.arange(len(total)), count)]


def strongest_slice(found: Attribution) -> Any:
    """The index of the slice of a volume or a clip in which the map is largest; all of an image or a signal."""
    return slices_of([found.values], 1)[0] if found.values.ndim == 3 else ...


def strongest_of(values: Array, most: int = _COLUMNS) -> Array:
    """At most ``most`` values of a long map: of each stretch the one with the largest absolute value, never a mean, in
    which what is for and what is against would vanish."""
    parts = np.array_split(values, min(most, len(values)))
    return np.array([part[np.argmax(np.abs(part))] for part in parts])


def _times(found: Attribution) -> Array:
    return np.arange(len(found.image)) / (found.rate or 1)


def _curves(axes: Any, found: Attribution) -> None:
    """The channels over time, each in its colour; of many the first ones, which is said."""
    channels = found.image.shape[-1]
    for number, colour in zip(range(channels), _COLOURS, strict=False):
        axes.plot(_times(found), found.image[:, number], color=colour, lw=0.7, label=f"channel {number}")
    axes.tick_params(labelsize=7)
    axes.margins(x=0)
    if channels > 1:
        title = f"{len(_COLOURS)} of {channels} channels" if channels > len(_COLOURS) else None
        axes.legend(fontsize=6, loc="upper right", ncols=4, title=title, title_fontsize=6)


def _strip(axes: Any, found: Attribution) -> Any:
    """The map as colours behind the curve, which is in grey."""
    from matplotlib.cm import ScalarMappable

    low, high = scale(found.values, found.facts.signed)
    _curves_grey(axes, found)
    step = 1 / (found.rate or 1)
    ends = (-step / 2, (len(found.values) - 0.5) * step, *axes.get_ylim())
    colours = colours_of(found.facts.signed)
    drawn = axes.imshow(
        strongest_of(found.values)[None], cmap=colours, vmin=low, vmax=high, aspect="auto", extent=ends, zorder=0,
        interpolation="nearest",
    )  # fmt: skip
    return ScalarMappable(drawn.norm, colours)


def _curves_grey(axes: Any, found: Attribution) -> None:
    grey = "#555555" if found.facts.signed else "#bbbbbb"  # seen on white, and on black
    for number in range(min(found.image.shape[-1], len(_COLOURS))):
        axes.plot(_times(found), found.image[:, number], color=grey, lw=0.5)
    axes.margins(x=0)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)


def seen_of(found: Attribution) -> Array:
    """What is drawn of an image, a volume or a clip, of 0 to 255: *spatial in grey, or with three colours behind."""
    if found.image.dtype == np.uint8:
        return found.image[..., 0] if found.image.shape[-1] == 1 else found.image
    grey = found.image.mean(-1, dtype=np.float64)
    low, high = float(grey.min()), float(np.percentile(grey, 99.5))
    return np.asarray(np.clip((grey - low) / max(high - low, 1e-30), 0, 1) * 255)


def _slices(row: Sequence[Any], found: Attribution, chosen: Sequence[int]) -> Any:
    limits, seen = scale(found.values, found.facts.signed), seen_of(found)
    grey = seen.mean(-1) if seen.ndim == 4 else seen
    bars = [
        over(axes, grey[number], found.values[number], limits, found.facts.signed)
        for axes, number in zip(row, chosen, strict=True)
    ]
    return bars[0]
