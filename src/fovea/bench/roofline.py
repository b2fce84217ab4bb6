"""The roofline of one network: what each layer reaches, below what arithmetic and memory of this machine allow.

Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model for multicore architectures".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea.bench.rows import Row
from fovea.report.figures import draw, standalone
from fovea.report.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["roofline_svg"]

Array = npt.NDArray[Any]
Entry = Mapping[str, Any]
SERIES = {
    "forward": ("o", "accent"),
    "backward data": ("s", "second"),
    "backward weight": ("^", "good"),
    "both backward passes": ("P", "bad"),
    "others": ("D", "muted"),
}
"""Mark and colour of each pass."""
NAMED = 8
"""So many marks get the name of their layer, at most: those that take most of the time."""
LEAST_SHARE, LEAST_NAMED = 5e-4, 1e-2
"""Of the time: what takes less is left out, or has no name."""


def roofline_svg(row: Row, gflops: float, gbytes: float) -> str:
    """An SVG file: arithmetic intensity against GFLOP/s, both logarithmic; a mark's area grows with its share of time.

    Layers without multiplications count one operation for every four bytes: they stand where memory bounds them.
    """
    whole = sum(entry["ms"] for entry in row.layers)
    shown = [entry for entry in row.layers if entry["bytes"] and entry["ms"] > LEAST_SHARE * whole]
    points = [(entry, *_place(entry)) for entry in shown]
    name = f"roofline-{row.network}-{row.mode}-{row.precision}"

    def paint(axes: Axes) -> None:
        ridge = gflops / gbytes
        low = 0.8 * min(0.2, *(x for _, x, _ in points))
        high = 4 * max(ridge, *(x for _, x, _ in points))
        ends = [low, ridge, high], [low * gbytes, gflops, gflops]
        axes.plot(*ends, color=COLOURS["ink"], linewidth=1.4, zorder=1)
        for series, (mark, colour) in SERIES.items():
            own = [point for point in points if _series(point[0]) == series]
            if own:
                axes.scatter(
                    [x for _, x, _ in own], [y for _, _, y in own], marker=mark, label=series, zorder=2, alpha=0.7,
                    s=[12 + 900 * entry["ms"] / whole for entry, _, _ in own], color=COLOURS[colour], linewidths=0,
                )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlim=(low, high), xlabel="operations a byte", ylabel="GFLOP/s")
        axes.set_ylim(bottom=0.5 * min(y for _, _, y in points), top=2.5 * max(gflops, *(y for _, _, y in points)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(visible=True, which="major", axis="both")
        _roof_labels(axes, low, ridge, gflops, gbytes)
        _names(axes, points, ends)
        axes.set_title(f"{row.network}, {row.mode}, batch {row.batch}, {row.precision}")
        if any(y > gflops and entry["algorithm"].startswith("winograd") for entry, _, y in points):
            axes.set_title("above the roof: Winograd, which multiplies less than is counted", loc="right", fontsize=7.5,
                           fontweight="normal", color=COLOURS["muted"])  # fmt: skip
        legend = axes.legend(loc="lower right")
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_sizes([28.0])  # type: ignore[attr-defined]  # a legend of scatter marks

    return standalone(draw(name, paint, (6.8, 4.4)))


def _place(entry: Entry) -> tuple[float, float]:
    """Operations a byte, and GFLOP/s."""
    operations = entry["operations"] or entry["bytes"] / 4
    return operations / entry["bytes"], operations / entry["ms"] * 1e-6


def _series(entry: Entry) -> str:
    if not entry["operations"]:
        return "others"
    name = "both backward passes" if entry["pass"] == "backward" else str(entry["pass"])
    return name if name in SERIES else "others"


def _roof_labels(axes: Axes, low: float, ridge: float, gflops: float, gbytes: float) -> None:
    """The two limits, each on its line."""
    style: dict[str, Any] = {"fontsize": 8, "color": COLOURS["ink"], "textcoords": "offset points"}
    axes.annotate(f"{gflops:.0f} GFLOP/s", (ridge, gflops), xytext=(4, 4), **style)
    middle = (low * ridge) ** 0.5
    axes.annotate(
        f"{gbytes:.0f} GB/s", (middle, middle * gbytes), xytext=(-3, 4), rotation=45, rotation_mode="anchor",
        transform_rotates_text=True, **style,
    )  # fmt: skip


Box = tuple[float, float, float, float]


def _names(
    axes: Axes, points: Sequence[tuple[Entry, float, float]], roof: tuple[Sequence[float], Sequence[float]]
) -> None:
    """The names of the layers that take most time, where there is room beside their mark."""
    from matplotlib.figure import Figure

    to_points = 72.0 / axes.figure.dpi
    if isinstance(axes.figure, Figure):
        axes.figure.draw_without_rendering()  # places depend on the layout
    left, right = (axes.bbox.x0 * to_points, axes.bbox.x1 * to_points)
    places = axes.transData.transform([(x, y) for _, x, y in points]) * to_points
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]  # by the marks, the roof, and then by names
    taken += _roof_boxes(axes.transData.transform(list(zip(*roof, strict=True))) * to_points)
    placed: set[str] = set()
    whole = sum(entry["ms"] for entry, _, _ in points)
    for entry, x, y in sorted(points, key=lambda point: -point[0]["ms"]):
        text = str(entry["node"])
        if not text or text in placed or entry["ms"] < LEAST_NAMED * whole:
            continue
        at_x, at_y = (value * to_points for value in axes.transData.transform((x, y)))
        width = 3.9 * len(text)
        for dx, dy in ((6, -3), (-6 - width, -3), (5, 5), (5, -12), (-5 - width, 5), (-5 - width, -12)):
            box = (at_x + dx, at_y + dy, at_x + dx + width, at_y + dy + 7)
            if box[0] > left and box[2] < right and not any(_overlap(box, other) for other in taken):
                axes.annotate(
                    text, (x, y), xytext=(dx, dy), textcoords="offset points", fontsize=7, color=COLOURS["muted"]
                )
                taken.append(box)
                placed.add(text)
                break
        if len(placed) == NAMED:
            return


def _roof_boxes(corners: Array) -> list[Box]:
    """Small boxes along the roof, and one around each of its labels; ``corners`` in points."""
    (x0, y0), (x1, y1), (x2, y2) = corners
    steps = np.linspace(0.0, 1.0, 60)
    line = [(x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in steps] + [(x1 + t * (x2 - x1), y2) for t in steps]
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    labels = [(x1, y1, x1 + 62, y1 + 15), (middle_x - 8, middle_y, middle_x + 32, middle_y + 36)]
    return [*((x - 3, y - 3, x + 3, y + 3) for x, y in line), *labels]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
