"""What people type by mistake gets one line that says what to type instead."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fovea
from fovea.errors import FoveaError
from fovea.graph.graph import Ref
from tests.model.test_model_file import small_model

LOSS = fovea.SoftmaxCrossEntropy()


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda m: fovea.Model(fovea.Dense(2), 5), "expected input_shape as sizes and channels, got 5"),
        (lambda m: fovea.Model(fovea.Dense(2), (5,), classes="ab"), "expected classes as a list of names, got 'ab'"),
        (lambda m: fovea.Model(fovea.Dense(2), (5,), classes=2), "expected classes as a list of names, got 2"),
        (lambda m: fovea.Model(fovea.Dense(2), (5,), task="regression"), "expected task as a Task, got 'regression'"),
        (lambda m: fovea.Model(fovea.Dense(2), (5,), preprocessing={}), "expected preprocessing as a Preprocessing"),
        (lambda m: fovea.Initializer(overrides=5), "expected overrides as pairs .pattern, scheme., got 5"),
        (
            lambda m: fovea.Model(fovea.Dense(2), (5,), initializer=fovea.Initializer(overrides=(("conv*", "zeros"),))),
            "expected a pattern of parameter paths, got 'conv.' which matches nothing",
        ),
        (lambda m: m.freeze(["stem"]), r"expected paths or patterns as texts, got \['stem'\]"),
        (lambda m: m.predict(["a.png", np.zeros((16, 16, 3), np.uint8)]), "expected paths or images, got both"),
        (lambda m: m.predict(None), "expected images or paths, got NoneType"),
        (lambda m: m.forward(np.zeros((1, 16, 16, 3)), keep="stem"), "expected keep as a list of names, got 'stem'"),
        (lambda m: m.compile(keep="stem"), r"expected keep as a list of names, got 'stem'; give \['stem'\]"),
        (lambda m: m.compile(wrt=None), "expected wrt as a list of names, got None"),
        (lambda m: m.compile(training=True, trainable="stem"), "expected trainable as a list of names, got 'stem'"),
        (lambda m: m.compile(training=True, loss=LOSS, optimizer="sgd"), "expected an optimizer such as .* got 'sgd'"),
        (lambda m: m.compile(input_shape=16), "expected input_shape as sizes and channels, got 16"),
        (lambda m: m.compile(batch_size=10**12), "expected batch_size as an integer of at least 1 .* got 1000000"),
        (
            lambda m: fovea.Model(fovea.Pad(1 << 20), (8, 8, 1)).compile(batch_size=64),
            r"\[pad1\] expected an activation that fits into memory, got 1,125,9.. GB for 64 samples",
        ),
        (lambda m: m.compile(["native"]), "expected one of native, reference, torch"),
        (lambda m: m.store.load({"head.bias": [[1], [2, 3]]}), "expected head.bias as an array of numbers, got list"),
        (lambda m: m.store.load({"head.bias": ["a", "b", "c"]}), "expected head.bias as an array of numbers"),
    ],
)
def test_mistakes_are_refused_in_one_line(act, text):
    with pytest.raises(FoveaError, match=text) as caught:
        act(small_model())
    assert "\n" not in str(caught.value)


def test_inputs_of_unequal_length_are_refused_and_never_cut():
    a, b = fovea.Input((4,)), fovea.Input((4,))
    model = fovea.Model(fovea.Graph([a, b], a + b))
    short, long = np.ones((256, 4), np.float32), np.ones((512, 4), np.float32)
    for inputs in ((short, long), (long, short)):
        with pytest.raises(FoveaError, match="expected as many samples in every input, got"):
            model(*inputs)
    assert model(short, short).shape == (256, 4)


def test_class_names_may_come_as_an_array():
    assert fovea.Model(fovea.Dense(2), (5,), classes=np.array(["a", "b"])).classes == ("a", "b")


@pytest.mark.parametrize("name", ["loss", "target", "preprocess"])
def test_a_node_may_have_the_name_of_one_that_is_added(name):
    model = fovea.Model(fovea.Sequential({name: fovea.Conv(2, 3)}, fovea.GlobalAvgPool()), (8, 8, 3))
    model.preprocessing = fovea.Preprocessing(size=(8, 8))
    plan = model.compile("reference", 2, pixels=True, training=True, loss=LOSS)
    plan.forward(np.zeros((2, 8, 8, 3), np.uint8))
    assert len(plan.loss(np.array([0, 1]))) == 1


def test_losses_of_two_outputs_of_one_node():
    x = fovea.Input((6,))
    graph = fovea.Graph(x, list(fovea.Split((2, 4))(x, name="cut")))
    loss = {Ref("cut", index): (fovea.MeanSquaredError(), 1.0) for index in (0, 1)}
    plan = fovea.Model(graph).compile("reference", 3, training=True, loss=loss)
    plan.forward(np.ones((3, 6), np.float32))
    assert plan.loss([np.zeros((3, 2)), np.full((3, 4), 3.0)]) == (1.0, 4.0)


def test_constants_of_a_loaded_graph_keep_their_values_in_another_model(tmp_path):
    x = fovea.Input((2,))
    model = fovea.Model(fovea.Graph(x, x + fovea.Constant([1.0, 2.0])()))
    loaded = fovea.load(model.save(tmp_path / "m.safetensors"))
    again = fovea.Model(fovea.Sequential(loaded.graph, fovea.ReLU()), input_shape=(2,))
    for one in (loaded, fovea.Model(loaded.graph), again):
        plan = one.compile("reference")
        assert plan.forward(np.zeros((1, 2), np.float32)).tolist() == [[1.0, 2.0]]


def test_integers_that_are_no_pixels_are_refused_and_never_wrapped():
    plan = small_model().compile("reference", 1, pixels=True)
    with pytest.raises(FoveaError, match="expected values 0 to 255, got 0 to 300"):
        plan.forward(np.arange(768).reshape(1, 16, 16, 3) % 301)


def test_copies_and_pickles_hold_the_numbers_and_make_plans_of_their_own():
    model = small_model()
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (other(x) == expected).all()
        other.parameters()["head.bias"][:] += 1
        assert (model(x) == expected).all()


def test_a_shallow_copy_that_is_given_other_numbers_computes_with_them():
    model, other = small_model(), small_model()
    x = np.ones((2, 16, 16, 3), np.float32)
    other.parameters()["head.bias"][:] += 1
    expected = model(x)  # its plan is kept, and is none of the copy's
    shallow = copy.copy(model)
    shallow.store = other.store
    np.testing.assert_allclose(shallow(x), expected + 1, rtol=1e-5)
    assert (model(x) == expected).all()


def test_threads_that_ask_one_model_get_what_they_asked_for():
    model = small_model()
    inputs = [np.full((n, 16, 16, 3), n, np.float32) for n in (1, 2, 3, 4, 5, 6, 7, 8)]
    expected = [model(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(model, inputs * 5))
    assert all((one == other).all() for one, other in zip(results, expected * 5, strict=True))
