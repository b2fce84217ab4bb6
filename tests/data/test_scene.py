"""Scenes for detection: labels follow pixels, for every change alone and for all together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fovea.data.augment.scene import Scene
from fovea.data.augment.tiles import Draws
from fovea.data.augment.warp import Tile, content, draw, moved
from fovea.data.boxes import AREA, BOX, CROWD, DIFFICULT, FLAGS, LABEL, SCALE, is_box, padded, rows_of
from fovea.errors import ConfigError, DataError
from tests.data.scenes import FILL, annotated, keys_of, painted

STILL = {**Scene.none().to_dict(), "visible": 0.0}


def only(**settings: Any) -> Scene:
    """A scene with these parts alone."""
    return Scene.from_dict({**STILL, **settings})


SCENES = {
    "flip": only(flip=1.0),
    "flip_vertical": only(flip_vertical=1.0),
    "quarter_turn": only(quarter_turn=1.0),
    "translate": only(translate=0.4),
    "scale": only(scale=(0.4, 2.5)),
    "crop": only(crop=1.0),
    "degrees": only(degrees=180.0),
    "shear": only(shear=20.0),
    "mosaic": only(mosaic=1.0, scale=(0.4, 1.5)),
    "all": only(
        mosaic=0.6,
        scale=(0.5, 2.0),
        flip=0.5,
        flip_vertical=0.5,
        quarter_turn=0.5,
        translate=0.2,
        crop=0.3,
        degrees=25.0,
        shear=8.0,
    ),
}


def extent(image: Any, threshold: float) -> Any:
    """x1, y1, x2, y2 of the bright pixels; zeros where there are none."""
    bright = image[..., 0] > threshold
    lines, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if not len(lines):
        return np.zeros(4)
    return np.array([columns[0], lines[0], columns[-1] + 1, lines[-1] + 1], float)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [(96, 96), (64, 128)])
def test_labels_follow_pixels(name: str, size: tuple[int, int]) -> None:
    scene, errors = SCENES[name], []
    turned = bool(scene.degrees or scene.shear)
    # the tips of turned corners cover little of a pixel
    threshold, tolerance = (75, 1.5) if turned else (127, 1.0)
    for seed in range(12):
        images, targets = annotated(seed)
        rows = np.arange(len(images))
        for index in rows:
            bright = painted(images, targets, index)
            drawn, labels = scene(bright, targets, rows, keys_of(seed, rows), size=size, fill=FILL)
            plan = Draws(scene, bright, targets, rows, keys_of(seed, rows), size, FILL)
            assert drawn.shape == (len(rows), *size, 3)
            for number, (image, own) in enumerate(zip(drawn, labels, strict=True)):
                there = sum(tile.row == index for tiles in plan.canvases(number) for tile in tiles)
                if there != 1:
                    assert (own[:, LABEL] == index).sum() != 1 or scene.mosaic
                    continue  # not there, or more than once
                found, box = extent(image, threshold), own[own[:, LABEL] == index, BOX]
                if len(box) and turned and (box[0, 2:] - box[0, :2]).min() < 6:  # a tip: few pixels are left of it
                    assert (found[:2] >= box[0, :2] - 1).all()
                    assert (found[2:] <= box[0, 2:] + 1).all()
                elif len(box):
                    assert np.abs(found - box[0]).max() <= tolerance, (seed, index, number)
                    errors.append(found - box[0])
                else:  # only crumbs were taken out
                    assert min(found[2] - found[0], found[3] - found[1]) <= 3
    assert len(errors) > 40
    assert np.abs(np.mean(errors, axis=0)).max() < (0.3 if turned else 0.15), "half a pixel would be seen"


def test_mixup_keeps_the_boxes_of_both() -> None:
    scene = only(mixup=1.0, flip=0.5, translate=0.2)
    for seed in range(10):
        images, targets = annotated(seed, bars=False)
        rows = np.arange(len(images))
        for index in rows:
            drawn, labels = scene(painted(images, targets, index), targets, rows, keys_of(seed, rows), fill=0)
            for number, (image, own) in enumerate(zip(drawn, labels, strict=True)):
                assert is_box(own).sum() <= 2
                assert number in own[:, LABEL]
                box = own[own[:, LABEL] == index, BOX]
                if len(box) == 1:
                    assert np.abs(extent(image, image.max() / 2) - box[0]).max() <= 1


def test_nothing_to_do_changes_nothing() -> None:
    images, targets = annotated(0)
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape)
    rows = np.array([3, 0, 3])
    drawn, labels = Scene.none()(images, targets, rows, keys_of(0, rows))
    assert np.array_equal(drawn, images[rows])
    assert np.array_equal(labels, targets[rows])


def test_a_mirror_is_exact() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 64, 3), dtype=np.uint8)
    targets = padded([rows_of(np.array([[3, 5, 20, 30]]), [0])] * 3)
    rows = np.arange(3)
    drawn, labels = only(flip=1.0)(images, targets, rows, keys_of(0, rows))
    assert np.array_equal(drawn, images[:, :, ::-1])
    assert np.array_equal(labels[:, 0, BOX], [[44, 5, 61, 30]] * 3)


def test_a_quarter_turn_is_exact() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    targets = padded([rows_of(np.array([[3, 5, 20, 30]]), [0])] * 2)
    rows = np.arange(2)
    drawn, labels = only(quarter_turn=1.0)(images, targets, rows, keys_of(0, rows))
    assert np.array_equal(drawn, np.rot90(images, -1, axes=(1, 2)))
    assert np.array_equal(labels[:, 0, BOX], [[34, 3, 59, 20]] * 2)


@pytest.mark.parametrize("name", SCENES)
def test_how_a_batch_is_cut_changes_no_bit(name: str) -> None:
    images, targets = annotated(1)
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape)
    scene = Scene.from_dict({**SCENES[name].to_dict(), "hue": 0.1, "saturation": 0.5, "value": 0.4, "mixup": 0.5})
    rows = np.array([4, 1, 0, 3, 2])
    drawn, labels = scene(images, targets, rows, keys_of(7, rows))
    for part in (slice(0, 2), slice(2, 5), slice(3, 4)):
        some, own = scene(images, targets, rows[part], keys_of(7, rows[part]))
        assert np.array_equal(some, drawn[part])
        for one, whole in zip(own, labels[part], strict=True):
            assert np.array_equal(one[is_box(one)], whole[is_box(whole)])


@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_mosaic_leaves_nothing_empty_and_takes_from_everywhere(turn: float) -> None:
    images, targets = annotated(0, count=30)
    images[images == 0] = 200  # bars stay grey
    images[np.arange(30) % 2 == 0] = 201
    rows, seen = np.arange(30), set()
    for seed in range(3):
        drawn, labels = only(mosaic=1.0, quarter_turn=turn)(images, targets, rows, keys_of(seed, rows), fill=FILL)
        assert drawn.min() >= 200, "the bars of letterboxing are cut away"
        seen |= set(labels[is_box(labels)][:, LABEL])
    assert len(seen) == 30


def test_images_without_boxes_and_sets_of_one() -> None:
    images = np.full((1, 64, 64, 3), 50, np.uint8)
    empty = padded([np.zeros((0, 9), np.float32)], np.array([[0.5, 0.25]]))
    drawn, labels = Scene(mosaic=1.0, mixup=1.0, degrees=10)(images, empty, np.zeros(2, int), keys_of(0, [0, 1]))
    assert drawn.shape == (2, 64, 64, 3)
    assert labels.shape == (2, 1, 9)
    assert not is_box(labels).any()
    assert (labels[..., SCALE] > 0).all()
    still = Scene.none()(images, empty, np.zeros(1, int), keys_of(0, [0]))[1]
    assert np.array_equal(still[0, 0, SCALE], [0.5, 0.25])
    twice = only(scale=(2.0, 2.0))(images, empty, np.zeros(1, int), keys_of(0, [0]), size=(128, 128))[1]
    assert np.array_equal(twice[0, 0, SCALE], [2, 1])


@pytest.mark.parametrize("seed", range(40))
def test_any_scene_of_any_image_is_well_formed(seed: int) -> None:
    draws = np.random.default_rng(seed)
    low, high = np.sort(np.exp(draws.uniform(np.log(0.05), np.log(20), 2)))
    names = (
        "mosaic",
        "mixup",
        "crop",
        "paste",
        "flip",
        "flip_vertical",
        "quarter_turn",
        "translate",
        "value",
        "visible",
    )
    scene = Scene(
        scale=(float(low), float(high)), degrees=float(draws.uniform(0, 180)), shear=float(draws.choice([0, 30])),
        **{name: float(draws.choice([0.0, 0.5, 1.0])) for name in names},
    )  # fmt: skip
    height, width, channels = (*draws.integers(1, 70, 2), draws.choice([1, 3]))
    images = draws.integers(0, 256, (4, height, width, channels), dtype=np.uint8)
    corners = np.sort(draws.uniform(0, 1, (4, 30, 2, 2)), axis=2) * [width, height]
    boxes = corners.reshape(4, 30, 4)[:, : draws.integers(0, 30)]
    targets = padded([rows_of(own, np.arange(len(own)), draws.integers(0, 4, len(own))) for own in boxes])
    size = (int(draws.integers(1, 70)), int(draws.integers(1, 70)))
    drawn, labels = scene(images, targets, np.arange(4), keys_of(seed, np.arange(4)), size=size)
    assert drawn.shape == (4, *size, channels)
    assert np.isfinite(labels).all()
    rows = labels[is_box(labels)]
    assert (rows[:, :4] >= 0).all()
    assert (rows[:, 2:4] <= [size[1], size[0]]).all()
    assert (rows[:, 2:4] - rows[:, :2] > 1.999).all()
    assert (rows[:, AREA] > 0).all()
    assert (labels[..., SCALE] > 0).all()


def test_flags_scale_and_area_follow() -> None:
    rows = rows_of(np.array([[10, 10, 30, 20], [0, 0, 10, 10]]), [2, 1], [CROWD, DIFFICULT], area=[150, 100])
    matrix = np.array([[-2.0, 0, 100], [0, 2.0, 0]])
    cut = moved(rows, Tile(0, (0, 0, 50, 50), matrix, (0, 0, 60, 60)), visible=0.1)
    assert cut[:, BOX].tolist() == [[40, 20, 60, 40]]  # 40..80 across, of which the window keeps half
    assert cut[0, FLAGS] == CROWD
    assert cut[0, LABEL] == 2
    assert cut[0, SCALE].tolist() == [2, 2]
    assert cut[0, AREA] == 75
    easy = rows * np.where(np.arange(9) == FLAGS, 0, 1)
    assert moved(easy, Tile(0, (0, 0, 50, 50), matrix, (0, 0, 60, 60)), visible=0.5)[:, FLAGS].tolist() == [0]
    assert moved(easy, Tile(0, (0, 0, 50, 50), matrix, (0, 0, 60, 60)), visible=0.6)[:, FLAGS].tolist() == [CROWD]
    hard = moved(rows[::-1], Tile(0, (0, 0, 50, 50), matrix, (0, 0, 85, 60)), visible=0.5)
    assert hard[:, FLAGS].tolist() == [DIFFICULT | CROWD, CROWD], "a quarter is left of the first, all of the other"
    rows[:, SCALE] = [0.5, 3]
    turned = moved(rows, Tile(0, (0, 0, 50, 50), np.array([[0, -2.0, 60], [2, 0, 0]]), (0, 0, 60, 60)), visible=0.0)
    assert turned[:, SCALE].tolist() == [[6, 1], [6, 1]], "x of the canvas is y of the image"
    part = moved(rows, Tile(0, (20, 0, 50, 50), matrix, (0, 0, 100, 100)), visible=0.1)
    assert part[:, BOX].tolist() == [[40, 20, 60, 40]]


def test_a_turned_box_is_that_of_what_is_seen() -> None:
    angle = np.pi / 4
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rows = rows_of(np.array([[0, 0, 20, 20]]), [0])
    matrix = np.concatenate([turn, np.array([[0.0], [0.0]])], axis=1)  # a diamond: tip at 0, 0, half of it left of 0
    seen = moved(rows, Tile(0, (0, 0, 20, 20), matrix, (0, 0, 100, 100)), visible=0.1)
    assert np.allclose(seen[0, BOX], [0, 0, 20 / np.sqrt(2), 20 * np.sqrt(2)], atol=1e-5)
    tip = moved(rows, Tile(0, (0, 0, 20, 20), matrix, (-50, 0, 50, 5)), visible=0.0)
    assert np.allclose(tip[0, BOX], [-5, 0, 5, 5], atol=1e-5), "the corners beyond the window do not widen it"
    middle = moved(rows, Tile(0, (0, 0, 20, 20), matrix, (-2, 10, 2, 14)), visible=0.0)
    assert np.allclose(middle[0, BOX], [-2, 10, 2, 14], atol=1e-5)


def test_bars_are_found_and_boxes_are_never_cut_off() -> None:
    image = np.full((40, 60, 3), FILL, np.uint8)
    none = np.zeros((0, 9), np.float32)
    assert content(image, none, FILL) == (0, 0, 60, 40)
    image[10:25, 5:50, 1] = 7
    assert content(image, none, FILL) == (5, 10, 50, 25)
    assert content(image, rows_of(np.array([[2.5, 12, 55.5, 44]]), [0]), FILL) == (2, 10, 56, 40)


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_windows_that_meet_show_what_one_would(angle: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    turn = 1.3 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.concatenate([turn, np.array([[3.3], [-5.1]])], axis=1)
    whole, parts = np.zeros((2, 40, 60, 3), np.uint8)
    draw(whole, image, Tile(0, (0, 0, 48, 48), matrix, (0, 0, 60, 40)), FILL)
    for window in ((0, 0, 23, 40), (23, 0, 60, 17), (23, 17, 60, 40)):
        draw(parts, image, Tile(0, (0, 0, 48, 48), matrix, window), FILL)
    assert (np.abs(whole.astype(int) - parts) <= 1).all()
    assert whole.any()


def test_small_drawings_are_averages() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[::4] = 200  # every fourth line: points would be all or nothing
    canvas = np.zeros((16, 16, 3), np.uint8)
    matrix = np.array([[0.25, 0, 0], [0, 0.25, 0]])
    draw(canvas, image, Tile(0, (0, 0, 64, 64), matrix, (0, 0, 16, 16)), FILL)
    assert (np.abs(canvas.astype(int) - 50) <= 1).all()


def test_colors_change_and_greys_have_no_hue() -> None:
    images, targets = annotated(0)
    images[:] = 90
    images[1, ..., 0] = 200
    rows = np.arange(5)
    drawn, labels = only(hue=0.2, saturation=0.9)(images, targets, rows, keys_of(0, rows))
    assert (np.abs(drawn[[0, 2, 3, 4]].astype(int) - 90) <= 1).all()
    assert (drawn[1] != images[1]).any()
    assert np.array_equal(labels, targets)
    bright = only(value=0.4)(images, targets, rows, keys_of(0, rows))[0][:, 0, 0, 1]
    assert len(set(bright.tolist())) == 5
    grey = only(value=0.4, degrees=5.0, mosaic=1.0)(images[..., :1], targets, rows, keys_of(0, rows))[0]
    assert grey.shape == (5, 96, 96, 1)


def test_sizes_are_multiples_of_32_and_depend_on_the_key_alone() -> None:
    scene = Scene(sizes=(0.75, 1.25))
    keys = keys_of(0, np.arange(60))
    drawn = [scene.size((320, 320), key) for key in keys]
    assert set(drawn) == {(side, side) for side in (256, 288, 320, 352, 384)}, "240 to 400"
    assert drawn == [scene.size((320, 320), key) for key in keys]
    assert Scene().size((300, 200), keys[0]) == (300, 200)
    assert all(h % 32 == w % 32 == 0 and abs(h / w - 1.5) < 0.3 for h, w in (scene.size((480, 320), k) for k in keys))


def test_the_last_epochs_are_calm() -> None:
    scene = Scene(mosaic=1.0, mixup=0.3)
    calm = [scene.at(epoch, 20) != scene for epoch in range(20)]
    assert calm == [False] * 17 + [True] * 3
    assert (scene.at(19, 20).mosaic, scene.at(19, 20).mixup, scene.at(19, 20).flip) == (0.0, 0.0, 0.5)
    assert [scene.at(epoch, 2) != scene for epoch in range(2)] == [False, True]
    assert Scene(calm_epochs=0.0).at(1, 2).mosaic == 0.5


def test_records_and_texts() -> None:
    scene = Scene(mosaic=1.0, scale=(0.5, 2.0), sizes=(0.75, 1.25))
    assert Scene.from_dict(scene.to_dict()) == scene
    assert Scene.from_dict({}) == Scene.from_text("standard") == Scene()
    assert Scene.from_text("none") == Scene.none()
    assert Scene.from_text("none, flip=0.5, scale=0.8:1.2") == only(flip=0.5, scale=[0.8, 1.2], visible=0.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip", "expected standard, none or NAME=NUMBER, got 'flip'; names are mosaic, mixup"),
        ("mosaic=much", "expected a number, or two as in scale=0.5:2, got 'mosaic=much'"),
        ("mosaik=1", "has no mosaik; it has mosaic, mixup"),
        ("mosaic=2", "mosaic must be a number from 0 to 1, got 2.0"),
        ("scale=2", "scale must be two numbers, got 2.0"),
        ("scale=2:1", "scale must rise"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scene.from_text(text)


def test_wrong_records_and_inputs() -> None:
    with pytest.raises(ConfigError, match="expected a Scene, whose boxes move along"):
        Scene.from_dict({"steps": []})
    images, targets = annotated(0)
    with pytest.raises(DataError, match="needs uint8 N,H,W,C images"):
        Scene()(images.astype(np.float32), targets, np.arange(2), keys_of(0, [0, 1]))
