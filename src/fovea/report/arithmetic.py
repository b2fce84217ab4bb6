"""The arithmetic of a layer as a picture: patch times filter gives products, their sum and the bias give the number.

Each calculation is a row: where its values come from (the map, the patch framed), the values, the weights, the
products, and where the number stands (the map, its place marked). Of several channels the strongest are shown.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea.explain.arithmetic import Calculation, LayerArithmetic, Term
from fovea.report.lettering import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["arithmetic_picture"]

Array = npt.NDArray[Any]
_DPI, _PANEL = 110, 2.35  # inches of one panel
_WRITTEN = 11  # cells along a side up to which numbers are written into them
_PLANES = 3  # channels shown
_COLOURS = "RdBu_r"  # red above 0, blue below
_MARK = "#ff9500"


def arithmetic_picture(found: LayerArithmetic) -> bytes:
    """PNG of the whole view."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [one for one in found.calculations if one.quantity != "grad_bias" or len(one.terms) > 1]
    rows = [_planes(one) for one in shown]
    heights = [1.0 + (_PANEL + 0.35) * len(planes) for planes in rows]  # each with its title above and its sum below
    figure = Figure(figsize=(_PANEL * 5 + 0.6, sum(heights) + 0.75), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_heading(found), fontsize=9, x=0.01, ha="left")
    parts = figure.subfigures(len(shown), 1, height_ratios=heights, squeeze=False)
    for part, one, planes in zip(parts[:, 0], shown, rows, strict=True):
        _draw(part, found, one, planes)
    return png(figure)


def _heading(found: LayerArithmetic) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in found.fields.items())
    sources = " and ".join(
        f"{name} {'x'.join(map(str, shape))}" for name, shape in zip(found.inputs, found.input_shapes, strict=True)
    )
    lines = [f"{found.layer}: {found.kind} ({fields}), {sources} -> {'x'.join(map(str, found.output_shape))}"]
    lines += ["   ".join(f"{step.axis}: {step.formula} = {step.size}" for step in found.shape_steps)]
    if found.loss is not None:
        lines += [f"loss = -log p({found.label}) = {found.loss.total:.4g}; delta is its gradient at the layer's output"]
    return "\n".join(part for line in lines if line for part in textwrap.wrap(line, 150))


def _planes(one: Calculation) -> list[tuple[tuple[int, ...], list[Term]]]:
    """The terms by channel (and depth, for volumes), the strongest few; one without terms for steps alone."""
    groups: dict[tuple[int, ...], list[Term]] = {}
    for term in one.terms:
        groups.setdefault((term.plane, *term.cell[:-2]), []).append(term)
    if not groups:
        return [((), [])]
    order = sorted(groups, key=lambda key: -abs(sum(term.product for term in groups[key])))
    return [(key, groups[key]) for key in sorted(order[:_PLANES])]


def _draw(part: SubFigure, found: LayerArithmetic, one: Calculation, planes: list[Any]) -> None:
    part.suptitle("\n".join(textwrap.wrap(f"{one.name} = {one.formula}", 150)), fontsize=9, x=0.01, ha="left")
    grid = part.subplots(len(planes), 5, squeeze=False)
    for row, (key, terms) in enumerate(planes):
        source, values, weights, products, goal = grid[row]
        if not terms:
            for panel in (source, values, weights, products):
                panel.set_axis_off()
            values.text(0, 0.5, "\n".join(_steps(one, 84)), fontsize=9, va="center", family="monospace")
            _goal(goal, found, one)
            continue
        if one.steps:
            source.set_axis_off()
            source.text(0, 0.5, "\n".join(_steps(one, 36, terms)), fontsize=6.5, va="center", family="monospace")
        else:
            _source(source, found, one, terms)
        alone = len(terms) > 1 and all(term.weight == 1 and not term.label for term in one.terms)
        where = _which(one, key)
        _terms(values, [term.value for term in terms], terms, f"{one.values}{where}", padding=True)
        if alone:  # a plain sum needs one grid
            weights.set_axis_off()
            products.set_axis_off()
        else:
            _terms(weights, [term.weight for term in terms], terms, f"× {one.weights}")
            _terms(products, [term.product for term in terms], terms, "= products")
        subtotal = f"sum {sum(term.product for term in terms):.4g}"
        (values if alone else products).set_xlabel(subtotal, fontsize=8)
        if row == 0:
            _goal(goal, found, one)
        else:
            goal.set_axis_off()
    last = grid[-1][4] if len(planes) > 1 else None
    text = _total(one, sum(len(terms) for _, terms in planes))
    if last is not None:
        last.text(0.0, 0.5, text, fontsize=8.5, va="center", transform=last.transAxes)
    else:
        grid[0][4].set_xlabel(text, fontsize=8)


