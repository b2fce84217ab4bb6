"""The arithmetic of a layer: integers by hand, and every kind of layer against both engines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.engines.registry import get_engine
from fovea.errors import FoveaError
from fovea.explain.arithmetic import KINDS, Calculation, LayerArithmetic, layer_arithmetic
from fovea.explain.arithmetic.conv import conv_backward, conv_forward
from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import calculation
from fovea.graph.graph import Graph
from fovea.graph.initialize import initialize
from fovea.model import Model
from fovea.ops import Dense, Flatten, Input, Reshape, Split
from tests.op_samples import SAMPLES, Sample, samples_of

ENGINES = ["reference", "native"]
SHOWN = [sample for sample in SAMPLES if sample.op.kind in KINDS]


def behind_dense(sample: Sample) -> tuple[Model, Any]:
    """The sample's op as the layer `node` of a classifier, and network input: all of its inputs in one vector."""
    sizes = [int(np.prod(shape)) for shape in sample.input_shapes]
    source = Input((sum(sizes),))
    parts = Split(tuple(sizes))(source) if len(sizes) > 1 else (source,)
    values = [Reshape(shape)(part) for shape, part in zip(sample.input_shapes, parts, strict=True)]
    graph = Graph(inputs=source, outputs=Dense(3)(Flatten()(sample.op(*values, name="node"))))
    store = initialize(graph, 0, "kaiming")
    store.load({f"node.{name}": array for name, array in {**sample.parameters(), **sample.buffers()}.items()})
    inputs = np.concatenate([array.reshape(sample.n, -1) for array in sample.inputs()], axis=1)
    return Model.from_store(graph, store), inputs.astype(np.float32)


def calculations(found: LayerArithmetic) -> tuple[Calculation, ...]:
    return found.calculations if found.loss is None else (*found.calculations, found.loss)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sample", SHOWN, ids=lambda sample: sample.id)
def test_every_layer_is_what_the_engine_computes(sample: Sample, engine: str) -> None:
    get_engine(engine)
    model, x = behind_dense(sample)
    rng = np.random.default_rng(len(sample.id))
    for backward in (False, True):
        joins = sample.op.kind in ("add", "sub", "multiply")
        shape = sample.input_shapes[0] if backward and not joins else sample.op.output_shapes(*sample.input_shapes)[0]
        for training in (False, True) if sample.op.kind == "batchnorm" else (False,):
            at = tuple(int(rng.integers(0, size or 1)) for size in shape[:-1])
            channel = int(rng.integers(0, shape[-1] or 1))
            found = layer_arithmetic(
                model, x, "node", at, channel, backward=backward, training=training, engine=engine
            )  # fmt: skip
            for one in calculations(found):
                assert one.check.agrees, f"{one.name}: {one.total}, {one.check}"
                if one.terms and one.quantity != "loss":
                    total = sum(term.product for term in one.terms) + (one.bias or 0.0)
                    assert one.total == pytest.approx(total, rel=1e-12, abs=1e-300)


def test_every_kind_is_among_the_samples() -> None:
    assert {sample.op.kind for sample in SHOWN} == set(KINDS)


# The course notes' example as docs/convolution.md has it: 3x3 input, 2x2 filter, bias 100.
X = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
F = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 2, 1, 1)
DELTA = np.array([[1, -1], [2, 3]], np.float32).reshape(1, 2, 2, 1)


def by_hand() -> Live:
    """The layer with the gradients that were worked out on paper."""
    model = fovea.Model(fovea.Conv(1, 2), input_shape=(3, 3, 1))
    return Live(
        model.graph.node("conv1"), "paper", False, (X,),
        np.array([[137, 147], [167, 177]], np.float32).reshape(1, 2, 2, 1),
        {"weight": F, "bias": np.array([100], np.float32)}, {}, DELTA,
        (np.array([[1, 1, -2], [5, 8, 2], [6, 17, 12]], np.float32).reshape(1, 3, 3, 1),),
        {"weight": np.array([[22, 27], [37, 42]], np.float32).reshape(2, 2, 1, 1), "bias": np.array([5], np.float32)},
    )  # fmt: skip


def test_the_course_notes_example_forward() -> None:
    one = conv_forward(by_hand(), (0, 0), 0)
    assert [(term.value, term.weight, term.product) for term in one.terms] == [
        (1, 1, 1), (2, 2, 4), (4, 3, 12), (5, 4, 20),
    ]  # fmt: skip
    assert [term.index for term in one.terms] == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    assert (one.bias, one.total, one.check.value, one.check.agrees) == (100, 137, 137, True)


