"""The head of a classifier: found in every network of the zoo and in files of others, replaced without a trace."""

from __future__ import annotations

import numpy as np
import pytest

import fovea
from fovea.errors import ConfigError, GraphError, ShapeError
from fovea.graph.head import find_head, with_head_at
from fovea.model import Model
from fovea.models import architecture, names
from fovea.training.transfer.head import fresh, headed_at, put_into_head


def inputs(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", names("classification"))
def test_every_network_of_the_zoo_has_one(name: str) -> None:
    graph = architecture(name).graph()
    head = find_head(graph)
    assert head.outputs == architecture(name).num_classes
    assert head.node == [node.name for node in graph.nodes.values() if node.parameters][-1]


def test_classes_of_the_same_name_keep_their_logits() -> None:
    model = fovea.models.lenet5(classes=list("0123456789"), seed=3)
    before = {path: array.copy() for path, array in model.parameters().items()}
    other = fovea.replace_head(model, ["7", "seven", "0"])
    x = inputs(4, 28, 28, 1)
    assert other.classes == ("7", "seven", "0")
    np.testing.assert_array_equal(other(x)[:, [0, 2]], model(x)[:, [7, 0]])
    assert np.abs(other.parameters()["dense3.weight"][:, 1]).max() <= 1 / np.sqrt(84)
    assert np.abs(other.parameters()["dense3.weight"][:, 1]).max() > 0
    other.parameters()["conv1.weight"][...] = 0  # a copy: the first model is as it was
    assert all(np.array_equal(array, before[path]) for path, array in model.parameters().items())
    assert np.array_equal(fovea.replace_head(model, ["7", "x", "0"])(x), fovea.replace_head(model, ["7", "y", "0"])(x))
    drawn = [fovea.replace_head(model, ["x", "y"], seed=seed)(x) for seed in (0, 1)]
    assert not np.array_equal(*drawn)


def test_a_convolution_before_the_mean_is_replaced_too() -> None:
    model = fovea.models.squeezenet(classes=list("abcde"), input_shape=(64, 64, 3), head_padding=1)
    notes = find_head(model.graph).notes
    assert [word for word in ("ReLU", "padding") if any(word in note for note in notes)] == ["ReLU", "padding"]
    other = fovea.replace_head(model, ["c", "z", "a"])
    x = inputs(2, 64, 64, 3)
    kept = other.forward(x, keep=["head.dropout1"])
    codes = kept["head.dropout1"].mean((1, 2))
    weight, bias = (model.parameters()[f"head.conv1.{one}"] for one in ("weight", "bias"))
    expected = codes @ weight[0, 0][:, [2, 0]] + bias[[2, 0]]
    np.testing.assert_allclose(kept["outputs"][:, [0, 2]], expected, rtol=2e-5, atol=2e-5)
    probe, shift = inputs(512, 3), inputs(3)
    put_into_head(other, probe, shift)
    np.testing.assert_allclose(other(x), codes @ probe + shift, rtol=2e-5, atol=1e-4)
    with pytest.raises(ShapeError, match="as the head has"):
        put_into_head(other, probe[:7], shift)


def test_what_stands_behind_the_head_is_left_out() -> None:
    value = fovea.Input((6,))
    y = fovea.Dense(3, use_bias=False)(value, name="classes")
    y = fovea.Add()(y, fovea.Constant([1.0, 2.0, 3.0])(name="shift"))
    model = Model(fovea.Graph(value, fovea.Softmax()(y)), classes=["a", "b", "c"])
    assert model.gives_probabilities
    other = fovea.replace_head(model, ["c", "new"])
    assert not other.gives_probabilities
    assert "Softmax, since the loss takes logits" in find_head(model.graph).notes
    x = inputs(5, 6)
    expected = x @ model.parameters()["classes.weight"][:, 2] + 3
    np.testing.assert_allclose(other(x)[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_a_head_at_an_earlier_layer() -> None:
    model = fovea.models.lenet5()
    graph, _, name = with_head_at(model.graph, model.store, "conv2", 3)
    assert graph.output_shapes == ((3,),)
    assert not any(node.startswith("dense") for node in graph.nodes)
    assert find_head(graph).node == name
    other = headed_at(model, "maxpool1" if "maxpool1" in model.graph.nodes else "conv1", ["a", "b"])
    assert other(inputs(2, 28, 28, 1)).shape == (2, 2)
    vector = headed_at(model, "dense1", ["a", "b"])
    assert vector.parameters()["probe.weight"].shape == (120, 2)
    with pytest.raises(GraphError, match="near names: dense1"):
        headed_at(model, "dense11", ["a", "b"])


def test_what_has_no_head_is_refused() -> None:
    joined = fovea.Input((4,))
    a, b = fovea.Dense(2)(joined), fovea.Dense(2)(joined)
    for graph, got in (
        (fovea.Graph(joined, fovea.Add()(a, b)), "a sum of several layers"),
        (fovea.Graph(joined, fovea.Concat()(a, b)), "concat"),
        (fovea.Graph(joined, fovea.ReLU()(joined)), "input"),
        (fovea.Graph(joined, [a, b]), "one input and one output"),
    ):
        with pytest.raises(GraphError, match=got):
            find_head(graph)
    wide = fovea.Model(fovea.Sequential(fovea.Conv(3, 3), fovea.GlobalAvgPool()), (8, 8, 1))
    with pytest.raises(GraphError, match="ends in Dense"):
        find_head(wide.graph)
    twice = fovea.Dense(2)(joined, name="twice")
    hidden = fovea.Graph(joined, fovea.Softmax()(twice))
    entries = [(node.name, node.op, node.inputs) for node in hidden.nodes.values()]
    entries.insert(2, ("aside", fovea.ReLU(), hidden.node("softmax1").inputs))
    with pytest.raises(GraphError, match="more than one place"):
        find_head(fovea.Graph.from_nodes(entries, hidden.inputs, hidden.outputs))
    with pytest.raises(ConfigError, match="different class names"):
        fovea.replace_head(fovea.models.lenet5(), ["a", "a"])
    with pytest.raises(ConfigError, match="list of names"):
        fovea.replace_head(fovea.models.lenet5(), "cat")


def test_fresh_is_the_same_network_with_starting_values() -> None:
    model = fovea.models.small_cnn(num_classes=3, input_shape=(16, 16, 1), seed=4)
    again, other = fresh(model, 4), fresh(model, 5)
    assert again.graph is model.graph
    assert np.array_equal(again.parameters()["stage1.conv1.weight"], model.parameters()["stage1.conv1.weight"])
    assert not np.array_equal(other.parameters()["stage1.conv1.weight"], model.parameters()["stage1.conv1.weight"])
