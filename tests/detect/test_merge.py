"""Soft suppression, fusion of views, tiles: by hand, and properties on random boxes."""

import itertools

import numpy as np
import pytest

from fovea.data.boxes import box_iou
from fovea.detection.tiles import cut_by, tiles, without_parts
from fovea.errors import ConfigError
from fovea.tasks.detect.merge import fuse_boxes, soft_nms
from fovea.tasks.detect.nms import nms


def some(seed, count=40):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 40, (count, 2))])
    return boxes, rng.random(count), rng.integers(0, 3, count)


def test_soft_suppression_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10.0]])
    kept, scores = soft_nms(boxes, np.array([0.9, 0.8, 0.3]), sigma=0.5)
    assert kept.tolist() == [0, 1, 2]
    assert scores == pytest.approx([0.9, 0.8 * np.exp(-(0.5**2) / 0.5), 0.3])
    kept, scores = soft_nms(boxes, np.array([0.9, 0.8, 0.3]), np.array([0, 1, 0]))
    assert scores == pytest.approx([0.9, 0.8, 0.3])
    kept, _ = soft_nms(boxes, np.array([0.9, 0.8, 0.3]), score_threshold=0.5, sigma=0.5, most=9)
    assert kept.tolist() == [0]  # 0.8 decays to 0.49
    assert soft_nms(boxes[:0], np.zeros(0))[0].tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_soft_suppression_becomes_suppression_when_it_is_hard(seed):
    """A tiny sigma takes everything away that overlaps at all, as suppression at an overlap of 0 does."""
    boxes, scores, labels = some(seed)
    kept, final = soft_nms(boxes, scores, labels, sigma=1e-9, score_threshold=1e-6)
    assert kept.tolist() == nms(boxes, scores, labels, iou_threshold=1e-4).tolist()
    np.testing.assert_array_equal(final, scores[kept])
    _, gentle = soft_nms(boxes, scores, labels, sigma=0.5, score_threshold=0.0)
    assert (np.diff(gentle) <= 0).all()
    assert len(gentle) == len(boxes)


def test_fusion_by_hand():
    first = np.array([[0, 0, 10, 10, 0.9, 1], [50, 50, 60, 60, 0.4, 0]])
    second = np.array([[0, 2, 10, 12, 0.3, 1]])
    fused = fuse_boxes([first, second])
    top = (0.9 * 0 + 0.3 * 2) / 1.2
    np.testing.assert_allclose(fused, [[0, top, 10, 10 + top, 0.6, 1], [50, 50, 60, 60, 0.2, 0]])
    assert len(fuse_boxes([first, second * [1, 1, 1, 1, 1, 0]])) == 3  # of another class
    assert len(fuse_boxes([first, second * [1, 1, 1, 1, 1, 0]], class_agnostic=True)) == 2
    twice = np.array([[0, 0, 10, 10, 0.9, 1], [0, 1, 10, 11, 0.5, 1]])  # what one view told apart
    np.testing.assert_allclose(fuse_boxes([twice, twice]), twice)
    assert fuse_boxes([np.zeros((0, 6))] * 2).shape == (0, 6)


@pytest.mark.parametrize("seed", range(5))
def test_fusion_of_views_that_agree_changes_nothing(seed):
    boxes, scores, labels = some(seed)
    kept = nms(boxes, scores, labels, iou_threshold=0.5)
    rows = np.column_stack([boxes[kept], scores[kept], labels[kept]])
    np.testing.assert_allclose(fuse_boxes([rows, rows, rows]), rows)
    fused = fuse_boxes([np.column_stack([boxes, scores, labels])])
    assert (fused[:, :2] >= boxes[:, :2].min(axis=0)).all()
    assert (fused[:, 4] <= scores.max()).all()


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), [
    (1000, 1500, 640, 0.2), (640, 640, 640, 0.2), (641, 10, 640, 0.2), (333, 777, 64, 0.5), (50, 60, 640, 0.0),
    (400, 400, 32, 0.9),
])  # fmt: skip
def test_tiles_cover_the_image_and_overlap(height, width, tile, overlap):
    windows = tiles(height, width, tile, overlap)
    seen = np.zeros((height, width), int)
    for top, left, bottom, right in windows:
        assert (bottom - top, right - left) == (min(tile, height), min(tile, width))
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1
    assert len(set(windows)) == len(windows)
    for axis in (0, 1):
        starts = sorted({window[axis] for window in windows})
        assert all(second - first <= tile * (1 - overlap) + 1 for first, second in itertools.pairwise(starts))


def test_wrong_tiles_are_told():
    with pytest.raises(ConfigError, match="at least 32, got 8"):
        tiles(100, 100, 8)
    with pytest.raises(ConfigError, match=r"from 0 to 0\.9, got 1\.5"):
        tiles(100, 100, 64, 1.5)


def test_parts_of_objects_go():
    tile = (0, 100, 200, 300)  # of an image of 200 x 400
    boxes = np.array([
        [100, 50, 130, 90], [150, 0, 180, 200], [280, 10, 300, 40], [60, 40, 132, 92], [99, 60, 120, 80.0],
    ])  # fmt: skip
    assert cut_by(boxes, tile, 200, 400).tolist() == [True, False, True, True, True]
    is_cut = np.array([True, False, True, False, False])
    stays = without_parts(boxes, np.array([0, 0, 0, 0, 0]), is_cut)
    assert stays.tolist() == [False, True, True, True, True]
    assert without_parts(boxes, np.array([1, 0, 0, 0, 0]), is_cut).all()  # of another class
    both = without_parts(np.array([[0, 0, 50, 50], [5, 0, 50, 50.0]]), np.zeros(2), np.ones(2, bool))
    assert both.tolist() == [True, False]
    assert box_iou(boxes[:1], boxes[3:4])[0, 0] < 0.5  # why suppression would not see it
