"""Composition, names, inferred shapes, and errors that name the node."""

from __future__ import annotations

import numpy as np
import pytest

import fovea
from fovea.errors import GraphError, OpError, ShapeError
from fovea.graph.compose import build
from fovea.graph.graph import Graph, Ref
from fovea.graph.objective import attach
from fovea.graph.receptive import receptive_fields


def block(channels: int):
    body = fovea.Sequential(fovea.Conv(channels, 3, padding="same"), fovea.BatchNorm(), fovea.ReLU())
    return fovea.Residual(body, fovea.Conv(channels, 1))


def test_names_are_kind_and_count_within_their_scope():
    net = fovea.Sequential(
        {"stem": fovea.Conv(8, 3)},
        fovea.ReLU(),
        {"stage1": fovea.Sequential({"block0": block(8), "block1": block(8)})},
        fovea.Sequential(fovea.ReLU(), fovea.ReLU()),
        fovea.GlobalAvgPool(),
        {"head": fovea.Dense(10)},
    )
    graph = build(net, (16, 16, 3))
    assert list(graph.nodes) == [
        "input1",
        "stem",
        "relu1",
        "stage1.block0.conv1",
        "stage1.block0.batchnorm1",
        "stage1.block0.relu1",
        "stage1.block0.shortcut",
        "stage1.block0.add1",
        "stage1.block1.conv1",
        "stage1.block1.batchnorm1",
        "stage1.block1.relu1",
        "stage1.block1.shortcut",
        "stage1.block1.add1",
        "sequential1.relu1",
        "sequential1.relu2",
        "globalavgpool1",
        "head",
    ]
    assert graph.parameters()["stage1.block0.conv1.weight"].shape == (3, 3, 8, 8)


def test_given_names_are_kept_and_counting_goes_round_them():
    x = fovea.Input((4, 4, 2))
    y = fovea.ReLU()(fovea.ReLU()(x), name="relu1")
    assert list(Graph(x, y).nodes) == ["input1", "relu2", "relu1"]
    with pytest.raises(GraphError, match="got it twice"):
        Graph(x, fovea.ReLU()(fovea.ReLU()(x, name="a"), name="a"))
    with pytest.raises(GraphError, match="without dots"):
        fovea.ReLU()(x, name="a.b")


def test_branches_joins_and_several_outputs():
    x = fovea.Input((8, 8, 4))
    left, right = fovea.Split((1, 3))(x)
    merged = fovea.Parallel(fovea.Conv(2, 1), {"wide": fovea.Conv(5, 3, padding=1)})(fovea.Concat()(right, left))
    graph = Graph(x, [merged, fovea.GlobalAvgPool()(merged) * fovea.GlobalMaxPool()(merged)])
    assert graph.output_shapes == ((8, 8, 7), (7,))
    assert "parallel1.wide" in graph.nodes
    assert graph.nodes["concat1"].inputs == (Ref("split1", 1), Ref("split1", 0))


def test_functions_are_layers_and_graphs_nest():
    def squeeze_excite(x):
        gate = fovea.Sigmoid()(fovea.Dense(6)(fovea.GlobalAvgPool()(x)))
        return x * gate

    inner = build(fovea.Sequential(fovea.Conv(6, 1), squeeze_excite), (None, None, 3))
    assert "squeeze_excite1.multiply1" in inner.nodes
    outer = build(fovea.Sequential({"inner": inner}, fovea.GlobalAvgPool()), (9, 7, 3))
    assert outer.output_shapes == ((6,),)
    assert len(outer.parameters()) == len(inner.parameters())


