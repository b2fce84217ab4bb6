"""Trust as a picture: the map while the network's weights become random, and each measure beside its baselines."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from fovea.explain.trusting import LIMIT, Measures, TrustReport
from fovea.report.lettering import png
from fovea.report.overlay import WARNING, colours_of, scale
from fovea.report.strips import seen_of, strongest_slice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["LOCATED", "located_words", "table_of", "trust_picture"]

_DPI = 110
_METHOD, _BASELINES = "#b2182b", {"edges": "#4d4d4d", "random_cam": "#2166ac", "blob": "#b8860b"}
_MAPS = 9  # depths shown as maps


def trust_picture(found: TrustReport) -> bytes:
    """PNG: maps by depth; similarity against depth; insertion and deletion; a table of all measures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 7.2), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    words = [found.verdict]
    if found.attribution.facts.fails_randomisation:
        words.append(f"known of this method: {WARNING}")
    text = "\n".join(part for line in words for part in textwrap.wrap(line, 130))
    figure.suptitle(text, fontsize=9.5, x=0.005, ha="left", color="black" if found.follows else "#b00020")
    maps, curves, table = figure.subfigures(3, 1, height_ratios=(1.9, 3.1, 1.6), squeeze=False)[:, 0]
    _maps(maps, found)
    left, middle, right = curves.subplots(1, 3)
    _similarity(left, found)
    _series(middle, found, "insertion")
    _series(right, found, "deletion")
    _table(table, found)
    return png(figure)


def _maps(figure: SubFigure, found: TrustReport) -> None:
    """The sample, and the map at every depth, each with colours of its own scale; of a volume one slice."""
    chosen = np.unique(np.linspace(0, len(found.depths) - 1, min(_MAPS, len(found.depths))).round().astype(int))
    grid = figure.subplots(1, len(chosen) + 1, squeeze=False)[0]
    one, signed = found.attribution, found.attribution.facts.signed
    at = strongest_slice(one)
    if one.image.ndim == 2:
        grid[0].plot(one.image, lw=0.4)
    else:
        seen = seen_of(one)[at]
        grid[0].imshow(seen, cmap="gray" if seen.ndim == 2 else None, vmin=0, vmax=255)
    grid[0].set_title("\n".join(textwrap.wrap(found.attribution.name, 18)[:2]), fontsize=8)
    for axes, depth in zip(grid[1:], chosen, strict=True):
        values = found.maps[depth]
        low, high = scale(values, signed)
        if values.ndim == 1:
            axes.plot(values, lw=0.5, color=_METHOD)
            axes.set_ylim(low, high)
        else:
            axes.imshow(values[at], cmap=colours_of(signed), vmin=low, vmax=high)
        label = found.depths[depth]
        axes.set_title(label if depth == 0 else _down_to(label), fontsize=7.5)
    for axes in grid:
        axes.set(xticks=[], yticks=[])
    figure.suptitle("the map while weights become random, from the top layer down", fontsize=9, x=0.005, ha="left")


def _down_to(layer: str) -> str:
    return "random down to\n" + (layer if len(layer) <= 17 else f"...{layer[-14:]}")


def _rows(found: TrustReport) -> list[tuple[Measures, str, float]]:
    """The method and the baselines, each with its colour and line width."""
    return [
        (found.method, _METHOD, 2.2),
        *((one, _BASELINES.get(one.name, "#888888"), 1.1) for one in found.baselines),
    ]  # fmt: skip


def _similarity(axes: Axes, found: TrustReport) -> None:
    places = range(len(found.depths))
    for one, colour, width in _rows(found):
        style = {"blob": (0, (4, 4))}.get(one.name, "solid")  # lies upon the edges, which the dashes leave visible
        correlation = np.abs(one.similarity["spearman"])
        axes.plot(places, correlation, marker="o", ls=style, ms=3, lw=width, color=colour, label=one.title)
    axes.plot(
        places, found.method.similarity["ssim_abs"], ":", lw=1.2, color=_METHOD, label=f"{found.method.title}, SSIM"
    )
    axes.axhline(LIMIT, color="#888888", lw=0.8, ls="--")
    axes.set_xticks(places, [label[-14:] for label in found.depths], rotation=45, ha="right", fontsize=7)
    axes.set_ylim(-0.75, 1.05)  # the legend stands below the curves
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    _dressed(axes, "rank correlation (absolute) with the trained map")


def _series(axes: Axes, found: TrustReport, which: str) -> None:
    for one, colour, width in _rows(found):
        scores = getattr(one.causal, which)
        area = getattr(one.causal, f"{which}_auc")
        axes.plot(np.linspace(0, 1, len(scores)), scores, lw=width, color=colour, label=f"{one.title} {area:.2f}")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.7)  # room for the legend above the curves
    axes.legend(fontsize=7, frameon=False, title="area below", title_fontsize=7,
                loc="upper left" if which == "insertion" else "upper right")  # fmt: skip
    axes.set_xlabel("share of pixels", fontsize=8)
    better = "a large area is good" if which == "insertion" else "a small area is good"
    _dressed(axes, f"{which}: {better}")


def _dressed(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=8.5, loc="left")
    axes.tick_params(labelsize=7)
    axes.grid(color="#e2e2e2", lw=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _table(figure: SubFigure, found: TrustReport) -> None:
    axes = figure.subplots()
    axes.set_axis_off()
    head, rows = table_of(found)
    drawn: Any = axes.table(
        cellText=rows, colLabels=head, loc="center", cellLoc="right", colLoc="right", edges="horizontal"
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.scale(1, 1.25)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_linewidth(0.4)
        if column == 0:
            cell.set_text_props(ha="left")
        if row == 1:
            cell.set_text_props(weight="bold")


def table_of(found: TrustReport) -> tuple[list[str], list[list[str]]]:
    """Head and rows of all measures, the method first; localisation where boxes were given."""
    located = found.method.localisation is not None
    head = ["map", "kept", "SSIM at the end", "insertion", "deletion", "max-sensitivity"]
    head += LOCATED if located else []
    rows = []
    for one, _, _ in _rows(found):
        row = [
            one.title, f"{one.kept:.2f}", f"{one.similarity['ssim_abs'][-1]:.2f}", f"{one.causal.insertion_auc:.3f}",
            f"{one.causal.deletion_auc:.3f}", f"{one.max_sensitivity:.2f}",
        ]  # fmt: skip
        rows.append(row + located_words(one))
    return head, rows


LOCATED = ["pointing", "mass inside", "rank inside"]
"""Heads of ``located_words``."""


def located_words(one: Measures) -> list[str]:
    """Where a map points, beside the boxes; nothing without boxes."""
    if one.localisation is None:
        return []
    where = one.localisation
    pointing = {1.0: "hit", 0.0: "miss"}.get(where.pointing, f"{where.pointing:.0%}")  # of equal peaks the share inside
    return [pointing, f"{where.mass:.0%}", f"{where.rank:.0%}"]
