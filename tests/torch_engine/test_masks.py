"""Random masks of the PyTorch engine: fovea.random's words, from any position on."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fovea.ops as ops  # noqa: E402  # the engine needs PyTorch
from fovea import random  # noqa: E402
from fovea.engines.registry import get_engine  # noqa: E402
from fovea.engines.torch.philox import bits  # noqa: E402
from fovea.graph.compose import Sequential, build  # noqa: E402
from fovea.graph.store import ParameterStore  # noqa: E402


@pytest.mark.parametrize("start", [0, 1, 3, 4, 1000, (1 << 34) + 7])
def test_words_are_those_of_fovea_random(start: int) -> None:
    key = random.key(7, "dropout:a", 3)
    words = torch.tensor([int(key) & 0xFFFFFFFF, int(key) >> 32])
    ours = bits(words, torch.tensor(start), 13).numpy()
    block = np.arange(start // 4, start // 4 + 5, dtype=np.uint64)
    low, high = np.uint64(key) & np.uint64(0xFFFFFFFF), np.uint64(key) >> np.uint64(32)
    counter = (block & np.uint64(0xFFFFFFFF), block >> np.uint64(32), np.uint64(0), np.uint64(0))
    expected = np.stack(random.philox(counter, low, high), 1).reshape(-1)[start % 4 :][:13]
    np.testing.assert_array_equal(ours, expected)
    if start < 2000:
        np.testing.assert_array_equal(ours, random.bits(key, start + 13)[start:])


@pytest.mark.parametrize("op", [ops.Dropout(0.4), ops.StochasticDepth(0.4)])
def test_a_batch_in_two_shares_has_the_masks_of_the_whole(op: ops.Op) -> None:
    graph = build(Sequential(op), (3, 5, 7))
    plan = get_engine("torch").compile(graph, ParameterStore.for_graph(graph, seed=2), batch_size=9, training=True)
    x = np.ones((9, 3, 5, 7), np.float32)
    whole = plan.forward(x, step=4)
    parts = []
    for low, high in ((0, 4), (4, 9)):
        plan.first_sample = low
        parts.append(plan.forward(x[low:high], step=4))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert 0.1 < (whole == 0).mean() < 0.8