def _which(one: Calculation, key: tuple[int, ...]) -> str:
    """Of several grids: which channel, or sample, and in volumes which slice of the window."""
    words = ""
    if len({term.plane for term in one.terms}) > 1:
        words += f", {'sample' if one.quantity.startswith('grad_w') else 'channel'} {key[0]}"
    if len({term.cell[:-2] for term in one.terms}) > 1:
        words += f", slice {','.join(map(str, key[1:]))}"
    return words


def _steps(one: Calculation, width: int, terms: Sequence[Term] = ()) -> list[str]:
    lines = [f"{step.name} = {step.formula} = {step.value:.5g}" for step in one.steps]
    lines += [f"product {number}: {term.label}" for number, term in enumerate(terms, 1) if term.label]
    return [part for line in lines for part in textwrap.wrap(line, width)]


def _total(one: Calculation, shown: int) -> str:
    lines = []
    if len(one.terms) > 1:
        lines.append(f"sum of all {len(one.terms):,} products {sum(term.product for term in one.terms):.5g}")
    if len(one.terms) > shown:
        lines.append(f"({len(one.terms) - shown:,} of them are not drawn)")
    if one.bias is not None:
        lines.append(f"+ bias {one.bias:.5g}")
    lines.append(f"= {one.total:.6g}")
    verdict = "agrees" if one.check.agrees else "DOES NOT AGREE"
    lines.append(f"{one.check.engine} engine {one.check.value:.6g}: {verdict}")
    return "\n".join([*lines, *(textwrap.fill(note, 40) for note in one.notes)])


def _terms(axes: Axes, numbers: Sequence[float], terms: Sequence[Term], title: str, padding: bool = False) -> None:
    """The numbers in their cells: a grid with the numbers written in while there is room, bars along one axis."""
    axes.set_title("\n".join(textwrap.wrap(title, 34)), fontsize=8, loc="left")
    if not terms[0].cell or len(terms) == 1:
        _cells(axes, np.array([numbers]), np.array([[padding and not terms[0].inside]]))
        return
    if len(terms[0].cell) == 1:
        if len(terms) <= _WRITTEN:
            _cells(axes, np.array([numbers]), np.array([[padding and not term.inside for term in terms]]))
        else:
            axes.bar(
                range(len(numbers)), numbers, width=1.0, color=["#b2182b" if n > 0 else "#2166ac" for n in numbers]
            )
            axes.axhline(0, color="black", lw=0.6)
            axes.tick_params(labelsize=7)
        return
    cells = [term.cell[-2:] for term in terms]
    low = [min(cell[axis] for cell in cells) for axis in (0, 1)]
    shape = [max(cell[axis] for cell in cells) - low[axis] + 1 for axis in (0, 1)]
    grid, outside = np.full(shape, np.nan), np.zeros(shape, bool)
    for cell, number, term in zip(cells, numbers, terms, strict=True):
        grid[cell[0] - low[0], cell[1] - low[1]] = number
        outside[cell[0] - low[0], cell[1] - low[1]] = padding and not term.inside
    _cells(axes, grid, outside)


