"""The order of a streamed epoch: integers alone, every sample once, any step without the steps before it."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.data.shards.order import Order, lanes_for

COUNTS = [
    [7, 7, 7, 7, 7, 7, 7, 4], [1], [100], [0, 5, 0, 0, 9, 0], [3] * 40, [1000, 1, 1, 500], [64] * 16,
]  # fmt: skip


def walked(order: Order) -> list[int]:
    """Offsets in the epoch's sequence, in the order in which samples come."""
    found = []
    for step in range(-(-len(order) // order.batch_size)):
        chunks = order.chunks(step)
        assert sum(chunk.last - chunk.first for chunk in chunks) == min(
            order.batch_size, len(order) - step * order.batch_size
        )
        for lane, first, last in chunks:
            for position in range(first, last):
                block = order.block_of(lane, position)
                positions = order.block(lane, block)
                assert position in positions
                inside = order.within(lane, block)[position - positions.start]
                found.append(order.start(lane) + positions.start + int(inside))
    return found


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("batch", "buffer"), [(1, 1), (16, 5), (64, 32), (128, 8192), (33, 100)])
def test_every_sample_comes_once_an_epoch(counts: list[int], batch: int, buffer: int) -> None:
    order = Order(counts, batch, buffer, seed=3, epoch=1)
    assert sorted(walked(order)) == list(range(sum(counts)))


@pytest.mark.parametrize("counts", COUNTS)
def test_a_place_is_a_shard_and_a_number_in_it(counts: list[int]) -> None:
    order = Order(counts, 16, 8, seed=1, epoch=0)
    places = [order.place(offset) for offset in range(len(order))]
    found = {(int(order.shards[turn]), ordinal) for turn, ordinal in places}
    assert found == {(shard, ordinal) for shard, count in enumerate(counts) for ordinal in range(count)}


def test_lanes_are_consecutive_and_of_equal_length() -> None:
    order = Order([10, 20, 30, 41], 64, 50, seed=0, epoch=0)
    assert order.lanes == 4
    lengths = [order.length(lane) for lane in range(4)]
    assert lengths == [26, 25, 25, 25]
    assert [order.start(lane) for lane in range(4)] == [0, 26, 51, 76]


@pytest.mark.parametrize(
    ("shards", "batch", "lanes"), [(1, 512, 1), (8, 15, 1), (8, 128, 8), (7, 128, 4), (500, 100, 4), (500, 8192, 64)]
)
def test_the_number_of_lanes_is_a_power_of_two(shards: int, batch: int, lanes: int) -> None:
    assert lanes_for(shards, batch) == lanes


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def once(seed: int, epoch: int) -> list[int]:
        return walked(Order([64] * 16, 64, 40, seed=seed, epoch=epoch))

    assert once(1, 2) == once(1, 2)
    assert len({tuple(once(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


def test_neighbours_are_far_from_each_other() -> None:
    """Within a lane of 4096 samples and blocks of 1024, the mean distance of followers is a third of a block."""
    order = Order([4096], 16, 1024, seed=0, epoch=0)
    distances = np.abs(np.diff(walked(order)))
    assert 250 < distances.mean() < 450


def test_blocks_hold_other_samples_in_every_epoch() -> None:
    """Equal shards, as long as a block: without the phase a block would always be one shard."""
    for epoch in range(4):
        order = Order([32] * 8, 16, 32, seed=0, epoch=epoch)
        first = order.block(0, 1)
        shards = {order.place(order.start(0) + position).turn for position in first}
        assert len(shards) == 2, epoch


def test_without_shuffling_samples_come_as_they_lie() -> None:
    assert walked(Order([3, 0, 9, 5], 4, 6, seed=0, epoch=0, shuffle=False)) == list(range(17))
