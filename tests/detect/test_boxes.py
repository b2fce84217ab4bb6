"""Boxes: the layout, where they land in a resized image, overlap, suppression."""

import numpy as np

from fovea.data import boxes
from fovea.data.spatial import place
from fovea.tasks.detect.nms import nms


def test_rows_fill_up_and_keep_their_images_scale():
    one = boxes.rows_of([[1, 2, 5, 8], [0, 0, 2, 2]], [3, 0], flags=[boxes.CROWD, 0])
    whole = boxes.padded([one, np.zeros((0, 9))])
    assert whole.shape == (2, 2, 9)
    assert boxes.is_box(whole).tolist() == [[True, True], [False, False]]
    assert whole[0, :, boxes.AREA].tolist() == [24, 4]
    assert (whole[..., boxes.SCALE] == 1).all()


def test_letterbox_moves_boxes_with_their_pixels():
    targets = boxes.padded([boxes.rows_of([[10, 20, 110, 70]], [0])])
    moved = boxes.placed(targets, [place(100, 200, (50, 50), "letterbox")])
    # scale 1/4: 25 x 50 pixels, in the middle of the height
    assert moved[0, 0, boxes.BOX].tolist() == [2.5, 12 + 5, 27.5, 12 + 17.5]
    assert moved[0, 0, boxes.SCALE].tolist() == [0.25, 0.25]
    assert moved[0, 0, boxes.AREA] == 5000


def test_a_crop_cuts_boxes_and_drops_hidden_ones():
    rows = boxes.rows_of([[0, 0, 60, 100], [0, 0, 51, 100], [60, 0, 80, 100]], [0, 1, 2])
    moved = boxes.placed(boxes.padded([rows]), [place(100, 200, (100, 100), "shorter-side")])
    assert moved[0, :, boxes.LABEL].tolist() == [0, -1, 2]
    assert moved[0, 0, boxes.BOX].tolist() == [0, 0, 10, 100]


def test_overlap_by_hand():
    first = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], float)
    second = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]], float)
    np.testing.assert_allclose(boxes.box_iou(first, second), [[1 / 7, 1, 0], [0, 0, 0]])


def test_suppression_keeps_the_surest_and_other_classes():
    found = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [20, 20, 30, 30]], float)
    scores = np.array([0.8, 0.9, 0.7, 0.1])
    assert nms(found, scores, None, 0.5).tolist() == [1, 3]
    assert nms(found, scores, np.array([0, 0, 1, 0]), 0.5).tolist() == [1, 2, 3]
    assert nms(found, scores, None, 0.5, most=1).tolist() == [1]
    assert nms(np.zeros((0, 4)), np.zeros(0), np.zeros(0)).tolist() == []


def test_suppression_of_negative_corners_keeps_classes_apart():
    found = np.array([[-50, -50, 10, 10], [-50, -50, 10, 10]], float)
    assert sorted(nms(found, np.array([0.5, 0.6]), np.array([0, 1]), 0.5).tolist()) == [0, 1]
