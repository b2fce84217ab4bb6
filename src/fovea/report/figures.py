"""Line drawings as SVG inside the page: drawn by matplotlib without pyplot, coloured by the page's style sheet."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea.report.lettering import png
from fovea.report.style import COLOURS, LIGHT, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "bars", "confidence", "coverage", "curves", "draw", "finder", "picture", "reliability", "scatter", "standalone",
]  # fmt: skip

Array = npt.NDArray[Any]
_DPI = 160
_SIZE = (3.7, 2.45)  # inches: 266 points, so that text has the size of the page's own where three stand side by side


def draw(name: str, paint: Callable[[Axes], None], size: tuple[float, float] = _SIZE) -> str:
    """One figure as an SVG element. `paint` draws into the axes; `name` keeps the ids of several figures apart."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(COLOURS, name)):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.subplots())
        drawing = io.StringIO()
        with warnings.catch_warnings():  # text stays text: the browser's fonts have the letters of any class name
            warnings.filterwarnings("ignore", "Glyph ")
            figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None})
    return _themed(name, drawing.getvalue())


def picture(paint: Callable[[Axes], None], size: tuple[float, float] = _SIZE) -> bytes:
    """PNG: one figure as a file of its own. `paint` draws into the axes with the colours of ``LIGHT``."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(LIGHT)):
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure.subplots())
        return png(figure)


def _style(colours: Mapping[str, str], name: str = "") -> Any:
    """How all figures look, as matplotlib's settings."""
    ink, muted, line = colours["ink"], colours["muted"], colours["line"]
    return {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9, "text.color": ink, "lines.linewidth": 1.6,
        "axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlepad": 9.0,
        "axes.titlecolor": ink, "axes.labelcolor": muted, "axes.edgecolor": line, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.grid.axis": "y",
        "grid.color": line, "grid.linewidth": 0.6, "xtick.color": line, "ytick.color": line,
        "xtick.labelcolor": muted, "ytick.labelcolor": muted, "legend.frameon": False, "legend.fontsize": 8.5,
        "legend.labelcolor": ink,
    }  # fmt: skip


def _themed(name: str, svg: str) -> str:
    """matplotlib's file as an element of the page: no prologue, no addresses, unique ids, the page's own colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", svg)
    svg = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{name}">', svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"(font: [^;\"]*?[\d.]+px)[^;\"]*", r"\1 var(--sans)", svg)
    for colour, stand_in in COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def standalone(element: str) -> str:
    """A drawing of ``draw`` as a file of its own, with paper and both sets of colours: the viewer's setting chooses."""
    head = re.match(r'<svg viewBox="([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)"', element)
    assert head is not None
    width, height = head[3], head[4]
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt"{head[0][4:]}'
    style = f"<style>{PALETTE} text {{ font-family: var(--sans); }}</style>"
    paper = f'{style}<rect width="{width}" height="{height}" style="fill: var(--paper)"/>'
    rest = element[head.end() :]
    close = rest.index(">") + 1
    return f"{opening}{rest[:close]}\n{paper}\n{rest[close:]}\n"


def curves(
    name: str, title: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], best: float | None = None
) -> str:
    """Curves over epochs, (x, y) by label; a dot marks the epoch `best` on the last curve."""

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for (label, (x, y)), colour in zip(lines.items(), ("second", "accent"), strict=False):
            marker = "o" if len(x) < 4 else None
            axes.plot(
                x, y, label=label, color=COLOURS["accent" if len(lines) == 1 else colour], marker=marker, markersize=3
            )
            if best is not None and best in x and label == list(lines)[-1]:
                axes.plot([best], [y[list(x).index(best)]], "o", color=COLOURS["accent"], markersize=6)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if max(len(x) for x, _ in lines.values()) == 1:
            axes.set_xlim(0.5, 1.5)
        if len(lines) > 1:
            axes.legend()

    return draw(name, paint)


