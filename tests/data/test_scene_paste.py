"""Pasted objects: their labels follow their pixels, little is covered, rare classes come often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fovea.data.augment.paste import MOST
from fovea.data.augment.scene import Scene
from fovea.data.boxes import BOX, FLAGS, LABEL, is_box, padded, rows_of
from tests.data.scenes import FILL, annotated, keys_of, painted

SCENE = Scene.from_text("none,paste=1,flip=0.5,flip_vertical=0.5,scale=0.7:1.5")


def test_labels_follow_the_pixels_of_what_is_pasted() -> None:
    errors = []
    for seed in range(20):
        images, targets = annotated(seed, bars=False)
        rows = np.arange(len(images))
        for index in rows:
            drawn, labels = SCENE(painted(images, targets, index), targets, rows, keys_of(seed, rows), fill=FILL)
            for number, (image, own) in enumerate(zip(drawn, labels, strict=True)):
                boxes = own[own[:, LABEL] == index, BOX]
                others = own[is_box(own) & (own[:, LABEL] != index), BOX]
                if number == index or len(boxes) != 1 or _meet(boxes[0], others):
                    continue
                bright = image[..., 0] > 127
                lines, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
                found = np.array([columns[0], lines[0], columns[-1] + 1, lines[-1] + 1])
                errors.append(found - boxes[0])
    assert len(errors) > 40
    assert np.abs(errors).max() <= 1
    assert np.abs(np.mean(errors, axis=0)).max() < 0.15


def _meet(box: np.ndarray, others: np.ndarray) -> bool:
    """Whether a later one may have been pasted over the margin of this one."""
    apart = (others[:, :2] > box[2:] + 12) | (others[:, 2:] < box[:2] - 12)
    return bool((~apart.any(axis=1)).any())


def test_little_of_what_is_there_is_covered() -> None:
    scene, hidden = replace(SCENE, flip=0.0, flip_vertical=0.0, scale=(1.0, 1.0)), 0
    for seed in range(8):
        images, targets = annotated(seed, bars=False)
        rows = np.arange(len(images))
        for index in rows:
            bright = painted(images, targets, index)
            drawn, labels = scene(bright, targets, rows, keys_of(seed, rows), fill=FILL)
            x1, y1, x2, y2 = targets[index, 0, :4].astype(int)
            left = (drawn[index, y1:y2, x1:x2] > 127).mean()
            assert left >= 1 - 0.1 * MOST - 1e-6
            hidden += left < 1
            assert np.array_equal(labels[index, 0], targets[index, 0]), "its own object comes first, unchanged"
    assert hidden, "but covering is allowed"


def test_rare_classes_come_often() -> None:
    images = np.zeros((40, 64, 64, 3), np.uint8)
    box = np.array([[5, 5, 20, 20], [30, 30, 50, 45]])
    targets = padded([rows_of(box, [1 if image % 10 == 0 else 0, 0]) for image in range(40)])
    labels = SCENE(images, targets, np.arange(40), keys_of(0, np.arange(40)))[1]
    pasted = labels[:, 2:][is_box(labels[:, 2:])][:, LABEL]
    assert len(pasted) > 60
    assert (pasted == 1).mean() > 0.15, "of the annotated ones it is a twentieth"


def test_only_whole_and_certain_objects_are_pasted() -> None:
    images, targets = annotated(0)
    rows = np.arange(len(images))
    targets[..., FLAGS] = 2
    labels = SCENE(images, targets, rows, keys_of(0, rows), fill=FILL)[1]
    assert labels.shape[1] == 1
    empty = padded([np.zeros((0, 9), np.float32)] * len(images))
    assert not is_box(SCENE(images, empty, rows, keys_of(0, rows), fill=FILL)[1]).any()
    large = padded([rows_of(np.array([[0, 0, 60, 60]]), [0]), *[np.zeros((0, 9), np.float32)] * 4])
    scene = replace(SCENE, scale=(1.0, 1.0))
    assert not is_box(scene(images, large, rows[1:], keys_of(0, rows[1:]), fill=FILL)[1]).any()
    small = large * np.where(np.arange(9) < 4, 0.5, 1)
    assert is_box(scene(images, small, rows[1:], keys_of(0, rows[1:]), fill=FILL)[1]).any()


@pytest.mark.parametrize("size", [(96, 96), (48, 80)])
def test_how_a_batch_is_cut_changes_no_bit(size: tuple[int, int]) -> None:
    images, targets = annotated(3)
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape)
    rows = np.array([4, 1, 0, 3, 2])
    drawn, labels = SCENE(images, targets, rows, keys_of(7, rows), size=size)
    for index in range(5):
        one, own = SCENE(images, targets, rows[index : index + 1], keys_of(7, rows[index : index + 1]), size=size)
        assert np.array_equal(one[0], drawn[index])
        assert np.array_equal(own[0][is_box(own[0])], labels[index][is_box(labels[index])])
