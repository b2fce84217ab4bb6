"""Detectors at work, with one whose every box is known: letterboxing inverted, tiles, mirror images, sizes."""

import dataclasses

import numpy as np
import pytest

from fovea.data.boxes import box_iou
from fovea.data.spatial import place
from fovea.detection.detect import Detector, detect
from fovea.detection.look import look_at
from fovea.errors import ConfigError, DataError
from fovea.models import small_cnn
from tests.detect.square_finder import CELL, NAMES, finder, painted


@pytest.mark.parametrize("seed", range(25))
def test_letterboxing_is_inverted_exactly(seed):
    """An object painted where a cell of the network's input comes from is found exactly there."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(70, 500, 2))
    where = place(height, width, (64, 64), "letterbox")
    cells = [(x, y) for x in range(0, 64, CELL) for y in range(0, 64, CELL)]
    inside = [
        (x, y) for x, y in cells
        if where.left <= x and x + CELL <= where.left + where.width
        and where.top <= y and y + CELL <= where.top + where.height
    ]  # fmt: skip
    x, y = inside[int(rng.integers(len(inside)))]
    box = where.to_source(np.array([[x, y], [x + CELL, y + CELL]], float)).reshape(4)
    x1, y1, x2, y2 = (round(float(side)) for side in box)
    colour = seed % 2
    (found,) = detect(finder(), painted(height, width, [(x1, y1, x2, y2, colour)]))
    (one,) = found.objects
    np.testing.assert_allclose(one.box, np.clip(box, 0, [width, height] * 2), atol=1e-4)
    assert (one.label, one.index) == (NAMES[colour], colour)
    assert box_iou(np.array([one.box]), np.array([[x1, y1, x2, y2]]))[0, 0] > 0.5
    np.testing.assert_allclose(
        where.to_output(np.reshape(one.box, (2, 2))).ravel(), [x, y, x + CELL, y + CELL], atol=1e-3
    )


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "shorter-side"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_go_back_through_every_kind_of_look(resize, mirrored):
    how = finder(resize=resize).preprocessing
    image = painted(200, 300, [])
    look = look_at(image, (40, 60, 190, 280), how, mirrored)
    inner = np.array([[70, 50, 120, 90], [150, 80, 200, 150.0]])  # in the image
    seen = look.place.to_output(inner.reshape(-1, 2, 2) - [60, 40])
    if mirrored:
        seen = np.stack([64 - seen[:, 1, 0], seen[:, 0, 1], 64 - seen[:, 0, 0], seen[:, 1, 1]], axis=-1)
    np.testing.assert_allclose(look.to_image(seen.reshape(-1, 4)), inner, atol=1e-9)


def test_an_image_like_the_input_is_found_as_predict_finds_it():
    model = finder()
    images = [painted(64, 64, [(8, 8, 16, 16, 0), (40, 24, 48, 32, 1)]), painted(128, 64, [(16, 32, 32, 48, 1)])]
    ours, theirs = detect(model, images), model.predict(images)
    assert ours == theirs
    assert [len(one.objects) for one in ours] == [2, 1]
    assert {one.box for one in ours[0].objects} == {(8, 8, 16, 16), (40, 24, 48, 32)}


def test_tiles_find_what_is_too_small_for_the_whole():
    model, image = finder(), painted(256, 384, [(40, 72, 48, 80, 0), (328, 184, 336, 192, 1), (64, 0, 72, 8, 1)])
    assert detect(model, image)[0].objects == ()
    (found,) = detect(model, image, tile=64, overlap=0.5)
    assert {(one.label, *one.box) for one in found.objects} == {
        ("red", 40, 72, 48, 80), ("blue", 328, 184, 336, 192), ("blue", 64, 0, 72, 8),
    }  # fmt: skip
    assert all(one.score > 0.9 for one in found.objects)


def test_tiles_and_the_whole_give_one_box():
    """A square that the whole image shows; tiles of half its size see only parts of it."""
    image = painted(128, 128, [(16, 16, 32, 32, 0)])
    (whole,) = detect(finder(), image)
    (both,) = detect(finder(), image, tile=64, overlap=0.5)
    assert [one.box for one in whole.objects] == [(16, 16, 32, 32)]
    large = [one for one in both.objects if one.box == (16, 16, 32, 32)]
    assert len(large) == 1


def test_mirror_images_agree_with_the_image():
    model, image = finder(open_size=False), painted(64, 64, [(8, 8, 16, 16, 0), (40, 24, 48, 32, 1)])
    plain, several = detect(model, image)[0], detect(model, image, tta=True)[0]
    assert len(Detector(model, tta=True).hows) == 1
    assert {one.box for one in several.objects} == {one.box for one in plain.objects}
    for one, other in zip(plain.objects, several.objects, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)


def test_the_rounding_of_a_fused_box_leaves_it_inside_the_image(monkeypatch):
    beyond = np.array([[-1e-14, 3.0, 64.0 + 2e-14, 30.0, 0.9, 0.0]])
    monkeypatch.setattr("fovea.detection.detect.fuse_boxes", lambda *given, **options: beyond)
    (one,) = detect(finder(), painted(64, 64, []), tta=True)[0].objects
    assert one.box == (0.0, 3.0, 64.0, 30.0)


def test_an_open_network_looks_at_another_size():
    model = finder()
    detector = Detector(model, tta=True)
    assert [how.size for how in detector.hows] == [(64, 64), (48, 48), (80, 80)]
    (found,) = detect(model, painted(64, 64, [(32, 32, 64, 64, 0)]), tta=True, score_threshold=0.05)
    assert found.objects
    boxes = np.array([one.box for one in found.objects])
    assert (boxes[:, :2] >= 31).all()
    assert set(detector.seconds.values()) == {0.0}
    detector(painted(64, 64, []))
    assert all(value > 0 for value in detector.seconds.values())


def test_soft_suppression_keeps_what_overlaps():
    model = finder(iou_threshold=0.0)  # neighbours of 8 x 8 do not overlap: make them
    values = model.parameters()
    bias = next(name for name, value in values.items() if value.shape == (4,))
    values[bias][...] = 1.0  # boxes of 16 x 16 around each cell
    model.store.touch()
    image = painted(64, 64, [(8, 8, 24, 16, 0)])
    assert len(detect(model, image)[0].objects) == 1
    soft = detect(model, image, soft=True)[0].objects
    assert len(soft) == 2
    assert soft[1].score == pytest.approx(soft[0].score * np.exp(-((1 / 3) ** 2) / 0.5), rel=1e-4)


def test_options_change_what_is_shown():
    model, image = finder(), painted(64, 64, [(8, 8, 16, 16, 0), (32, 32, 40, 38, 1)])
    scores = [one.score for one in detect(model, image, score_threshold=0.01)[0].objects]
    assert len(scores) > 1
    assert len(detect(model, image, score_threshold=scores[0] - 1e-6)[0].objects) == 1
    both = painted(64, 64, [(8, 8, 16, 16, 0)]) + painted(64, 64, [(8, 8, 16, 16, 1)])
    assert len(detect(model, both)[0].objects) == 2
    assert len(detect(model, both, class_agnostic=True)[0].objects) == 1


def test_mistakes_are_told():
    model, image = finder(), painted(64, 64, [])
    with pytest.raises(ConfigError, match="expected a model that finds boxes, got one for classification"):
        detect(small_cnn(2, (8, 8, 3)), image)
    with pytest.raises(ConfigError, match="at least 32, got 5"):
        detect(model, image, tile=5)
    with pytest.raises(ConfigError, match=r"from 0 to 0\.9, got 1"):
        detect(model, image, tile=64, overlap=1)
    with pytest.raises(ConfigError, match="score_threshold"):
        detect(model, image, score_threshold=2)
    with pytest.raises(DataError, match="expected images as uint8"):
        detect(model, [image.astype(float)])
    with pytest.raises(DataError, match="expected a file, found none"):
        detect(model, "nowhere.jpg")
    with pytest.raises(ConfigError, match="expected a model, got str"):
        detect("runs/cells", image)
    model.preprocessing = dataclasses.replace(model.preprocessing, size=None, resize="none")
    with pytest.raises(DataError, match="fits images into a size, got one without"):
        detect(model, image)
    model.preprocessing = None
    with pytest.raises(DataError, match="knows its preprocessing"):
        detect(model, image)