def reliability(name: str, confidence: Array, accuracy: Array, share: Array) -> str:
    """How often the network is right (height) when it is so sure (place); a perfect one follows the diagonal."""

    def paint(axes: Axes) -> None:
        width = 1 / len(confidence)
        used = share > 0
        for place in np.flatnonzero(used):  # pale where few samples speak
            depth = 0.2 + 0.65 * min(1.0, (share[place] * len(share)) ** 0.5)
            axes.bar((place + 0.5) * width, accuracy[place], width * 0.9, color=COLOURS["accent"], alpha=depth)
        axes.plot(confidence[used], accuracy[used], "o", color=COLOURS["ink"], markersize=3)
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="probability given", title="how often it is right")

    return draw(name, paint)


def confidence(name: str, share: Array) -> str:
    """How the probabilities given are distributed: the share of samples in each range."""

    def paint(axes: Axes) -> None:
        width = 1 / len(share)
        axes.bar((np.arange(len(share)) + 0.5) * width, 100 * share, width * 0.9, color=COLOURS["accent"], alpha=0.75)
        axes.set(xlim=(0, 1), xlabel="probability given", title="share of samples, %")

    return draw(name, paint)


def coverage(name: str, share: Array, accuracy: Array, marks: Sequence[tuple[float, float]]) -> str:
    """The share of right answers (height) when only the surest share of samples is answered (place), and some marks."""

    def paint(axes: Axes) -> None:
        axes.plot(100 * share, 100 * accuracy, color=COLOURS["accent"])
        for x, y in marks:
            height = max(y, float(np.interp(x, share, accuracy)))  # where answering all is better than was asked
            axes.plot([100 * x], [100 * height], "o", color=COLOURS["second"], markersize=5)
        steady = accuracy[share >= 0.05] if (share >= 0.05).any() else accuracy  # a few samples jump about
        low = 100 * float(steady.min())
        axes.set(xlim=(0, 102), ylim=(low - 0.08 * (100 - low) - 0.1, 100 + 0.05 * (100 - low) + 0.1))
        axes.ticklabel_format(axis="y", useOffset=False)  # 99.95, not -0.05 beside "+1e2"
        axes.set(xlabel="samples answered, %", title="right among the answers, %")

    return draw(name, paint)


def finder(name: str, lrs: Sequence[float], losses: Sequence[float], suggestion: float) -> str:
    """The learning-rate finder: smoothed loss while the rate is raised, and the rate that was taken."""

    def paint(axes: Axes) -> None:
        axes.plot(lrs, losses, color=COLOURS["accent"])
        axes.axvline(suggestion, color=COLOURS["second"], linewidth=1)
        axes.set_xscale("log")
        finite = [loss for loss in losses if np.isfinite(loss)]
        if finite:  # the end, where training diverges, must not flatten the rest
            axes.set_ylim(min(finite) * 0.95, min(max(finite), 2.0 * finite[0]))
        axes.set(title="learning-rate finder", xlabel=f"learning rate (taken: {suggestion:.3g})")

    return draw(name, paint)


def bars(name: str, title: str, labels: Sequence[str], values: Sequence[float]) -> str:
    """Horizontal bars, one a label, in the given order."""

    def paint(axes: Axes) -> None:
        places = np.arange(len(labels))
        axes.barh(places, values, color=COLOURS["accent"], height=0.7)
        axes.set_yticks(places, [label if len(label) < 24 else label[:22] + ".." for label in labels])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.tick_params(axis="y", length=0)
        axes.set_title(title)

    return draw(name, paint, (_SIZE[0], max(1.2, 0.24 * len(labels) + 0.7)))


def scatter(name: str, title: str, target: Array, value: Array) -> str:
    """Predicted against true values, with the diagonal on which they are equal."""

    def paint(axes: Axes) -> None:
        low, high = float(min(target.min(), value.min())), float(max(target.max(), value.max()))
        axes.plot([low, high], [low, high], color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(target, value, "o", color=COLOURS["accent"], markersize=3, alpha=0.5, markeredgewidth=0)
        axes.set(title=title, xlabel="target", ylabel="predicted")

    return draw(name, paint, (3.7, 3.1))
