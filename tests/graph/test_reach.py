"""What single elements depend on: the boxes are those in which their gradient is not zero, on every kind of layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea
from fovea import models
from fovea.errors import GraphError, ShapeError
from fovea.graph.graph import Graph
from fovea.graph.reach import reach
from fovea.graph.receptive import receptive_fields
from fovea.model import Model


def felt(model: Model, name: str, position: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The box of the input in which the gradient of a random mix of one position's channels is not zero."""
    graph = Graph.from_nodes(
        [(node.name, node.op, node.inputs) for node in model.graph.nodes.values()],
        model.graph.inputs, (fovea.graph.graph.Ref(name),),
    )  # fmt: skip
    plan = fovea.engines.registry.get_engine("reference").compile(
        graph, model.store, batch_size=1, wrt=[graph.inputs[0]]
    )
    rng = np.random.default_rng(7)
    shape = graph.input_shapes[0]
    output = np.asarray(plan.forward(rng.uniform(0.5, 1.5, (1, *shape)).astype(np.float32)))
    grad_output = np.zeros_like(output)
    grad_output[(0, *position)] = rng.uniform(0.5, 1.5, output.shape[-1])
    gradient = np.abs(plan.backward(grad_output)[graph.inputs[0]][0]).sum(axis=-1)
    places = np.argwhere(gradient > 0)
    return tuple(places.min(axis=0).tolist()), tuple((places.max(axis=0) + 1).tolist())


def positive(model: Model) -> Model:
    """Weights above 0: what is read then always counts, and no rectifier closes."""
    rng = np.random.default_rng(1)
    for path, array in model.parameters().items():
        array[...] = rng.uniform(0.05, 0.2, array.shape) if not path.endswith("bias") else 0.1
    return model


def hourglass(x: Any) -> Any:
    down = fovea.Conv(4, 3, stride=2, padding="same")(x)
    up = fovea.Resize(size=(13, 11), mode="bilinear")(fovea.Conv(4, 3)(down))
    return fovea.Conv(2, 3, padding=1)(fovea.Concat()(fovea.Conv(4, 1)(x), up))


def cut(x: Any) -> Any:
    top, bottom = fovea.Split((5, 8), axis=1)(x)
    back = fovea.Slice((None,), (None,), (1,), (-2,))(bottom)
    return fovea.Conv(3, (3, 1), padding=((1, 1), (0, 0)))(fovea.Concat(axis=1)(back, top))


def turned(x: Any) -> Any:
    flipped = fovea.Transpose((0, 2, 1, 3))(fovea.Conv(4, (3, 1))(x))
    return fovea.Reshape((11, 11, 2, 2))(flipped)


