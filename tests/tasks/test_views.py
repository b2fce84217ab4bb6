"""Test-time augmentation: which views there are, by hand, and that their mean is one of probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea.data import from_arrays
from fovea.errors import ConfigError
from fovea.tasks import Classification, Regression
from fovea.tasks.metrics import softmax
from fovea.tasks.views import VIEWS, averaged, enlarged, views

LARGE = fovea.Preprocessing(size=(84, 70), channels=1)
SMALL = fovea.Preprocessing(size=(4, 3), channels=1)


def test_flips_by_hand() -> None:
    batch = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    first, second = views(batch, "flip", (2, 3))
    np.testing.assert_array_equal(first[0, ..., 0], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(second[0, ..., 0], [[2, 1, 0], [5, 4, 3]])


def test_crops_of_large_images_are_corners_and_centre() -> None:
    how = enlarged(LARGE, "five-crop")
    assert how.size == (96, 80)
    rows, columns = np.meshgrid(np.arange(96), np.arange(80), indexing="ij")
    batch = np.stack([rows, columns], axis=-1)[None].astype(np.uint8)
    found = list(views(batch, "five-crop", LARGE.size))
    assert [view.shape for view in found] == [(1, 84, 70, 2)] * 5
    assert [tuple(view[0, 0, 0]) for view in found] == [(0, 0), (0, 10), (12, 0), (12, 10), (6, 5)]
    ten = list(views(batch, "ten-crop", LARGE.size))
    assert len(ten) == 10
    for crop, plain, mirrored in zip(found, ten[::2], ten[1::2], strict=True):
        np.testing.assert_array_equal(plain, crop)
        np.testing.assert_array_equal(mirrored, crop[:, :, ::-1])


def test_crops_of_small_images_are_shifts_by_a_pixel() -> None:
    assert enlarged(SMALL, "ten-crop") == SMALL
    batch = np.arange(12, dtype=np.uint8).reshape(1, 4, 3, 1)
    found = [view[0, ..., 0] for view in views(batch, "five-crop", (4, 3))]
    np.testing.assert_array_equal(found[0], [[0, 0, 1], [0, 0, 1], [3, 3, 4], [6, 6, 7]])
    np.testing.assert_array_equal(found[3], [[4, 5, 5], [7, 8, 8], [10, 11, 11], [10, 11, 11]])
    np.testing.assert_array_equal(found[4], batch[0, ..., 0])


def test_images_are_resized_as_ever_where_more_than_the_input_was_left() -> None:
    wide = fovea.Preprocessing(size=(224, 224), resize_to=256)
    assert enlarged(wide, "five-crop") == fovea.Preprocessing(size=(256, 256), resize_to=256)
    tight = fovea.Preprocessing(size=(224, 224), resize_to=232)
    assert enlarged(tight, "five-crop") == fovea.Preprocessing(size=(256, 256), resize_to=256)
    assert enlarged(wide, "flip") == wide
    clip = fovea.Preprocessing(kind="clip", size=(3, 112, 112))
    assert enlarged(clip, "ten-crop").size == (3, 128, 128)


def test_what_has_no_views_is_refused() -> None:
    for how, tta, text in (
        (LARGE, "five", "expected one of flip, five-crop, ten-crop, got 'five'"),
        (
            fovea.Preprocessing(kind="signal", channels=1),
            "flip",
            "expected a model of images or clips, got one of signals",
        ),
        (fovea.Preprocessing(), "five-crop", "expected a model with a fixed input size for five-crop, got an open one"),
    ):
        with pytest.raises(ConfigError, match=text):
            enlarged(how, tta)


def test_probabilities_are_averaged_and_read_the_same_at_any_temperature() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.standard_normal((3, 5, 4)) * 6
    for temperature in (0.5, 1.0, 3.0):
        task = Classification(temperature)
        mean = softmax(outputs / temperature).mean(axis=0)
        np.testing.assert_allclose(softmax(task.average(list(outputs)) / temperature), mean, rtol=1e-12)
        found = task.decode(task.average(list(outputs)), top_k=4)
        assert [one.to_dict()["probability"] for one in found] == pytest.approx(mean.max(axis=1).tolist(), rel=1e-12)
    np.testing.assert_allclose(Regression(2.0, 3.0).average(list(outputs)), outputs.mean(axis=0))
    certain = np.array([[0.0, -5000.0]])
    assert np.isfinite(Classification().average([certain, certain])).all()


@pytest.mark.parametrize("tta", VIEWS)
def test_predict_and_evaluate_see_the_same_views(tta: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 80, 72, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    how = fovea.Preprocessing(size=(70, 63), mean=(0.5,) * 3, std=(0.25,) * 3)
    net = fovea.Sequential(fovea.Conv(4, 5, stride=3), fovea.ReLU(), fovea.Flatten(), fovea.Dense(3))
    task = Classification(temperature=2.0)
    model = fovea.Model(net, (70, 63, 3), ["a", "b", "c"], preprocessing=how, task=task, seed=1)
    larger = enlarged(how, tta).apply_spatial(list(images))
    each = [softmax(model(how.apply_pixels(view)) / 2.0) for view in views(larger, tta, how.size)]
    assert len(each) == VIEWS[tta]
    wanted = np.mean(each, axis=0)
    answers = model.predict([tmp_path / f"{index}.png" for index in range(6)], top_k=3, tta=tta)
    for row, answer in zip(wanted, answers, strict=True):
        given = dict(answer.top)  # type: ignore[attr-defined]  # a ClassPrediction
        np.testing.assert_allclose([given[name] for name in "abc"], row, rtol=1e-4)
    targets = np.array([0, 1, 2, 0, 1, 2])
    data = from_arrays((images[:3], targets[:3]), test=(images, targets), classes=["a", "b", "c"], val_fraction=0)
    result = fovea.evaluate(model, data, tta=tta, min_confidence=0.4, batch_size=4)
    assert result["tta"] == tta
    assert result["accuracy"] == (wanted.argmax(axis=1) == targets).mean()
    assert result["answered"]["n"] == (wanted.max(axis=1) >= 0.4).sum()
    assert model.task == task, "the model itself stays as it is"


def test_a_network_that_ends_in_softmax_is_averaged_too() -> None:
    net = fovea.Sequential(fovea.Flatten(), fovea.Dense(3), fovea.Softmax())
    how = fovea.Preprocessing(size=(4, 4), channels=1)
    model = fovea.Model(net, (4, 4, 1), preprocessing=how, seed=2)
    batch = np.random.default_rng(4).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    wanted = np.mean([model(how.apply_pixels(view)) for view in (batch, batch[:, :, ::-1])], axis=0)
    found = averaged(model.logits, batch, "flip", how.size, model.task)
    np.testing.assert_allclose(softmax(found), wanted, rtol=1e-5)
