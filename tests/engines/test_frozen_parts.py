"""Below the lowest trained layer nothing is random but the dropout that this layer reads; on every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea
import fovea.ops as ops
from fovea.engines.base import Engine
from fovea.engines.registry import available_engines
from fovea.engines.spec import prepare
from fovea.graph.compose import Residual, Sequential, build
from fovea.graph.graph import Graph
from tests.engines.engine_list import load
from tests.native.networks import filled


@pytest.fixture(params=available_engines())
def engine(request: pytest.FixtureRequest) -> Engine:
    return load(request.param)


def network() -> Graph:
    """Dropout before a convolution, stochastic depth in two residual blocks, dropout before the head."""
    body = Sequential(ops.Conv(6, 3, padding="same"), ops.ReLU(), ops.StochasticDepth(0.5))
    other = Sequential(ops.Conv(6, 1), ops.StochasticDepth(0.5))
    return build(
        Sequential(
            {"stem": ops.Conv(6, 3)}, {"inside": ops.Dropout(0.5)}, {"block1": Residual(body)},
            {"block2": Residual(other)}, ops.GlobalAvgPool(), {"outside": ops.Dropout(0.5)}, ops.Flatten(),
            {"head": ops.Dense(4)},
        ),
        (8, 8, 3),
    )  # fmt: skip


CASES: dict[str, tuple[Any, set[str]]] = {
    "the head": (["head"], {"inside", "block1.stochasticdepth1", "block2.stochasticdepth1"}),
    "the last block": (["block2", "head"], {"inside", "block1.stochasticdepth1"}),
    "one that reads a dropout": (["block1.conv1"], {"inside"}),
    "all that read a dropout": (["block1", "block2", "head"], set()),
    "the stem": (["stem.bias"], set()),
    "everything": (None, set()),
    "nothing": ([], set()),
}


@pytest.mark.parametrize(("trainable", "still"), CASES.values(), ids=CASES)
def test_what_stands_still(engine: Engine, trainable: Any, still: set[str]) -> None:
    """Whether a random node changes what it reads, from one step to another."""
    graph = network()
    names = ["inside", "block1.stochasticdepth1", "block2.stochasticdepth1", "outside"]
    before = {name: graph.node(name).inputs[0].node for name in names}
    plan = engine.compile(
        graph, filled(graph), batch_size=8, training=True, trainable=trainable, keep=[*names, *before.values()]
    )
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    changed = set()
    for step in range(2):
        plan.forward(x, step=step)
        changed |= {name for name in names if not np.array_equal(plan.kept[name], plan.kept[before[name]])}
    assert changed == set(names) - still


def test_a_squeezenet_keeps_the_dropout_of_its_head() -> None:
    for trainable, still in ((["head.conv1"], set()), (["fire9.expand.one"], set()), (["fire2", "head"], set())):
        graph = fovea.models.architecture("squeezenet").graph(3, (64, 64, 3))
        assert prepare(graph, batch_size=1, training=True, trainable=trainable).still == still
    graph = fovea.models.architecture("vgg11").graph(3, (32, 32, 3))
    assert prepare(graph, batch_size=1, training=True, trainable=["head.dense3"]).still == {"head.dropout1"}