NETWORKS: dict[str, tuple[Any, list[tuple[int, ...]]]] = {
    "strides": (
        fovea.Sequential(fovea.Conv(4, 5, stride=2, padding=2), fovea.ReLU(), fovea.AvgPool(3, 2, padding=1),
                         fovea.Conv(4, 3, dilation=2, padding=2)), [(0, 0), (3, 2), (1, 1)]),
    "residual": (
        fovea.Sequential(fovea.Conv(4, 3, padding=1),
                         fovea.Residual(fovea.Sequential(fovea.Conv(4, 3, padding=1), fovea.Conv(4, 3, padding=1)))),
        [(0, 0), (6, 5), (12, 10)]),
    "transposed": (
        fovea.Sequential(fovea.Conv(2, 3, stride=2, padding="same"), fovea.ConvTranspose(2, 4, stride=2, padding=1)),
        [(0, 0), (5, 6), (13, 11)]),
    "hourglass": (hourglass, [(0, 0), (6, 5), (12, 10)]),
    "cut": (cut, [(0, 0), (3, 4), (4, 10), (8, 2)]),
    "turned": (turned, [(4, 3, 1)]),
    "borders": (
        fovea.Sequential(fovea.Pad(2, mode="reflect"), fovea.Conv(2, 3), fovea.Pad(1, mode="circular"),
                         fovea.Conv(2, 3), fovea.Pad(1, mode="replicate"), fovea.Conv(1, 3)),
        [(0, 0), (7, 6), (12, 10)]),
    "sizes": (
        fovea.Sequential(fovea.Resize(scale=1.5, mode="bicubic"), fovea.Conv(2, 3), fovea.AdaptiveAvgPool((4, 3)),
                         fovea.Resize(size=(8, 6))), [(0, 0), (3, 3), (7, 5)]),
    "reduced": (fovea.Sequential(fovea.Conv(3, 3), fovea.Reduce((1,), keepdims=True), fovea.Dense(2)), [(0, 4)]),
    "whole": (fovea.Sequential(fovea.Conv(3, 3), fovea.GlobalAvgPool(), fovea.Dense(2)), [()]),
    "grouped": (fovea.Sequential(fovea.Conv(4, 3), fovea.GroupNorm(2), fovea.Conv(2, 1)), [(3, 4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_are_where_the_gradient_is(name: str) -> None:
    network, positions = NETWORKS[name]
    model = positive(Model(network, (13, 11, 3)))
    last = model.graph.outputs[0].node
    boxes = reach(model.graph, last, np.array(positions, np.int64).reshape(len(positions), -1))
    for position, low, high in zip(positions, boxes.low.tolist(), boxes.high.tolist(), strict=True):
        assert (tuple(low), tuple(high)) == felt(model, last, position), position


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2", "densenet121", "googlenet", "shufflenetv2", "conv1d"])
def test_boxes_of_the_zoo_follow_its_receptive_fields(name: str) -> None:
    """Where positions are all alike, the formula gives the same boxes, cut at the borders."""
    graph = models.architecture(name).graph()
    fields = receptive_fields(graph)
    for node in list(graph.nodes.values())[1::7]:
        shape, field = node.output_shapes[0], fields[node.name]
        if field is None or any(one.jump == 0 for one in field) or len(shape) != len(graph.input_shapes[0]):
            continue
        positions = np.array([[0 for _ in shape[:-1]], [(size or 1) // 2 for size in shape[:-1]],
                              [(size or 1) - 1 for size in shape[:-1]]])  # fmt: skip
        boxes = reach(graph, node.name, positions)
        starts = np.array([one.start for one in field]) + positions * np.array([one.jump for one in field])
        ends = np.minimum(starts + [one.size for one in field], np.array(graph.input_shapes[0][:-1]))
        np.testing.assert_array_equal(boxes.low, np.maximum(starts, 0), err_msg=node.name)
        np.testing.assert_array_equal(boxes.high, ends, err_msg=node.name)


def test_gates_may_be_left_out() -> None:
    """Through squeeze-and-excitation every element sees the whole image; without the gate it looks at 7x7 of it."""

    def network(x: Any) -> Any:
        features = fovea.Conv(4, 7, padding=3)(x)
        gate = fovea.Sigmoid()(fovea.Dense(4)(fovea.GlobalAvgPool()(features)))
        return fovea.Multiply()(fovea.GroupNorm(2)(features), gate)

    graph = Model(network, (20, 18, 3)).graph
    last = graph.outputs[0].node
    whole, looked = reach(graph, last, [[10, 9]]), reach(graph, last, [[10, 9]], gates=False)
    assert (whole.low.tolist(), whole.high.tolist()) == ([[0, 0]], [[20, 18]])
    assert (looked.low.tolist(), looked.high.tolist()) == ([[7, 6]], [[14, 13]])


def test_an_element_of_nothing_but_padding_sees_nothing() -> None:
    graph = Model(fovea.Sequential(fovea.Pad(4), fovea.Conv(1, 3)), (6, 6, 1)).graph
    boxes = reach(graph, "conv1", [[0, 5], [2, 2]])
    assert boxes.empty.tolist() == [True, False]
    assert (boxes.low[1].tolist(), boxes.high[1].tolist()) == ([0, 0], [1, 1])


def test_mistakes_are_told() -> None:
    graph = Model(fovea.Sequential(fovea.Conv(1, 3)), (6, 6, 1)).graph
    with pytest.raises(GraphError, match="near names: conv1"):
        reach(graph, "conv", [[0, 0]])
    with pytest.raises(ShapeError, match=r"positions K,2 inside of the feature map \(4, 4, 1\)"):
        reach(graph, "conv1", [[4, 0]])
    with pytest.raises(ShapeError, match="closed sizes"):
        reach(Model(fovea.Sequential(fovea.Conv(1, 3)), (None, None, 1)).graph, "conv1", [[0, 0]])
