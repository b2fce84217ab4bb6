"""What people type by mistake gets one line that says what to type instead."""

from __future__ import annotations

import numpy as np
import pytest

import fovea
from fovea.errors import FoveaError
from tests.model.test_model_file import small_model

LOSS = fovea.SoftmaxCrossEntropy()


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda m: fovea.Model(fovea.Dense(2), 5), "expected input_shape as sizes and channels, got 5"),
        (lambda m: fovea.Model(fovea.Dense(2), (5,), classes="ab"), "expected classes as a list of names, got 'ab'"),
        (lambda m: fovea.Model(fovea.Dense(2), (5,), classes=2), "expected classes as a list of names, got 2"),
        (lambda m: m.freeze(["stem"]), r"expected paths or patterns as texts, got \['stem'\]"),
        (lambda m: m.predict(None), "expected images or paths, got NoneType"),
        (lambda m: m.forward(np.zeros((1, 16, 16, 3)), keep="stem"), "expected keep as a list of names, got 'stem'"),
        (lambda m: m.compile(keep="stem"), r"expected keep as a list of names, got 'stem'; give \['stem'\]"),
        (lambda m: m.compile(wrt=None), "expected wrt as a list of names, got None"),
        (lambda m: m.compile(training=True, trainable="stem"), "expected trainable as a list of names, got 'stem'"),
        (lambda m: m.compile(training=True, loss=LOSS, optimizer="sgd"), "expected an optimizer such as .* got 'sgd'"),
        (lambda m: m.compile(input_shape=16), "expected input_shape as sizes and channels, got 16"),
        (lambda m: m.compile(batch_size=10**12), "expected batch_size as an integer of at least 1 .* got 1000000"),
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
