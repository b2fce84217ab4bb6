"""The generator against the published vectors, and the properties that determinism rests on."""

from __future__ import annotations

import numpy as np
import pytest

from fovea import random


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's known-answer vectors for philox4x32-10 (Salmon et al. 2011)
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    assert tuple(int(word) for word in random.philox(counter, *key)) == expected


def test_bits_begin_with_the_block_of_counter_zero():
    words = random.bits(np.uint64(0), 6)
    assert [hex(word) for word in words[:4]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    assert (random.bits(np.uint64(0), 4) == words[:4]).all()


def test_keys_differ_by_seed_purpose_and_index():
    keys = {int(random.key(seed, purpose, i)) for seed in range(3) for purpose in ("order", "mask") for i in range(50)}
    assert len(keys) == 300


def test_arrays_of_keys_equal_single_draws():
    keys = random.fold_in(random.key(1, "augment"), np.arange(7))
    together = random.uniform(keys, 5)
    assert together.shape == (7, 5)
    for row, key in zip(together, keys, strict=True):
        assert (random.uniform(key, 5) == row).all()


def test_long_draws_cross_the_chunk_without_a_seam():
    words = random.bits(np.uint64(9), 600_000)
    assert (random.bits(np.uint64(9), 300_000) == words[:300_000]).all()
    assert len(np.unique(words[260_000:264_000])) > 3_990


def test_uniform_integers_and_normal_have_their_moments():
    key = random.key(3, "moments")
    unit = random.uniform(key, 100_000)
    assert unit.min() >= 0
    assert unit.max() < 1
    assert abs(unit.mean() - 0.5) < 0.005
    counts = np.bincount(random.integers(key, 60_000, 2, 8))
    assert counts[:2].sum() == 0
    assert (abs(counts[2:] - 10_000) < 500).all()
    draws = random.normal(key, 100_001)
    assert len(draws) == 100_001
    assert abs(draws.mean()) < 0.02
    assert abs(draws.std() - 1) < 0.02


def test_permutation_holds_every_number_once():
    order = random.permutation(random.key(0, "order", 1), 1000)
    assert (np.sort(order) == np.arange(1000)).all()
    assert (order != np.arange(1000)).sum() > 950
    assert (order == random.permutation(random.key(0, "order", 1), 1000)).all()