@pytest.mark.parametrize("at", list(np.ndindex(3, 3)))
def test_the_course_notes_example_backward(at: tuple[int, int]) -> None:
    for weight_at in np.ndindex(2, 2, 1, 1):
        source, weight, bias = conv_backward(by_hand(), at, 0, weight_at)
        assert all(one.check.difference == 0 for one in (source, weight, bias))
    if at == (1, 1):  # all four windows see the middle: 1·4 - 1·3 + 2·2 + 3·1
        assert [(term.value, term.weight) for term in source.terms] == [(1, 4), (-1, 3), (2, 2), (3, 1)]


def test_a_wrong_number_is_seen() -> None:
    terms = conv_forward(by_hand(), (0, 0), 0).terms
    right = calculation("output", "conv1", (0, 0, 0), "", "paper", 137.00001, terms=terms, bias=100.0)
    wrong = calculation("output", "conv1", (0, 0, 0), "", "paper", 137.001, terms=terms, bias=100.0)
    assert right.check.agrees
    assert not wrong.check.agrees


def residual_network() -> Model:
    body = fovea.Sequential(fovea.Conv(16, 3, padding=1), fovea.BatchNorm(), fovea.ReLU())
    net = fovea.Sequential(
        fovea.Conv(16, 3, padding=1), fovea.MaxPool(2), fovea.Residual(body), fovea.Dropout(0.5),
        fovea.GlobalAvgPool(), fovea.Dense(4),
    )  # fmt: skip
    return fovea.Model(net, input_shape=(12, 12, 3), classes=list("abcd"), seed=3)


PICTURE = np.random.default_rng(5).normal(size=(12, 12, 3)).astype(np.float32)


def test_a_layer_sees_only_its_own_part_of_a_gradient() -> None:
    """The input of a residual block is read twice; both parts together are the gradient there."""
    model, at = residual_network(), (2, 4)
    parts = [
        layer_arithmetic(model, PICTURE, layer, at, 5, backward=True, target=1).calculations
        for layer in ("residual1.conv1", "residual1.add1")
    ]
    plan = model.compile("reference", wrt=["maxpool1"], loss=fovea.SoftmaxCrossEntropy())
    plan.forward(PICTURE[None])
    plan.loss_backward(np.array([1]))
    shortcut = next(one for one in parts[1] if one.array.endswith("maxpool1"))
    whole = float(plan.wrt_gradients["maxpool1"][0, 2, 4, 5])
    assert parts[0][0].total + shortcut.total == pytest.approx(whole, abs=1e-7)
    assert parts[0][0].total != 0 != shortcut.total


def test_winograd_layers_agree_within_the_bound_of_their_tiles() -> None:
    model = fovea.models.resnet20(seed=1)
    x = np.random.default_rng(2).normal(size=(32, 32, 3)).astype(np.float32)
    x[8:16, 8:16] *= 1e3  # next to large numbers the tiles' small ones lose digits
    for at in [(0, 0), (7, 7), (7, 16), (20, 30)]:
        for backward in (False, True):
            found = layer_arithmetic(model, x, "stage1.block1.conv1", at, 3, backward=backward)
            assert found.agrees, [one.check for one in found.calculations]


def test_max_pooling_names_the_winner_and_routes_the_gradient() -> None:
    model = fovea.Model(
        fovea.Sequential(fovea.MaxPool(2), fovea.Flatten(), fovea.Dense(2)), input_shape=(4, 4, 1), seed=0
    )
    x = np.zeros((4, 4, 1), np.float32)
    x[0, 1] = x[1, 0] = 7  # a tie: the first in row-major order wins
    forward = layer_arithmetic(model, x, "maxpool1", (0, 0), 0).calculations[0]
    assert [term.weight for term in forward.terms] == [0, 1, 0, 0]
    assert "position (0, 1) won" in forward.notes[0]
    won, lost = (
        layer_arithmetic(model, x, "maxpool1", at, 0, backward=True).calculations[0] for at in ((0, 1), (1, 0))
    )
    assert won.total != 0
    assert lost.total == 0
    assert lost.terms[0].label == "won by (0, 1)"


def test_dropout_is_off_and_the_model_untouched() -> None:
    model = residual_network()
    before = {name: array.copy() for name, array in model.store.tensors().items()}
    version = model.store.version
    first, second = (
        layer_arithmetic(model, PICTURE, "residual1.batchnorm1", backward=True, training=True) for _ in range(2)
    )
    assert first.to_dict() == second.to_dict()
    assert model.store.version == version
    assert all(np.array_equal(before[name], array) for name, array in model.store.tensors().items())
    inference = layer_arithmetic(model, PICTURE, "globalavgpool1", channel=2).calculations[0].total
    assert inference == pytest.approx(
        float(model.forward(PICTURE[None], keep=["globalavgpool1"])["globalavgpool1"][0, 2]), 1e-5
    )


