"""What ``fovea explain --arithmetic`` prints: the numbers as grids or lists, the total, and the engine's beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fovea.cli.output import columns

if TYPE_CHECKING:
    from fovea.explain.arithmetic import Calculation, Check, LayerArithmetic, Term

__all__ = ["arithmetic_text"]

_SIDE = 12  # a grid up to this size is printed whole; of a larger sum the largest terms
_BESIDE = 6  # columns that three grids may have side by side
_PLANES, _LISTED, _CLASSES = 3, 10, 5


def arithmetic_text(found: LayerArithmetic) -> str:
    """The whole view, as a person reads it."""
    fields = "  ".join(f"{name}={_field(value)}" for name, value in found.fields.items())
    sources = ", ".join(f"{name} {_shape(shape)}" for name, shape in zip(found.inputs, found.input_shapes, strict=True))
    lines = [f"{found.layer}: {found.kind}  {fields}".rstrip(), f"  {sources} -> {_shape(found.output_shape)}"]
    if found.parameter_shapes:
        lines.append("  " + ", ".join(f"{name} {_shape(shape)}" for name, shape in found.parameter_shapes.items()))
    lines += [f"  {step.axis}: {step.formula} = {step.size}" for step in found.shape_steps]
    if found.training:
        lines.append("  in training: normalised with the statistics of these samples")
    if found.loss is not None:
        lines += ["", f"loss of class {found.label} (softmax cross-entropy), where the gradient starts"]
        lines += [*_steps(found.loss), *_terms(found.loss), *_end(found.loss)]
    for one in found.calculations:
        lines += ["", f"{one.name}", f"  = {one.formula}", *_steps(one), *_terms(one), *_end(one)]
    return "\n".join(lines)


def _steps(one: Calculation) -> list[str]:
    wide = max((len(step.name) for step in one.steps), default=0)
    return [f"  {step.name.ljust(wide)}  {_number(step.value):>12}  {step.formula}" for step in one.steps]


def _terms(one: Calculation) -> list[str]:
    if not one.terms:
        return []
    planes: dict[int, list[Term]] = {}
    for term in one.terms:
        planes.setdefault(term.plane, []).append(term)
    flat = all(len(term.cell) == 2 and max(term.cell) < _SIDE for term in one.terms)
    if not flat or any(term.label for term in one.terms) or len(one.terms) < 2:
        return _list(one)
    by_size = sorted(planes, key=lambda plane: -abs(sum(term.product for term in planes[plane])))
    wide = 1 + max(term.cell[1] for term in one.terms) > _BESIDE
    shown = by_size[: 1 if wide else _PLANES]
    plane_name = "sample" if one.quantity in ("grad_weight", "grad_bias") else "channel"
    lines: list[str] = []
    for plane in sorted(shown):
        if len(planes) > 1:
            lines.append(f"  {plane_name} {plane}, sum {_number(sum(term.product for term in planes[plane]))}")
        lines += _grids(one, planes[plane], stacked=wide)
    rest = [term.product for plane, terms in planes.items() if plane not in shown for term in terms]
    if rest:
        lines.append(f"  the other {len(planes) - len(shown)} {plane_name}s add {_number(sum(rest))}")
    return lines


def _grids(one: Calculation, terms: Sequence[Term], stacked: bool) -> list[str]:
    """The patch, the filter and their product, side by side or below each other; padding in brackets."""
    alone = all(term.weight == 1 for term in terms)  # a plain sum needs one grid
    names = [("value", one.values), ("weight", one.weights), ("product", "product")][: 1 if alone else 3]
    blocks = [_grid(column, head, terms) for column, head in names]
    if stacked or alone:
        return [f"    {line}" for block in blocks for line in block]
    middle = 1 + (len(blocks[0]) - 1) // 2
    lines = []
    for row, cells in enumerate(zip(*blocks, strict=True)):
        signs = (" x ", " = ") if row == middle else ("   ", "   ")
        lines.append(f"    {cells[0]}{signs[0]}{cells[1]}{signs[1]}{cells[2]}".rstrip())
    return lines


def _grid(column: str, head: str, terms: Sequence[Term]) -> list[str]:
    """One grid below its head, all lines of one width; small and large numbers share a power of ten."""
    height, width = (1 + max(term.cell[axis] for term in terms) for axis in (0, 1))
    values = [float(getattr(term, column)) for term in terms]
    largest = max(map(abs, values))
    whole = all(value == int(value) for value in values) and largest < 1e6
    power = 0 if whole or largest == 0 or 0.1 <= largest < 1000 else math.floor(math.log10(largest))
    cells = [[""] * width for _ in range(height)]
    for term, value in zip(terms, values, strict=True):
        text = "0" if value == 0 else str(int(value)) if whole else f"{value / 10.0**power:.3f}"
        cells[term.cell[0]][term.cell[1]] = text if term.inside or column == "weight" else f"({text})"
    wide = max(len(text) for row in cells for text in row)
    lines = [
        head + (f" (x 1e{power})" if power else ""),
        *(" ".join(text.rjust(wide) for text in row) for row in cells),
    ]
    full = max(map(len, lines))
    return [line.ljust(full) for line in lines]


def _list(one: Calculation) -> list[str]:
    """The largest terms, one a line."""
    limit = _CLASSES if one.quantity == "loss" else _LISTED
    shown = one.terms
    if len(shown) > limit:
        shown = tuple(sorted(one.terms, key=lambda term: -abs(term.product))[:limit])
    columns_ = [
        ("at", [_index(term.index) for term in shown]),
        ("", [term.label or ("" if term.inside else "padding") for term in shown]),
        (one.values, [_number(term.value) for term in shown]),
        (one.weights, [_number(term.weight) for term in shown]),
        ("gradient" if one.quantity == "loss" else "product", [_number(term.product) for term in shown]),
    ]
    if one.quantity == "loss" or all(term.weight == 1 for term in one.terms):
        del columns_[3 if one.quantity == "loss" else slice(3, 5)]
    if not any(columns_[1][1]):
        del columns_[1]
    head = [name for name, _ in columns_]
    rows = list(zip(*(cells for _, cells in columns_), strict=True))
    lines = [f"    {line}" for line in columns(head, rows, left=2 if "" in head else 1).splitlines()]
    left = len(one.terms) - len(shown)
    if left:
        rest = sum(term.product for term in one.terms) - sum(term.product for term in shown)
        lines.append(f"    the other {left:,} {'terms add' if left > 1 else 'term adds'} {_number(rest)}")
    return lines


def _end(one: Calculation) -> list[str]:
    lines = [f"  {note}" for note in one.notes]
    if one.terms and one.quantity != "loss" and (len(one.terms) > 1 or one.bias is not None):
        parts = f"sum of {len(one.terms):,} products" if len(one.terms) > 1 else "product"
        summed = _number(sum(term.product for term in one.terms))
        if one.bias is not None:
            lines.append(f"  {parts} {summed} + bias {_number(one.bias)} = {_number(one.total)}")
        else:
            lines.append(f"  {parts} = {_number(one.total)}")
    return [*lines, f"  {_check(one.check)}"]


def _check(check: Check) -> str:
    verdict = "agrees" if check.agrees else "DOES NOT AGREE"
    allowed = f"{check.k:.1f} eps x {check.magnitude:.3g}"
    return (
        f"the {check.engine} engine has {_number(check.value)}: {verdict}, {check.difference:.1e} apart, allowed "
        f"{check.tolerance:.1e} ({allowed})"
    )


def _number(value: float) -> str:
    return f"{value + 0.0:.6g}"  # a negative zero reads as 0


def _index(index: Sequence[int]) -> str:
    return ",".join(map(str, index))


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) if shape else "one number"


def _field(value: object) -> str:
    return str(value).replace(" ", "")
