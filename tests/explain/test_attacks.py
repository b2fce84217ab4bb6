"""Adversarial images stay within epsilon in whole pixels, flip a trained network, and keep their promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea
from fovea.errors import ConfigError, DataError
from fovea.explain import adversarial, fooling
from fovea.model import Model
from fovea.tasks.metrics import cross_entropy
from tests.explain.small_networks import NAMES, pictures, trained


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_within_epsilon_exactly_and_flipped(method: str, engine: str) -> None:
    model, (images, targets) = trained(), pictures(24, seed=11)
    found = adversarial(model, images, method, epsilon=32 / 255, targets=targets, engine=engine)
    assert found.changed.dtype == np.uint8
    change = found.changed.astype(int) - images
    assert np.abs(change).max() == 32
    np.testing.assert_array_equal(change, found.perturbation)
    assert found.flipped.mean() > 0.5
    labels = [one.to_dict()["label"] for one in found.after]
    assert labels == [one.to_dict()["label"] for one in model.predict(found.changed)]
    before, after = (cross_entropy(model.logits(x), targets) for x in (images, found.changed))
    assert after > before + 0.5


def test_fgsm_is_one_step_along_the_sign() -> None:
    """Held to central differences in whole pixels, where the slope is clear."""
    model, (images, _) = trained(), pictures(2, seed=4)
    found = adversarial(model, images, "fgsm", epsilon=1 / 255)
    sure = model.logits(images).argmax(axis=1)
    rng = np.random.default_rng(0)
    agreed = []
    for _ in range(40):
        row, y, x, c = 0, *rng.integers(0, 16, 2), rng.integers(0, 3)
        values = []
        for step in (4, -4):
            moved = images[row : row + 1].astype(int)
            moved[0, y, x, c] += step
            values.append(cross_entropy(model.logits(moved.clip(0, 255).astype(np.uint8)), sure[row : row + 1]))
        agreed.append(np.sign(values[0] - values[1]) == np.sign(found.perturbation[row, y, x, c]))
    assert np.mean(agreed) > 0.9


def test_pgd_is_at_least_as_strong_as_fgsm_and_never_helps() -> None:
    model, (images, targets) = trained(), pictures(24, seed=12)
    losses = {}
    for method in ("fgsm", "pgd"):
        found = adversarial(model, images, method, epsilon=12 / 255, targets=targets)
        losses[method] = [
            cross_entropy(model.logits(x[None]), t[None]) for x, t in zip(found.changed, targets, strict=True)
        ]
    before = [cross_entropy(model.logits(x[None]), t[None]) for x, t in zip(images, targets, strict=True)]
    assert np.mean(losses["pgd"]) >= np.mean(losses["fgsm"])
    assert (np.array(losses["pgd"]) >= np.array(before) - 1e-6).all()


def test_borders_of_the_range_hold() -> None:
    model = trained()
    images = np.zeros((2, 16, 16, 3), np.uint8)
    images[1] = 255
    found = adversarial(model, images, "pgd", epsilon=16 / 255, steps=3)
    assert found.changed[0].max() <= 16
    assert found.changed[1].min() >= 239


def test_towards_a_class() -> None:
    model, (images, _) = trained(), pictures(9, seed=2)
    found = adversarial(model, images, "pgd", epsilon=48 / 255, target="green", steps=20)
    assert found.targeted
    assert found.targets.tolist() == [1] * 9
    assert np.mean([one.to_dict()["label"] == "green" for one in found.after]) > 0.8
    shown = found.amplified()
    assert shown.dtype == np.uint8
    assert shown[found.perturbation == 48].tolist() == [255] * int((found.perturbation == 48).sum())
    assert shown.min() >= 0


def test_it_repeats_and_pieces_do_not_matter() -> None:
    model, (images, _) = trained(), pictures(20, seed=2)
    whole = adversarial(model, images, "pgd", epsilon=8 / 255, steps=3, seed=1).changed
    np.testing.assert_array_equal(whole, adversarial(model, images, "pgd", epsilon=8 / 255, steps=3, seed=1).changed)
    assert (whole != adversarial(model, images, "pgd", epsilon=8 / 255, steps=3, seed=2).changed).any()


def test_the_order_of_channels_is_that_of_the_image() -> None:
    """A network that takes blue first gets the same attack as one with its first layer turned round."""
    model, (images, _) = trained(), pictures(4, seed=6)
    known = model.preprocessing
    assert known is not None
    turned = fovea.Preprocessing(size=known.size, order="bgr", mean=known.mean, std=known.std)
    store = {path: array.copy() for path, array in model.store.tensors().items()}
    other = Model(model.graph, classes=NAMES, preprocessing=turned)
    for path, array in other.store.tensors().items():
        array[...] = store[path][:, :, ::-1] if path == "conv1.weight" else store[path]
    other.store.touch()
    one, two = (adversarial(m, images, "fgsm", epsilon=4 / 255, engine="reference") for m in (model, other))
    assert (one.changed != two.changed).mean() < 0.01  # the sign of a slope of almost 0


def test_fooling_noise_is_taken_for_a_class() -> None:
    found = fooling(trained(), ["red", "stripes"], steps=60)
    assert [one.to_dict()["label"] for one in found.after] == ["red", "stripes"]
    assert found.images.std() < 12
    np.testing.assert_array_equal(found.changed, fooling(trained(), ["red", "stripes"], steps=60).changed)


def test_a_network_that_ends_in_softmax() -> None:
    model, (images, targets) = trained(), pictures(12, seed=11)

    def with_softmax(x: Any) -> Any:
        return fovea.Softmax()(model.graph(x, name="net"))

    other = Model(with_softmax, (16, 16, 3), NAMES, preprocessing=model.preprocessing)
    for path, array in other.store.tensors().items():
        array[...] = model.store.tensors()[path.split(".", path.count(".") - 1)[-1]]
    other.store.touch()
    found = adversarial(other, images, "fgsm", epsilon=32 / 255, targets=targets)
    same = adversarial(model, images, "fgsm", epsilon=32 / 255, targets=targets)
    assert (found.changed != same.changed).mean() < 0.01


MISTAKES: list[tuple[Any, str]] = [
    (lambda m, x: adversarial(m, x, "cw"), r"\[adversarial\] expected fgsm or pgd, got 'cw'"),
    (lambda m, x: adversarial(m, x, epsilon=4), r"expected epsilon from 1/255 to 1, got 4; 4/255 is usual"),
    (lambda m, x: adversarial(m, x, epsilon=0), r"expected epsilon from 1/255 to 1, got 0"),
    (lambda m, x: adversarial(m, x, steps=0), r"expected steps as an integer from 1 to 10000, got 0"),
    (lambda m, x: adversarial(m, x, target="blue"), r"expected the name of one class, got 'blue'"),
    (lambda m, x: adversarial(m, x, target=3), r"expected a class from 0 to 2 or its name, got 3"),
    (lambda m, x: adversarial(m, x, targets=[0]), r"expected a class for each of 2 images, got 1"),
    (lambda m, x: adversarial(m, x, targets=[0, 1], target=1), r"got both; give one"),
    (lambda m, x: fooling(m, "blue"), r"expected the name of one class, got 'blue'"),
    (lambda m, x: fooling(m, 0, steps=True), r"\[fooling\] expected steps as an integer"),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_are_told_in_one_line(number: int) -> None:
    call, words = MISTAKES[number]
    with pytest.raises(ConfigError, match=words):
        call(trained(), pictures(2)[0])


def test_other_tasks_and_kinds_are_refused() -> None:
    with pytest.raises(DataError, match="expected a model with preprocessing of images, got none"):
        adversarial(Model.from_store(trained().graph, trained().store), pictures(1)[0])
    x = fovea.Input((16, 16, 3))
    pooled = fovea.GlobalAvgPool()(fovea.Conv(2, 3)(x))
    two = Model(fovea.Graph(x, [fovea.Dense(2)(pooled), fovea.Dense(3)(pooled)]), seed=0)
    two.preprocessing = trained().preprocessing
    with pytest.raises(ConfigError, match="expected a classifier with outputs N,classes, got 2 outputs"):
        adversarial(two, pictures(1)[0])