def test_open_sizes_stay_open_until_closed():
    graph = build(fovea.Sequential(fovea.Conv(8, 3, stride=2, padding="same"), fovea.GlobalAvgPool()), (None, None, 3))
    assert graph.shape("conv1") == (None, None, 8)
    assert graph.at((33, 20, 3)).shape("conv1") == (17, 10, 8)
    with pytest.raises(ShapeError, match=r"expected input \('N', None, None, 3\), got \('N', 8, 8, 1\)"):
        graph.at((8, 8, 1))


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (fovea.Sequential(fovea.Conv(8, 9)), r"\[conv1: conv\] expected a padded input of at least 9"),
        (
            fovea.Sequential(fovea.Conv(8, 3, groups=2)),
            "in_channels=3 is not divisible by groups=2; choose groups from 1, 3",
        ),
        (
            fovea.Sequential({"a": fovea.Sequential(fovea.Flatten(), fovea.Conv(4, 3))}),
            r"\[a.conv1: conv\] expected input N",
        ),
        (fovea.Sequential(fovea.Conv(4, (3, 3, 3))), "expected kernel_size with 2 entries for 2 spatial axes"),
        (fovea.Residual(fovea.Conv(5, 1)), r"\[residual1.add1: add\] expected shapes that broadcast, got .*5\).*3\)"),
        (fovea.Sequential(fovea.Flatten(), fovea.Reshape((5, 5))), "expected 192 elements per sample"),
    ],
)
def test_errors_name_the_node_and_the_shapes(network, text):
    with pytest.raises(ShapeError, match=text):
        build(network, (8, 8, 3))


def test_declarations_refuse_impossible_arguments():
    with pytest.raises(OpError, match="out_channels=6 is not divisible by groups=4; choose groups from 1, 2, 3, 6"):
        fovea.Conv(6, 3, groups=4)
    with pytest.raises(OpError, match="expected padding as"):
        fovea.Conv(6, 3, padding="full")
    with pytest.raises(GraphError, match=r"write ReLU\(...\)"):
        fovea.Sequential(fovea.ReLU)
    with pytest.raises(GraphError, match="expected symbolic values"):
        fovea.ReLU()(np.zeros(3))


def test_foreign_inputs_and_unknown_nodes_are_named():
    x, other = fovea.Input((4, 4, 1)), fovea.Input((4, 4, 1))
    with pytest.raises(GraphError, match="not among the graph's inputs"):
        Graph(x, x + other)
    graph = Graph(x, fovea.Conv(1, 1)(x))
    with pytest.raises(GraphError, match="near names: conv1"):
        graph.node("conv2")


def test_attached_losses_become_nodes_with_targets():
    x = fovea.Input((4, 4, 1))
    policy = fovea.Dense(5)(fovea.Flatten()(x), name="policy")
    value = fovea.Dense(1)(fovea.Flatten()(x), name="value")
    graph = Graph(x, [policy, value])
    losses = {"policy": (fovea.SoftmaxCrossEntropy(), 1.0), "value": (fovea.MeanSquaredError(), 0.5)}
    objective = attach(graph, losses)
    assert objective.targets == ("target.policy", "target.value")
    assert objective.weights == (1.0, 0.5)
    assert objective.graph.shape("target.policy") == ()
    with pytest.raises(GraphError, match="expected a dict"):
        attach(graph, fovea.MeanSquaredError())


def test_receptive_fields_through_branches_and_strides():
    net = fovea.Sequential(
        fovea.Conv(4, 7, stride=2, padding=3),
        fovea.MaxPool(3, stride=2, padding=1),
        fovea.Residual(fovea.Sequential(fovea.Conv(4, 3, padding=1), fovea.Conv(4, 3, padding=1))),
        fovea.GlobalAvgPool(),
    )
    fields = receptive_fields(build(net, (64, 64, 3)))
    sizes = {name: (field[0].size, field[0].jump, field[0].start) for name, field in fields.items()}
    assert sizes["conv1"] == (7, 2, -3)
    assert sizes["maxpool1"] == (11, 4, -5)
    assert sizes["residual1.conv2"] == (11 + 8 + 8, 4, -5 - 8)
    assert sizes["residual1.add1"] == (27, 4, -13)
    assert sizes["globalavgpool1"] == (64, 0, 0)
