"""A process's share of a batch: cut into pieces first, each piece then among the processes, all parts consecutive.

So a piece has the samples, and its layers draw the masks, that it would have with one process.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fovea.engines.world import World
from fovea.errors import ConfigError

__all__ = ["Part", "check_room", "own_parts", "own_positions"]


@dataclass(frozen=True)
class Part:
    """What one process computes of one piece of a batch. Pieces without samples have no part."""

    piece: int
    rows: slice
    """Among the samples of the batch that this process has."""
    begin: int
    """Position of the first sample in the whole batch."""
    first: int
    """Position of the first sample in the piece."""


def own_parts(count: int, pieces: int, world: World) -> list[Part]:
    """The parts of this process of a batch of ``count`` samples."""
    parts, done = [], 0
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    for piece, (low, high) in enumerate(itertools.pairwise(bounds)):
        share = world.share(high - low)
        if low < high:
            length = share.stop - share.start
            parts.append(Part(piece, slice(done, done + length), low + share.start, share.start))
            done += length
    return parts


def own_positions(count: int, pieces: int, world: World) -> npt.NDArray[np.int64]:
    """Positions in the batch of the samples that this process has."""
    parts: Sequence[Part] = own_parts(count, pieces, world)
    return np.concatenate([np.arange(p.begin, p.begin + p.rows.stop - p.rows.start) for p in parts]).astype(np.int64)


def check_room(batch_size: int, samples: int, pieces: int, world: World) -> None:
    """Raise ConfigError when a process would have no sample in some piece: all must take part in every average."""
    smallest = min(batch_size, samples) // pieces
    if world.size > 1 and smallest < world.size:
        words = f" in each of {pieces} pieces" if pieces > 1 else ""
        raise ConfigError(
            "batch_size",
            f"expected a sample for each of {world.size} processes{words}, got {min(batch_size, samples)} samples a "
            "batch; raise batch_size or start fewer processes",
        )
