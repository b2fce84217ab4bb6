"""What the network is: its size in numbers, how maps shrink and what is seen grows, and every layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fovea.detection.draw import Mark, colour_of, draw_boxes
from fovea.graph.receptive import receptive_fields
from fovea.report import network, pictures
from fovea.report.figures import draw
from fovea.report.page import Section, count, numbers, percent, table, text
from fovea.report.style import COLOURS
from fovea.report.tour.visit import Visit
from fovea.tasks.detect.task import DetectionPrediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["answers", "head", "layers"]

Array = npt.NDArray[Any]


def head(visit: Visit) -> tuple[str, str]:
    """Title and opening of the page."""
    model = visit.model
    name = model.name or "A network"
    totals = model.summary(visit.graph.input_shapes[0]).totals  # type: ignore[arg-type]  # closed
    sizes = " x ".join(str(size) for size in visit.graph.input_shapes[0])
    classes = len(model.classes or ()) or int(model.graph.output_shapes[0][-1] or 1)
    items = [
        ("parameters", count(int(totals["parameters"])), ""),
        ("multiply-adds", count(int(totals["macs"] or 0)), "for one sample"),
        ("input", sizes, f"{visit.known.kind}, channels last"),
        ("classes" if visit.is_classifier or visit.is_detector else "outputs", count(classes), ""),
    ]
    if visit.data is not None:
        items.append(("data", count(len(visit.samples or ())), f"samples of {visit.data.name}"))
    line = "What this network is, what it has learned, and why it answers as it does."
    return f"A tour of {name}", f"<h1>A tour of {text(name)}</h1><p>{text(line)}</p>{numbers(items)}"


def answers(visit: Visit) -> Section | None:
    """The pictures that the tour is shown with, and what the network says of them."""
    if not len(visit.images):
        return None
    figures = []
    for row, (image, name) in enumerate(zip(visit.images, visit.names, strict=True)):
        said = visit.predictions[row] if visit.predictions else None
        top = None if said is None else said.to_dict().get("top")
        if top:
            rows = [(str(one["label"]), percent(float(one["probability"]), 1)) for one in top]
            words = table(["class", "probability"], rows, wide=False)
        else:
            words = "" if said is None else f"<p>{text(said)}</p>"
        if isinstance(said, DetectionPrediction):
            image = _with_boxes(image, said)
        drawn = pictures.sample(visit.known.kind, image, name)
        figures.append(f'<figure class="seen">{drawn}<figcaption>{text(name)}</figcaption>{words}</figure>')
    note = "As the network sees them: resized and cut. All further sections are about these pixels."
    return Section("answers", "Pictures and answers", f'<p>{note}</p><div class="figures">{"".join(figures)}</div>')


def _with_boxes(image: Array, found: DetectionPrediction) -> Array:
    """What a detector found, each box with its class and score."""
    marks = [Mark(one.box, f"{one.label} {one.score:.0%}", colour_of(one.index)) for one in found.objects]
    return draw_boxes(image, marks, 1.5) if marks else image


def layers(visit: Visit) -> Section:
    """How the maps shrink and the receptive field grows, and the table of all layers."""
    rest = network.layers(visit.model, visit.graph)
    drawn = _growth(visit)
    return Section("network", "Layer by layer", f'<div class="figures">{drawn}</div>{rest.body}')


def _doubling(axes: Axes, title: str) -> None:
    """Layers are counted in whole numbers; what doubles and halves stands on steps of two."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_locator(LogLocator(base=2, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel="convolutions and poolings")
    axes.legend()


def _growth(visit: Visit) -> str:
    fields = receptive_fields(visit.graph)
    axes = len(visit.graph.input_shapes[0])
    rows = []
    for node in visit.graph.nodes.values():
        field, shape = fields[node.name], node.output_shapes[0]
        if field is None or len(shape) != axes or not hasattr(node.op, "windows"):
            continue
        if all(one.jump for one in field):
            rows.append((max(one.size for one in field), max(size or 1 for size in shape[:-1]), int(shape[-1] or 1)))
    if len(rows) < 2:
        return ""

    def paint(what: Axes) -> None:
        x = range(1, len(rows) + 1)
        what.plot(x, [row[0] for row in rows], color=COLOURS["accent"], label="receptive field")
        what.plot(x, [row[1] for row in rows], color=COLOURS["second"], label="side of the map")
        what.axhline(max(n or 1 for n in visit.graph.input_shapes[0][:-1]), color=COLOURS["muted"], linewidth=0.8,
                     linestyle=(0, (4, 3)))  # fmt: skip
        _doubling(what, "What is seen grows, maps shrink")

    def channels(what: Axes) -> None:
        x = range(1, len(rows) + 1)
        what.plot(x, [row[2] for row in rows], color=COLOURS["accent"], label="channels")
        what.plot(x, [math.prod(row[1:2]) ** (axes - 1) for row in rows], color=COLOURS["second"], label="positions")
        _doubling(what, "From positions to channels")

    note = "in elements of the input along its longest axis; the dashed line is the input itself"
    return (
        f"<figure>{draw('growth', paint)}<figcaption>{text(note)}</figcaption></figure>"
        f"<figure>{draw('channels', channels)}</figure>"
    )
