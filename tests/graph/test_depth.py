"""Blocks of a network by depth."""

from __future__ import annotations

import pytest

import fovea
from fovea.graph.depth import blocks, depth_scales, prefixes
from fovea.models import architecture, names


def test_blocks_of_known_networks() -> None:
    found = blocks(architecture("resnet18").graph())
    shown = [prefixes(found, block) for block in found]
    stages = [f"stage{stage}.block{block}" for stage in range(1, 5) for block in range(2)]
    assert shown == [(name,) for name in ("stem", *stages, "head")]
    assert blocks(architecture("lenet5").graph()) == (("conv1",), ("conv2",), ("dense1",), ("dense2",), ("dense3",))
    assert len(blocks(architecture("mobilenetv2").graph(norm="folded"))) == 19  # stem, 17 blocks, head


@pytest.mark.parametrize("name", names("classification"))
def test_every_parameter_is_in_one_block_and_order_holds(name: str) -> None:
    graph = architecture(name).graph()
    listed = [node for block in blocks(graph) for node in block]
    assert listed == [node.name for node in graph.nodes.values() if node.parameters]


def test_branches_are_never_torn_apart() -> None:
    x = fovea.Input((8,))
    a = fovea.Dense(8)(x, name="first")
    b = fovea.Dense(8)(fovea.ReLU()(fovea.Dense(8)(a, name="left1")), name="left2")
    joined = fovea.Add()(fovea.Add()(a, b), fovea.Constant([1.0] * 8)())
    graph = fovea.Graph(x, fovea.Dense(2)(joined, name="last"))
    assert blocks(graph) == (("first",), ("left1", "left2"), ("last",))


def test_learning_rates_rise_with_depth() -> None:
    found = blocks(architecture("lenet5").graph())
    scales = dict(depth_scales(found, 0.0625))
    assert scales == {"conv1": 0.0625, "conv2": 0.125, "dense1": 0.25, "dense2": 0.5}
    assert depth_scales(found, 1.0) == ()
    assert fovea.AdamW(lr_scales=depth_scales(found, 0.0625)).lr_scale("dense1.weight") == 0.25
    assert prefixes((("a.b", "a.c"), ("a.d", "e.f", "e.g")), ("a.d", "e.f", "e.g")) == ("a.d", "e")