def test_batch_norm_shows_the_three_terms_of_its_gradient() -> None:
    batch = np.random.default_rng(1).normal(size=(3, 12, 12, 3)).astype(np.float32)
    trained = layer_arithmetic(
        residual_network(), batch, "residual1.batchnorm1", (1, 2), 4, backward=True, training=True
    ).calculations
    assert [term.label.partition(":")[0] for term in trained[0].terms] == [
        "direct", "through the mean", "through the variance",
    ]  # fmt: skip
    assert [one.quantity for one in trained] == ["grad_input", "grad_weight", "grad_bias"]
    frozen = layer_arithmetic(residual_network(), batch, "residual1.batchnorm1", (1, 2), 4, backward=True).calculations
    assert len(frozen) == len(frozen[0].terms) == 1


def test_a_network_that_ends_in_softmax_starts_at_its_logits() -> None:
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(3), fovea.Softmax())
    model = fovea.Model(net, input_shape=(2, 2, 1), seed=1)
    plain = fovea.Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(3)), input_shape=(2, 2, 1), seed=1)
    x = np.ones((2, 2, 1), np.float32)
    a, b = (layer_arithmetic(one, x, "dense1", channel=0, backward=True, target=2) for one in (model, plain))
    assert a.loss is not None
    assert a.to_dict() == b.to_dict()
    assert a.agrees


def test_the_strongest_place_is_shown_unless_told() -> None:
    model = residual_network()
    found = layer_arithmetic(model, PICTURE, "conv1")
    outputs = model.forward(PICTURE[None], keep=["conv1"])["conv1"][0]
    assert abs(found.calculations[0].total) == pytest.approx(np.abs(outputs).max(), rel=1e-5)


def test_records_are_json() -> None:
    found = layer_arithmetic(residual_network(), PICTURE, "conv1", (0, 0), 1, backward=True)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["direction"] == "backward"
    assert plain["shape_steps"][0] == {"axis": "height", "formula": "floor((12 + 1 + 1 - 3) / 1) + 1", "size": 12}
    assert plain["calculations"][0]["terms"][0]["index"] == [0, 0, 0]
    assert "maps" not in plain


SIZES = samples_of("conv", "convtranspose", "maxpool", "avgpool")


@pytest.mark.parametrize("sample", SIZES, ids=lambda sample: sample.id)
def test_shape_formulas_give_the_shape(sample: Sample) -> None:
    """The formula with its numbers is Python, and its value is the size."""
    import math

    from fovea.explain.arithmetic.taps import shape_steps

    shape = tuple(size or 0 for size in sample.input_shapes[0])
    expected = sample.op.output_shapes(shape)[0]
    for step, size in zip(shape_steps(sample.op, shape), expected, strict=False):
        formula = step.formula.partition(", padded")[0].partition(" (the last")[0]
        assert step.size == size
        assert eval(formula, {"floor": math.floor, "ceil": math.ceil}) == size, step


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("conv1", {"at": (12, 0)}, "height 0 to 11, width 0 to 11"),
    ("conv1", {"at": (1,)}, "height 0 to 11, width 0 to 11"),
    ("conv1", {"at": (1, 2), "channel": 16}, "channel of its output from 0 to 15, got 16"),
    ("conv1", {"at": (1, 2), "channel": 3, "backward": True}, "channel of its input from 0 to 2"),
    ("conv1", {"backward": True, "weight_at": (3, 0, 0, 0)}, "from 0,0,0,0 to 2,2,2,15, got 3,0,0,0"),
    ("maxpool1", {"backward": True, "weight_at": (0,)}, "layer with weights"),
    ("dense1", {"at": (0, 0)}, "expected no position in its output, a vector"),
    ("conv3", {}, "near names: conv1"),
    ("dropout1", {}, "arithmetic view, got dropout; those are conv1, maxpool1, residual1.conv1"),
    ("conv1", {"backward": True, "target": 4}, "class from 0 to 3, got 4"),
]


@pytest.mark.parametrize(("layer", "options", "message"), WRONG, ids=[f"{one[0]}-{one[2][:24]}" for one in WRONG])
def test_mistakes_are_told_in_one_sentence(layer: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FoveaError) as error:
        layer_arithmetic(residual_network(), PICTURE, layer, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_images_are_told_in_one_sentence() -> None:
    model = residual_network()
    for image, message in [
        (np.zeros((12, 12, 3), np.uint8), "float32 network input"),
        (np.zeros((11, 12, 3), np.float32), "('N', 12, 12, 3)"),
        ("picture.png", "knows its preprocessing"),
        (None, "a path or an array"),
    ]:
        with pytest.raises(FoveaError) as error:
            layer_arithmetic(model, image, "conv1")
        assert message in str(error.value)
    regression = fovea.Model(fovea.Conv(1, 3, padding=1), input_shape=(12, 12, 3))
    with pytest.raises(FoveaError, match="expected a classifier with logits"):
        layer_arithmetic(regression, PICTURE, "conv1", backward=True)
