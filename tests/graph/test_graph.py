"""Composition, names, inferred shapes, and errors that name the node."""

from __future__ import annotations

import numpy as np
import pytest

import fovea
from fovea.errors import ConfigError, GraphError, OpError, ShapeError
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


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: build([fovea.ReLU()], (8, 8, 3)), r"\[model\] expected layers, .*fovea.Sequential\(first"),
        (lambda: build(None, (8, 8, 3)), r"\[model\] expected layers, got None"),
        (lambda: build(fovea.ReLU, (8, 8, 3)), r"write ReLU\(...\)"),
        (lambda: fovea.Residual([fovea.ReLU()]), r"\[residual\] expected layers"),
        (lambda: fovea.Residual(fovea.ReLU(), shortcut=5), r"\[residual\] expected layers, got 5"),
        (lambda: fovea.Parallel(fovea.ReLU(), join="add"), r"\[parallel\] expected layers, got add"),
    ],
)
def test_what_is_no_layer_is_refused_with_the_way_to_write_it(make, text):
    with pytest.raises(GraphError, match=text):
        make()


def test_graph_inputs_are_inputs_and_listed_once():
    x = fovea.Input((8, 8, 3))
    hidden = fovea.Conv(4, 3)(x)
    with pytest.raises(GraphError, match=r"expected each input once, made by fovea\.Input, got conv"):
        Graph(hidden, fovea.ReLU()(hidden))
    with pytest.raises(GraphError, match="expected each input once"):
        Graph([x, x], hidden)


def test_sizes_that_no_machine_holds_are_refused_before_anything_is_allocated():
    with pytest.raises(ShapeError, match=r"\[dense1: dense\] expected sizes that a machine can hold"):
        build(fovea.Sequential(fovea.Flatten(), fovea.Dense(10**10)), (1000, 1000, 3))
    with pytest.raises(ShapeError, match=r"\[resize2: resize\] expected sizes that a machine can hold, got 1e\+16"):
        build(fovea.Sequential(fovea.Resize(scale=10**8), fovea.Resize(scale=10**8)), (1, 1, 1))
    with pytest.raises(ConfigError, match="expected parameters that fit into memory, got 3,200 GB"):
        fovea.Model(fovea.Dense(10**6), input_shape=(800_000,))


def test_starting_values_need_a_seed_and_a_scheme():
    with pytest.raises(ConfigError, match=r"\[seed\] expected an integer, got 'x'"):
        fovea.Model(fovea.Dense(2), input_shape=(3,), seed="x")
    with pytest.raises(ConfigError, match=r"\[initializer\] expected a name or an Initializer, got None"):
        fovea.Model(fovea.Dense(2), input_shape=(3,), initializer=None)


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
    with pytest.raises(GraphError, match=r"expected \(loss, weight\) for output 'value'"):
        attach(graph, {"value": fovea.MeanSquaredError()})
    with pytest.raises(GraphError, match="expected a loss op"):
        attach(graph.pruned(graph.outputs[:1]), fovea.SoftmaxCrossEntropy)


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


def test_a_gate_does_not_widen_the_receptive_field():
    def network(x):
        features = fovea.Conv(4, 3, stride=2)(x)
        return fovea.Conv(2, 3)(fovea.Multiply()(features, fovea.Dense(4)(fovea.GlobalAvgPool()(features))))

    fields = list(receptive_fields(build(network, (32, 32, 3))).values())
    assert [(field[0].size, field[0].jump) for field in fields[-3:]] == [(32, 0), (3, 2), (7, 2)]


def test_receptive_fields_after_slices_and_smaller_resizes():
    x = fovea.Input((16, 16, 3))
    values = {
        "last_five": fovea.Slice((-5,), (None,), (1,))(x, name="last_five"),
        "backwards": fovea.Slice((None,), (None,), (1,), (-2,))(x, name="backwards"),
        "half": fovea.Resize(size=8)(x, name="half"),
        "double": fovea.Resize(scale=2)(fovea.MaxPool(4)(x), name="double"),
    }
    fields = receptive_fields(Graph(x, list(values.values())))
    found = {name: (fields[name][0].size, fields[name][0].jump, fields[name][0].start) for name in values}
    assert found == {"last_five": (1, 1, 11), "backwards": (1, 2, 1), "half": (1, 2, 0), "double": (4, 2, 0)}


def test_the_receptive_field_of_a_transposed_convolution_begins_where_its_first_output_reads():
    """Halved to inputs that see [2 i - 1, 2 i + 2), then doubled: output 0 reads inputs -1 and 0 with a kernel of 4."""
    net = fovea.Sequential(fovea.Conv(1, 3, stride=2, padding=1), fovea.ConvTranspose(1, 4, stride=2, padding=1))
    field = receptive_fields(build(net, (16, 1)))["convtranspose1"][0]
    assert (field.size, field.jump, field.start) == (5, 1, -3)
    model = fovea.Model(net, input_shape=(16, 1), initializer="ones")
    plan = model.compile("reference", wrt=["input1"])
    plan.forward(np.ones((1, 16, 1), np.float32))
    grad_output = np.zeros((1, 16, 1), np.float32)
    grad_output[0, 6] = 1
    reached = np.flatnonzero(plan.backward(grad_output)["input1"][0, :, 0])
    assert (reached[0], reached[-1]) == (6 - 3, 6 - 3 + 5 - 1)
