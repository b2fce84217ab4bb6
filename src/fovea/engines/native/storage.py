"""Which values of a lowered program are stored as bfloat16, and the casts where a kernel wants something else.

Rules lower everything as float32. In a plan of precision bf16 this pass comes after them: convolutions read and write
bfloat16, and what lies between them follows, wherever the kernels in between have a form for it. Arithmetic inside of
kernels stays float32, and so does all that is not an activation or its gradient: parameters and their gradients,
statistics, losses, and whatever Python reads.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from fovea.engines.native.program import Bound, Buffer, Fixed, Instruction, Operand, Section

__all__ = ["stored_as_bf16"]

_CONVOLUTIONS = {
    "conv_forward": ((0,), (0,)),
    "conv_backward_data": ((0,), (0,)),
    "conv_backward_weight": ((), (0, 1)),
}
"""Activations among what an instruction writes, and among what it reads."""
_ALWAYS = frozenset({
    *_CONVOLUTIONS, "inverted_residual",
    "normed_pointwise_backward", "pointwise_between_norms", "pointwise_between_norms_backward",
})  # fmt: skip
"""Products of bfloat16 numbers whatever is around them."""


@lru_cache
def _forms() -> dict[str, int]:
    core = importlib.import_module("fovea.engines.native._core")
    forms: dict[str, int] = core.bf16_kernels()
    return forms


def _activations(one: Instruction) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Positions in ``outs`` and ``ins`` that are bfloat16 in the kernel's second form; None when it has none."""
    if one.kernel in _CONVOLUTIONS:
        return _CONVOLUTIONS[one.kernel]
    mask, written = _forms().get(one.kernel, 0), len(one.outs)
    if not mask:
        return None
    outs = tuple(i for i in range(written) if mask >> i & 1)
    return outs, tuple(i for i in range(len(one.ins)) if mask >> (written + i) & 1)


def stored_as_bf16(instructions: Sequence[Instruction]) -> list[Instruction]:
    """The instructions in the order of their sections, with other storage and the casts that it needs."""
    order = sorted(instructions, key=lambda one: one.section)
    for buffer in _chosen(order):
        buffer.dtype = "bfloat16"
    casts = _Casts()
    return [new for one in order for new in casts.around(one)]


# --- the choice


def _chosen(order: Sequence[Instruction]) -> list[Buffer]:
    """What products read, and activations that a kernel needs in the same type as one of them."""
    groups = _Groups(_candidates(order))
    read_by_products: list[Buffer] = []
    for one in order:
        positions = _activations(one)
        if positions is None:
            continue
        outs, ins = ([side[i] for i in found] for side, found in zip((one.outs, one.ins), positions, strict=True))
        if one.kernel in _ALWAYS:
            read_by_products += [value for value in ins if isinstance(value, Buffer)]
        if one.kernel not in _CONVOLUTIONS:
            groups.join([value for value in (*outs, *ins) if isinstance(value, Buffer)])
    return groups.members(read_by_products)


def _candidates(order: Sequence[Instruction]) -> set[Buffer]:
    """Values that Python does not read and that no kernel without a second form writes in parts."""
    candidates: set[Buffer] = set()
    writers: dict[Buffer, int] = {}
    plain: set[Buffer] = set()
    for one in order:
        positions = _activations(one) or ((), ())
        for side, found in zip((one.outs, one.ins), positions, strict=True):
            candidates.update(value for value in (side[i] for i in found) if isinstance(value, Buffer))
        for i, value in enumerate(one.outs):
            if isinstance(value, Buffer):
                writers[value] = writers.get(value, 0) + 1
                if i not in positions[0]:
                    plain.add(value)
    return {
        one
        for one in candidates
        if one.dtype == "float32" and one.per_sample and not one.pinned and not (one in plain and writers[one] > 1)
    }


