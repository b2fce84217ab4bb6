"""The preprocessing record: geometry by hand, JSON both ways, hostile records refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fovea.data import spatial
from fovea.data.preprocess import Preprocessing, pixel_statistics
from fovea.errors import DataError

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("source", "size", "resize", "resize_to", "resized", "corner"),
    [
        ((40, 60), (20, 20), "shorter-side", None, (20, 30), (0, -5)),
        ((60, 40), (20, 20), "shorter-side", None, (30, 20), (-5, 0)),
        (
            (480, 640),
            (224, 224),
            "shorter-side",
            256,
            (256, 341),
            (-16, -58),
        ),  # torchvision: Resize(256), CenterCrop(224)
        ((40, 60), (20, 20), "stretch", None, (20, 20), (0, 0)),
        ((40, 60), (30, 30), "letterbox", None, (20, 30), (5, 0)),
        ((10, 30), (20, 20), "none", None, (10, 30), (5, -5)),
        ((1, 1), (8, 8), "shorter-side", None, (8, 8), (0, 0)),
        ((1, 4000), (8, 8), "letterbox", None, (1, 8), (4, 0)),
        ((30, 40), None, "shorter-side", 15, (15, 20), (0, 0)),
    ],
)
def test_placement(source, size, resize, resize_to, resized, corner) -> None:
    plan = spatial.place(*source, size, resize, resize_to)
    assert (plan.height, plan.width) == resized
    assert (plan.top, plan.left) == corner
    points = np.array([[0.0, 0.0], [source[1], source[0]], [3.5, 7.25]])
    assert np.allclose(plan.to_source(plan.to_output(points)), points)
    image = RNG.integers(0, 256, (*source, 3), dtype=np.uint8)
    assert spatial.transform(image, plan, "bilinear", True, 114).shape == (*(size or resized), 3)


def test_letterbox_pads_with_fill_and_keeps_the_aspect() -> None:
    image = np.full((10, 20, 3), 7, np.uint8)
    output = Preprocessing(size=(20, 20), resize="letterbox", fill=99).apply_to_sample(image)
    assert (output[:5] == 99).all()
    assert (output[5:15] == 7).all()
    assert (output[15:] == 99).all()


def test_resizing_is_pillows_and_can_sample_points() -> None:
    image = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((16, 12), Image.Resampling.BICUBIC))
    assert np.array_equal(spatial.resize(image, 12, 16, "bicubic"), expected)
    doubled = np.repeat(np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 20, 8, 0), 1, 2)  # 8,8,1 ramp
    halved = spatial.resize(doubled, 4, 4, "bilinear", antialias=False)
    assert halved[0, :, 0].tolist() == [10, 50, 90, 130], "halfway between the two pixels that each one covers"
    five = RNG.integers(0, 256, (9, 9, 5), dtype=np.uint8)
    assert np.array_equal(spatial.resize(five, 4, 5)[..., 2:3], spatial.resize(five[..., 2:3], 4, 5))


def test_a_batch_that_fits_is_returned_untouched() -> None:
    batch = RNG.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    record = Preprocessing(size=(8, 8))
    assert record.apply_spatial(batch) is batch
    assert np.array_equal(record.apply_spatial(list(batch)), batch)
    assert record.apply_spatial([]).shape == (0, 8, 8, 3)
    unequal = [batch[0], RNG.integers(0, 256, (20, 9, 1), dtype=np.uint8)]
    assert record.apply_spatial(unequal).shape == (2, 8, 8, 3)
    with pytest.raises(DataError, match="unequal size need a size"):
        Preprocessing(size=None, resize="none").apply_spatial([batch[0], unequal[1]])


def test_grey_and_colour_are_converted() -> None:
    color = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    grey = Preprocessing(size=(4, 4), channels=1).apply_to_sample(color)
    assert np.array_equal(grey[..., 0], np.asarray(Image.fromarray(color).convert("L")))
    assert np.array_equal(Preprocessing(size=(4, 4)).apply_to_sample(grey), np.repeat(grey, 3, axis=2))
    with pytest.raises(DataError, match="images have 2 channels, 3 are expected"):
        Preprocessing(size=(4, 4)).apply_to_sample(color[..., :2])


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "expected a uint8 image of shape"),
        (np.zeros((4, 4), np.uint8), r"got shape \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got shape \(0, 4, 3\)"),
    ],
)
def test_wrong_samples_are_refused(sample, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocessing(size=(4, 4)).apply_to_sample(sample)


def test_signals_and_volumes() -> None:
    signal = Preprocessing("signal", size=(5,), channels=1, resize="none", scale=1.0)
    long, short = np.arange(8.0).reshape(8, 1), np.arange(3.0).reshape(3, 1)
    assert signal.apply_spatial([long, short])[..., 0].tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 0]]
    stereo = np.stack([np.zeros(5), np.ones(5)], axis=1)
    assert signal.apply_to_sample(stereo)[:, 0].tolist() == [0.5] * 5
    volume = Preprocessing("volume", size=(2, 2, 2), channels=1, resize="none", per_sample=True, scale=1.0)
    cube = RNG.normal(1000, 7, (4, 4, 4, 1))
    standard = (cube - cube.mean()) / cube.std()
    assert np.allclose(volume.apply_to_sample(cube), standard[1:3, 1:3, 1:3], atol=1e-5)
    assert not volume.apply_to_sample(np.full((2, 2, 2, 1), 3.0)).any(), "a constant volume is not divided by zero"
    with pytest.raises(DataError, match="infinite or not a number"):
        signal.apply_to_sample(np.full((5, 1), np.nan))


def test_clips_take_evenly_spaced_frames() -> None:
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(6, 1).repeat(6, 2).repeat(3, 3)
    output = Preprocessing("clip", size=(4, 3, 3)).apply_to_sample(frames)
    assert output.shape == (4, 3, 3, 3)
    assert output[:, 0, 0, 0].tolist() == [0, 3, 6, 9]


def test_pixels_are_the_formula() -> None:
    record = Preprocessing(size=(2, 2), order="bgr", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    batch = RNG.integers(0, 256, (2, 2, 2, 3), dtype=np.uint8)
    expected = (batch[..., ::-1] / 255.0 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.25, 0.125])
    assert np.allclose(record.apply_pixels(batch), expected, atol=1e-5)
    assert record.apply_pixels(batch).dtype == np.float32
    assert set(record.normalize()) == {"mean", "std", "scale", "order"}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_statistics(dtype) -> None:
    values = RNG.integers(0, 256, (70, 9, 11, 3)).astype(dtype)
    values[..., 2] = 40
    mean, std = pixel_statistics(values, 1 / 255)
    assert np.allclose(mean, values.reshape(-1, 3).mean(0) / 255, atol=1e-5)
    assert np.allclose(std[:2], values.reshape(-1, 3).std(0)[:2] / 255, atol=1e-5)
    assert std[2] == 1.0, "a constant channel is not divided by zero"


@pytest.mark.parametrize(
    "record",
    [
        Preprocessing(),
        Preprocessing(size=(224, 224), resize_to=256, interpolation="bicubic", mean=(0.4,) * 3, std=(0.2,) * 3),
        Preprocessing("signal", size=(800,), channels=2, resize="none", scale=1.0, per_sample=True),
        Preprocessing("clip", size=(4, 8, 8)),
    ],
)
def test_json_both_ways(record: Preprocessing) -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "smell"}, "kind='smell' is not one of"),
        ({"size": [0, 4]}, r"size of kind 'image' must be \(height, width\)"),
        ({"size": [1 << 40, 4]}, "size of kind"),
        ({"size": "large"}, "size must be a list of numbers"),
        ({"size": [3.5, 4]}, "size of kind"),
        ({"channels": 0}, "channels must be an integer"),
        ({"channels": True}, "channels must be an integer"),
        ({"std": [0.0, 1.0, 1.0]}, "std must be positive"),
        ({"std": [-1.0]}, "std must be positive"),
        ({"mean": [float("nan")]}, "mean needs 3 finite numbers"),
        ({"mean": [1.0, 2.0]}, "mean needs 3 finite numbers"),
        ({"mean": [[1.0]]}, "mean must be a list of numbers"),
        ({"scale": "1/255"}, "scale must be a finite number"),
        ({"scale": 0}, "scale must be a finite number"),
        ({"fill": 300}, "fill must be an integer"),
        ({"antialias": "yes"}, "antialias must be true or false"),
        ({"resize_to": 3, "size": [8, 8]}, "resize_to must be an integer from 8"),
        ({"order": "bgr", "channels": 1}, "needs 3 channels"),
        ({"run": "rm"}, "has unknown fields run"),
        ({"resize": None}, "resize=None is not one of"),
    ],
)
def test_hostile_records_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocessing.from_dict({**Preprocessing().to_dict(), "mean": [0.0], "std": [1.0], **change})


def test_a_record_must_be_an_object() -> None:
    with pytest.raises(DataError, match="expected an object"):
        Preprocessing.from_dict([1, 2])  # type: ignore[arg-type]
