"""Several training plans of one store, as trainings on pictures of several sizes have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.reference import ReferenceEngine
from fovea.engines.registry import ENGINES
from fovea.graph.compose import Sequential, build
from tests.engines.engine_list import load
from tests.engines.test_plans import filled


@pytest.mark.parametrize("name", ENGINES)
def test_plans_of_one_store_may_take_turns(name: str) -> None:
    """AdamW's correction of its start counts the updates of all of them."""
    graph = build(
        Sequential(ops.Conv(4, 3, padding="same"), ops.ReLU(), ops.GlobalAvgPool(), ops.Dense(3)), (None, None, 2)
    )
    stores = []
    for one in (load(name), ReferenceEngine(np.float64)):
        store = filled(graph)
        options: dict[str, Any] = {"training": True, "loss": ops.SoftmaxCrossEntropy(), "optimizer": ops.AdamW()}
        plans = [one.compile(graph, store, batch_size=4, input_shape=(n, n, 2), **options) for n in (5, 6)]
        draws = np.random.default_rng(0)
        for number in range(9):
            x = draws.standard_normal((4, 5 + number % 2, 5 + number % 2, 2)).astype(np.float32)
            plans[number % 2].train_step(x, draws.integers(0, 3, 4), lr=0.01)
        stores.append(store)
    for path, array in stores[1].parameters.items():
        np.testing.assert_allclose(stores[0].parameters[path], array, atol=1e-4, err_msg=path)
