"""Where buffers lie in the arena: liveness, memory shared in place, and offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fovea.engines.native.program import Buffer, Instruction, Section

__all__ = ["Layout", "plan_memory"]


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


def plan_memory(instructions: Sequence[Instruction], capacity: int) -> Layout:
    """Offsets for all buffers that the instructions (in order of their sections) name.

    A buffer lives from the first instruction that names it to the last. What the forward pass leaves for a later
    section lives to the end: backward may then run several times after one forward. Pinned buffers do so as well.
    """
    blocks = _blocks(instructions, capacity)
    placed: list[_Block] = []
    total = 0
    for block in sorted(blocks, key=lambda one: (-one.size, one.start)):  # greedy by size (Pisarchyk and Lee 2020)
        block.offset = _gap(block, placed)
        placed.append(block)
        total = max(total, block.offset + block.size)
    return Layout({buffer: block.offset for block in blocks for buffer in block.buffers}, total)


def _gap(block: _Block, placed: Sequence[_Block]) -> int:
    """The lowest offset at which the block meets none that lives at the same time."""
    offset = 0
    for other in sorted((one for one in placed if one.start <= block.end and block.start <= one.end), key=_offset):
        if other.offset - offset >= block.size:
            break
        offset = max(offset, other.offset + other.size)
    return offset


def _offset(block: _Block) -> int:
    return block.offset


def _blocks(instructions: Sequence[Instruction], capacity: int) -> list[_Block]:
    last = len(instructions)
    lives = _lives(instructions)
    blocks: dict[Buffer, _Block] = {}
    for index, instruction in enumerate(instructions):
        for buffer in _buffers(instruction):
            if buffer in blocks:
                continue
            start, end = lives[buffer]
            shared = _shared(instruction, buffer, index, lives, last)
            free = shared is not None and blocks[shared].buffers[-1] is shared  # not given away to another result
            if shared is not None and free and blocks[shared].size == buffer.bytes(capacity):
                block = blocks[shared]
                block.end = max(block.end, end)
            else:
                block = _Block(buffer.bytes(capacity), start, end)
            block.buffers.append(buffer)
            blocks[buffer] = block
    unique = {id(block): block for block in blocks.values()}
    return list(unique.values())


def _buffers(instruction: Instruction) -> list[Buffer]:
    return [operand for operand in (*instruction.ins, *instruction.outs) if isinstance(operand, Buffer)]


def _lives(instructions: Sequence[Instruction]) -> dict[Buffer, tuple[int, int]]:
    """First and last instruction of every buffer; the end of the program for what must stay."""
    lives: dict[Buffer, tuple[int, int]] = {}
    born: dict[Buffer, Section] = {}
    for index, instruction in enumerate(instructions):
        for buffer in _buffers(instruction):
            first = lives.setdefault(buffer, (index, index))[0]
            section = born.setdefault(buffer, instruction.section)
            stays = buffer.pinned or (section <= Section.FORWARD and instruction.section > section)
            lives[buffer] = (first, len(instructions) if stays else max(index, lives[buffer][1]))
    return lives


def _shared(
    instruction: Instruction, buffer: Buffer, index: int, lives: dict[Buffer, tuple[int, int]], last: int
) -> Buffer | None:
    """The buffer in whose place this one may be written: read by the same instruction and by none later."""
    for written, read in instruction.inplace:
        source = instruction.ins[read]
        if instruction.outs[written] is not buffer or not isinstance(source, Buffer):
            continue
        if not source.pinned and lives[source][1] == index and index != last:
            return source
    return None