class _Groups:
    """Buffers that have one type: sets that are joined."""

    def __init__(self, buffers: set[Buffer]) -> None:
        self._parent = {one: one for one in buffers}

    def _root(self, one: Buffer) -> Buffer:
        while self._parent[one] is not one:
            self._parent[one] = one = self._parent[self._parent[one]]
        return one

    def join(self, buffers: Sequence[Buffer]) -> None:
        """One group of all that are candidates."""
        roots = [self._root(one) for one in buffers if one in self._parent]
        for root in roots[1:]:
            self._parent[root] = roots[0]

    def members(self, some: Sequence[Buffer]) -> list[Buffer]:
        """All buffers of the groups of some."""
        roots = {self._root(one) for one in some if one in self._parent}
        return [one for one in self._parent if self._root(one) in roots]


# --- the casts


class _Casts:
    """Rewrites instructions one after the other. What was cast is used again: in its section, and what forward rounded
    in all later ones."""

    def __init__(self) -> None:
        self._cast: dict[tuple[int, str, Section], Buffer] = {}
        self._kept: list[Operand] = []  # so that no id is given away

    def around(self, one: Instruction) -> Iterator[Instruction]:
        """The instruction with operands of the types that it wants, behind and before the casts that this takes."""
        outs_wanted, ins_wanted, precision = self._wanted(one)
        ins, outs, behind = list(one.ins), list(one.outs), []
        for i, wanted in enumerate(ins_wanted):
            if wanted:
                ins[i], before = self._read(one, one.ins[i], wanted)
                yield from before
        for i, wanted in enumerate(outs_wanted):
            target = one.outs[i]
            if wanted and isinstance(target, Buffer) and target.dtype != wanted:
                outs[i] = source = Buffer(target.elements, wanted, target.per_sample)
                behind.append(_conversion(one, target, source, target))
        yield replace(one, outs=tuple(outs), ins=tuple(ins), precision=precision)
        yield from behind

    def _wanted(self, one: Instruction) -> tuple[list[str], list[str], str]:
        """The type of every operand where it matters, and the form of the kernel."""
        positions = _activations(one)
        outs, ins = (["float32" if _stored(value) else "" for value in side] for side in (one.outs, one.ins))
        if positions is None or not self._runs_as_bf16(one, *positions):
            return outs, ins, "fp32"
        for side, found in zip((outs, ins), positions, strict=True):
            for i in found:
                side[i] = "bfloat16"
        if one.kernel in _CONVOLUTIONS:
            outs = [""] * len(one.outs)  # it writes either type
        return outs, ins, "bf16"

    def _runs_as_bf16(self, one: Instruction, outs: tuple[int, ...], ins: tuple[int, ...]) -> bool:
        if one.kernel in _ALWAYS:
            return True
        written = [one.outs[i] for i in outs if one.outs[i] is not None]
        read = [one.ins[i] for i in ins if one.ins[i] is not None]
        return all(map(_stored, written)) and any(map(_stored, (*written, *read)))

    def _read(self, one: Instruction, value: Operand, wanted: str) -> tuple[Operand, list[Instruction]]:
        if value is None or value.dtype == wanted or value.dtype not in ("float32", "bfloat16"):
            return value, []
        sections = [one.section] if wanted == "float32" else [Section.FORWARD, one.section]
        for section in sections:
            if (id(value), wanted, section) in self._cast:
                return self._cast[id(value), wanted, section], []
        assert isinstance(value, (Buffer, Bound, Fixed))
        per_sample = not isinstance(value, Fixed) and (isinstance(value, Bound) or value.per_sample)
        elements = value.array.size if isinstance(value, Fixed) else value.elements
        result = Buffer(elements, wanted, per_sample)
        self._cast[id(value), wanted, one.section] = result
        self._kept.append(value)
        return result, [_conversion(one, result, value, result)]


def _stored(value: Operand) -> bool:
    return isinstance(value, Buffer) and value.dtype == "bfloat16"


def _conversion(one: Instruction, target: Operand, source: Operand, sized: Buffer) -> Instruction:
    """The cast of ``source`` into ``target``."""
    assert target is not None
    kernel = "narrow" if target.dtype == "bfloat16" else "widen"
    fixed_n = 0 if sized.per_sample else 1
    return Instruction(one.section, one.node, kernel, (target,), (source,), (sized.elements,), fixed_n=fixed_n)