def _cells(axes: Axes, grid: Array, outside: Array) -> None:
    reach = float(np.nanmax(np.abs(grid))) or 1.0
    axes.set(xticks=[], yticks=[])
    if max(grid.shape) > _WRITTEN:
        axes.imshow(grid, cmap=_COLOURS, vmin=-reach, vmax=reach)
        return
    axes.imshow(grid, cmap=_COLOURS, vmin=-1.6 * reach, vmax=1.6 * reach)  # pale, so that numbers can be read
    size = 8.5 if max(grid.shape) <= 4 else 7.0 if max(grid.shape) <= 5 else 5.2 if max(grid.shape) <= 7 else 3.8
    for (row, column), number in np.ndenumerate(grid):
        if np.isnan(number):
            continue
        padded = bool(outside[row, column])
        text = "pad" if padded else _short(float(number))
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color="#999999" if padded else "black")
    axes.set_xticks(np.arange(-0.5, grid.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, grid.shape[0]), minor=True)
    axes.grid(which="minor", color="#cccccc", lw=0.5)
    axes.tick_params(which="minor", length=0)


def _source(axes: Axes, found: LayerArithmetic, one: Calculation, terms: Sequence[Term]) -> None:
    """The map that the values were read from, and where."""
    name = {"output": "input", "grad_input": "grad_output"}.get(one.quantity)
    index = terms[0].index
    array = None if name is None else found.maps.get(name)
    if array is None or array.ndim != len(index):
        axes.set_axis_off()
        return
    label = found.inputs[0] if name == "input" else f"delta of {found.layer}"
    channel = index[-1]
    plane, kept = _plane(array, index)
    axes.set_title(
        "\n".join(textwrap.wrap(f"{label}, channel {channel}" if array.ndim > 1 else label, 34)), fontsize=8, loc="left"
    )
    _map(axes, plane)
    places = np.array([[term.index[i] for i in kept] for term in terms])
    if places.shape[1] == 2:
        (top, left), (bottom, right) = places.min(0), places.max(0)
    else:
        (top, left), (bottom, right) = (0, places.min()), (0, places.max())
    _frame(axes, top, left, bottom, right)


def _goal(axes: Axes, found: LayerArithmetic, one: Calculation) -> None:
    """The map in which the number stands, its place marked."""
    name = {"output": "output", "grad_input": "grad_input"}.get(one.quantity)
    array = None if name is None else found.maps.get(name)
    axes.set_title("\n".join(textwrap.wrap(one.name, 34)), fontsize=8, loc="left")
    if array is None or array.ndim != len(one.index):
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set_visible(False)
        axes.text(0.5, 0.5, f"{one.total:.5g}", ha="center", va="center", fontsize=14, transform=axes.transAxes)
        return
    plane, kept = _plane(array, one.index)
    _map(axes, plane)
    place = [one.index[i] for i in kept]
    row, column = place if len(place) == 2 else (0, place[0])
    _frame(axes, row, column, row, column)


def _plane(array: Array, index: Sequence[int]) -> tuple[Array, list[int]]:
    """What can be drawn of ``*spatial,C`` around an index: two axes of it, and which of the index they are."""
    if array.ndim >= 3:  # the last two spatial axes of one channel
        for outer in index[:-3]:
            array = array[outer]
        return array[..., index[-1]], [len(index) - 3, len(index) - 2]
    if array.ndim == 2:
        return array[None, :, index[-1]], [0]
    return array[None, :], [0]


def _map(axes: Axes, plane: Array) -> None:
    reach = float(np.abs(plane).max()) or 1.0
    if plane.shape[0] == 1 and plane.shape[1] > _WRITTEN:
        axes.imshow(plane, cmap=_COLOURS, vmin=-reach, vmax=reach, aspect="auto")
        axes.set_box_aspect(0.3)
    else:
        axes.imshow(plane, cmap=_COLOURS, vmin=-reach, vmax=reach)
    axes.set(xticks=[], yticks=[])


def _frame(axes: Axes, top: int, left: int, bottom: int, right: int) -> None:
    from matplotlib.patches import Rectangle

    box = Rectangle(
        (left - 0.5, top - 0.5), right - left + 1, bottom - top + 1, fill=False, ec=_MARK, lw=1.6, clip_on=False
    )
    axes.add_patch(box)


def _short(number: float) -> str:
    if number == int(number) and abs(number) < 1e5:
        return str(int(number))
    return (
        f"{number:.2f}"
        if 0.1 <= abs(number) < 100
        else f"{number:.3f}"
        if 0.001 <= abs(number) < 0.1
        else f"{number:.0e}"
    )
