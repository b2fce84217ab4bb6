"""What one number of a layer is made of, as plain records: terms, steps, the total, and what the engine says.

Every record has ``to_dict()``, which gives what JSON can hold. Indices belong to one sample (``*position, channel``);
sums over a batch put the sample first and say so in ``Calculation.formula``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Calculation", "Check", "LayerArithmetic", "ShapeStep", "Step", "Term", "calculation"]

Array = npt.NDArray[Any]
Index = tuple[int, ...]

_EPS = float(np.finfo(np.float32).eps)
_TINY = float(np.finfo(np.float32).tiny)  # what is smaller may be flushed to 0
_ROUNDINGS = 8.0  # of the factors themselves, the bias, the result; sums of n terms add sqrt(n) (see Check)


class _Record:
    """A frozen dataclass that JSON can hold."""

    def to_dict(self) -> dict[str, Any]:
        """Fields by name, records within records too; arrays for drawing are left out."""
        shown = [one for one in dataclasses.fields(self) if one.metadata.get("plain", True)]  # type: ignore[arg-type]
        return {one.name: _plain(getattr(self, one.name)) for one in shown}


def _plain(value: Any) -> Any:
    if isinstance(value, _Record):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value


@dataclass(frozen=True)
class Term(_Record):
    """One product of a sum: ``product = value * weight``.

    ``index``: where the value stands in its array; ``weight_index``: where the weight stands in its own, None for a
    factor that is no array's element (1 / count, an indicator). ``cell``: its place when the terms are laid out as a
    grid, such as a patch; ``plane``: which of several grids, mostly the channel. ``inside``: False for padding, whose
    value is 0. ``label``: what the term is, where its place says too little.
    """

    index: Index
    value: float
    weight_index: Index | None
    weight: float
    product: float
    cell: Index = ()
    plane: int = 0
    inside: bool = True
    label: str = ""


@dataclass(frozen=True)
class Step(_Record):
    """One line of a formula with numbers put in: ``name = formula = value``."""

    name: str
    formula: str
    value: float


@dataclass(frozen=True)
class ShapeStep(_Record):
    """The size of one axis of the output, worked out: ``formula = size``."""

    axis: str
    formula: str
    size: int


@dataclass(frozen=True)
class Check(_Record):
    """The total beside the engine's float32 number: they agree within ``k * eps * magnitude``.

    ``magnitude`` is the sum of the absolute terms and eps float32's 2^-23. ``k = 8 + sqrt(n)``: rounding errors of a
    sum of n terms grow like sqrt(n) in any order (Higham and Mary 2019), and there are a few more of factors, bias and
    result. Where the engine computes tiles of a 3x3 convolution by Winograd's algorithm, an error is as large as the
    tile's largest sums make it: ``magnitude`` is then a bound on these, and ``k`` is 16 more.
    """

    engine: str
    value: float
    difference: float
    k: float
    magnitude: float
    tolerance: float
    agrees: bool


@dataclass(frozen=True)
class Calculation(_Record):
    """One number, worked out: ``total = bias + sum of products``, or the last of ``steps``.

    ``quantity``: output, grad_input, grad_weight, grad_bias, loss. ``array``: the array in which the number stands at
    ``index``. ``values``, ``weights``: what the two factors of every term are. ``notes``: what is worth knowing, such
    as which element of a window won.
    """

    quantity: str
    array: str
    index: Index
    formula: str
    total: float
    check: Check
    values: str = "value"
    weights: str = "weight"
    terms: tuple[Term, ...] = ()
    bias: float | None = None
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``array[index]``, as a person writes it."""
        return f"{self.array}[{', '.join(map(str, self.index))}]" if self.index else self.array


@dataclass(frozen=True)
class LayerArithmetic(_Record):
    """One layer of a network at one place, with the live numbers of one image.

    ``direction``: "forward" (one calculation, the output) or "backward" (the gradient of the loss at one element of
    each input and, where there are any, at one weight and its bias). ``at`` and ``channel`` count in the output
    forward, in the input backward. ``fields``: how the layer was declared. ``loss``: where the gradient starts.
    ``maps``: by name, the arrays around the numbers, ``*spatial`` of the one channel, for drawing alone.
    """

    layer: str
    kind: str
    direction: str
    training: bool
    fields: dict[str, Any]
    inputs: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    parameter_shapes: dict[str, tuple[int, ...]]
    shape_steps: tuple[ShapeStep, ...]
    at: Index
    channel: int
    calculations: tuple[Calculation, ...]
    loss: Calculation | None = None
    target: int | None = None
    label: str | None = None
    maps: dict[str, Array] = field(default_factory=dict, metadata={"plain": False}, compare=False, repr=False)

    @property
    def agrees(self) -> bool:
        """Whether every number is the engine's."""
        every = self.calculations if self.loss is None else (*self.calculations, self.loss)
        return all(one.check.agrees for one in every)


def calculation(
    quantity: str, array: str, index: Index, formula: str, engine: str, found: float, *, terms: tuple[Term, ...] = (),
    bias: float | None = None, steps: tuple[Step, ...] = (), total: float | None = None,
    magnitude: float | None = None, extra: float = 0.0, count: int | None = None, **texts: Any,
) -> Calculation:  # fmt: skip
    """A calculation with its total, in float64, and its check against what the engine found.

    ``total``: of steps (terms are added up). ``magnitude``: where it is not the sum of the absolute terms; ``extra``:
    added to k; ``count``: how many terms were added up, when not those listed.
    """
    summed = math.fsum([term.product for term in terms] + ([] if bias is None else [bias]))
    value = summed if total is None else total
    size = sum(abs(term.product) for term in terms) + abs(bias or 0.0)
    size = size if magnitude is None else max(size, magnitude)
    k = _ROUNDINGS + math.sqrt(len(terms) if count is None else count) + extra
    tolerance = k * (_EPS * size + _TINY)
    difference = abs(value - found)
    agrees = difference <= tolerance or (math.isnan(value) and math.isnan(found))
    check = Check(engine, found, difference, k, size, tolerance, agrees)
    return Calculation(
        quantity, array, index, formula, value, check, terms=terms, bias=bias, steps=steps, **texts
    )  # fmt: skip
