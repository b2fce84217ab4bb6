"""Shares of a batch: every sample once, whatever the number of processes and pieces; the loader prepares the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fovea.data.augment import Augment
from fovea.data.loader import Loader
from fovea.data.mix import MixUp
from fovea.engines.world import World
from fovea.errors import ConfigError
from fovea.training.evaluation import own_share
from fovea.training.share import check_room, own_parts, own_positions
from tests.training.small_training import small_data


def processes(size: int) -> list[World]:
    """What the processes of a world know of themselves."""
    worlds = []
    for rank in range(size):
        world = World()
        world.rank, world.size = rank, size
        worlds.append(world)
    return worlds


@pytest.mark.parametrize("count", [12, 13, 17])
@pytest.mark.parametrize("pieces", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_cover_every_piece_in_order(count: int, pieces: int, size: int) -> None:
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    found: dict[int, list[int]] = {piece: [] for piece in range(pieces)}
    for world in processes(size):
        positions = own_positions(count, pieces, world)
        for part in own_parts(count, pieces, world):
            own = positions[part.rows]
            assert own[0] == part.begin == bounds[part.piece] + part.first
            found[part.piece] += own.tolist()
    assert [found[piece] for piece in range(pieces)] == [
        list(range(low, high)) for low, high in itertools.pairwise(bounds)
    ]


def test_shares_differ_by_one_sample_at_most() -> None:
    lengths = [len(own_positions(128, 1, world)) for world in processes(3)]
    assert sum(lengths) == 128
    assert max(lengths) - min(lengths) == 1


@pytest.mark.parametrize("mix", [None, MixUp(0.4)])
def test_the_loader_gives_each_process_its_part_of_the_same_batch(mix: MixUp | None) -> None:
    split = small_data(45).train
    augment = Augment.from_names("flip,shift_crop", "image", (6, 6, 1))
    options = {"seed": 3, "epoch": 2, "augment": augment, "mix": mix, "workers": 0}
    whole = list(Loader(split, 16, **options))
    parts = [
        list(Loader(split, 16, **options, own=lambda count, world=world: own_positions(count, 2, world)))
        for world in processes(3)
    ]
    for step, batch in enumerate(whole):
        order = np.concatenate([own_positions(len(batch), 2, world) for world in processes(3)])
        assert sorted(order) == list(range(len(batch)))
        for name in ("inputs", "targets", "indices"):
            joined = np.concatenate([getattr(part[step], name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(batch, name)[order])


def test_validation_is_split_in_order_unless_there_are_too_few_samples() -> None:
    val = small_data(45, val=15).splits["val"]
    parts = [own_share(val, world).indices for world in processes(4)]
    np.testing.assert_array_equal(np.concatenate(parts), val.indices)
    few = val.take([0, 1])
    assert all(own_share(few, world) is few for world in processes(3))


def test_a_batch_too_small_for_the_processes_is_refused() -> None:
    check_room(12, 100, 4, processes(3)[0])
    with pytest.raises(ConfigError, match=r"\[batch_size\] expected a sample for each of 3 processes in each of 4 pie"):
        check_room(11, 100, 4, processes(3)[0])
    with pytest.raises(ConfigError, match="for each of 3 processes, got 2 samples a batch; raise batch_size or start"):
        check_room(16, 2, 1, processes(3)[0])
    check_room(1, 1, 1, World())
