"""Where buffers lie in the arena: liveness, memory shared in place, and offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fovea.engines.native.program import ALIGNMENT, Buffer, Instruction, Section

__all__ = ["Layout", "plan_memory"]

_LARGE = 1 << 16
_STAGGER = 13 * ALIGNMENT
"""Behind large buffers. Their sizes are often multiples of large powers of two: side by side, what a kernel reads and
writes of several of them at one time would fall into the same sets of every cache."""


@dataclass
class _Block:
    """Buffers that share one place, and the instructions between which it is taken."""

    size: int
    start: int
    end: int
    buffers: list[Buffer] = field(default_factory=list)
    offset: int = 0


@dataclass(frozen=True)
class Layout:
    """Byte offset of every buffer, and the size of the arena."""

    offsets: dict[Buffer, int]
    arena_bytes: int


def plan_memory(instructions: Sequence[Instruction], capacity: int, backward_again: bool = True) -> Layout:
    """Offsets for all buffers that the instructions (in order of their sections) name.

    A buffer lives from the first instruction that names it to the last. Pinned buffers live to the end, and so does
    what was derived from weights. With ``backward_again``, what the forward pass leaves for a later section lives to
    the end as well: backward may then run several times after one forward.
    """
    blocks = _blocks(instructions, capacity, Section.FORWARD if backward_again else Section.PREPARE)
    placed = _Placed(len(blocks))
    total = 0
    for block in sorted(blocks, key=lambda one: (-one.size, one.start)):  # greedy by size (Pisarchyk and Lee 2020)
        placed.add(block)
        total = max(total, block.offset + block.size)
    return Layout({buffer: block.offset for block in blocks for buffer in block.buffers}, total)


class _Placed:
    """Blocks that have their place, in order of their offsets: a row each of offset, size, start and end.

    As arrays, because every new block is compared with all of them: some thousand nodes still take less than a second.
    """

    def __init__(self, most: int) -> None:
        self._rows = np.zeros((4, most), np.int64)
        self._count = 0

    def add(self, block: _Block) -> None:
        """Place a block at the lowest offset where it meets none that lives at the same time."""
        offsets, sizes, starts, ends = self._rows[:, : self._count]
        meeting = np.nonzero((starts <= block.end) & (ends >= block.start))[0]
        below = np.zeros(len(meeting) + 1, np.int64)  # where what lies below each meeting block ends
        np.maximum.accumulate(offsets[meeting] + sizes[meeting], out=below[1:])
        fits = np.nonzero(offsets[meeting] - below[:-1] >= block.size)[0]
        block.offset = int(below[fits[0]] if len(fits) else below[-1])
        at = int(np.searchsorted(offsets, block.offset))
        self._rows[:, at + 1 : self._count + 1] = self._rows[:, at : self._count]
        self._rows[:, at] = block.offset, block.size, block.start, block.end
        self._count += 1


def _blocks(instructions: Sequence[Instruction], capacity: int, lasting: Section) -> list[_Block]:
    last = len(instructions)
    lives = _lives(instructions, lasting)
    blocks: dict[Buffer, _Block] = {}
    for index, instruction in enumerate(instructions):
        for buffer in _buffers(instruction):
            if buffer in blocks:
                continue
            start, end = lives[buffer]
            shared = _shared(instruction, buffer, index, lives, last)
            free = shared is not None and blocks[shared].buffers[-1] is shared  # not given away to another result
            if shared is not None and free and blocks[shared].size == _room(buffer, capacity):
                block = blocks[shared]
                block.end = max(block.end, end)
            else:
                block = _Block(_room(buffer, capacity), start, end)
            block.buffers.append(buffer)
            blocks[buffer] = block
    unique = {id(block): block for block in blocks.values()}
    return list(unique.values())


def _room(buffer: Buffer, capacity: int) -> int:
    size = buffer.bytes(capacity)
    return size + _STAGGER if size >= _LARGE else size


def _buffers(instruction: Instruction) -> list[Buffer]:
    return [operand for operand in (*instruction.ins, *instruction.outs) if isinstance(operand, Buffer)]


def _lives(instructions: Sequence[Instruction], lasting: Section) -> dict[Buffer, tuple[int, int]]:
    """First and last instruction of every buffer; the end of the program for what must stay.

    What sections up to ``lasting`` leave for later ones stays.
    """
    lives: dict[Buffer, tuple[int, int]] = {}
    born: dict[Buffer, Section] = {}
    for index, instruction in enumerate(instructions):
        for buffer in _buffers(instruction):
            first = lives.setdefault(buffer, (index, index))[0]
            section = born.setdefault(buffer, instruction.section)
            stays = buffer.pinned or (section <= lasting and instruction.section > section)
            lives[buffer] = (first, len(instructions) if stays else max(index, lives[buffer][1]))
    return lives


def _shared(
    instruction: Instruction, buffer: Buffer, index: int, lives: dict[Buffer, tuple[int, int]], last: int
) -> Buffer | None:
    """The buffer in whose place this one may be written: read by the same instruction and by none later.

    Nor as another operand: a convolution added to its own input reads that elsewhere than where it writes.
    """
    reads = {read for _, read in instruction.inplace}
    for written, read in instruction.inplace:
        source = instruction.ins[read]
        if instruction.outs[written] is not buffer or not isinstance(source, Buffer):
            continue
        elsewhere = any(one is source and i not in reads for i, one in enumerate(instruction.ins))
        if not elsewhere and not source.pinned and lives[source][1] == index and index != last:
            return source
    return None
