"""Points, which of them answer for which object, and what they are asked for."""

import numpy as np

from fovea.data import boxes
from fovea.tasks.detect.assign import Assigner
from fovea.tasks.detect.points import around, distances_to, points_of

POINTS, STEPS = points_of([(4, 4), (2, 2)], (8, 16))


def assigned(rows, scores=None, found=None, **options):
    """Of an image of 32 x 32, where every point gives the same score to 2 classes and finds a box of 2 strides."""
    scores = np.full((20, 2), 0.5, np.float32) if scores is None else scores
    found = around(POINTS, STEPS, np.ones((20, 4), np.float32)) if found is None else found
    return Assigner(**options)(POINTS, STEPS, scores, found, boxes.padded([rows])[0])


def test_points_lie_in_the_middle_of_cells():
    assert POINTS[:5].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4], [4, 12]]
    assert POINTS[16:].tolist() == [[8, 8], [24, 8], [8, 24], [24, 24]]
    assert STEPS.tolist() == [8] * 16 + [16] * 4


def test_distances_and_boxes_are_inverse():
    rng = np.random.default_rng(0)
    sides = rng.uniform(0, 4, (20, 4)).astype(np.float32)
    np.testing.assert_allclose(distances_to(POINTS, STEPS, around(POINTS, STEPS, sides)), sides, atol=1e-5)


def test_the_point_that_finds_it_best_is_asked_for_its_overlap():
    # the box of the first coarse point, exactly: 16 pixels to each side of (8, 8), cut at the edges of nothing
    done = assigned(boxes.rows_of([[-8, -8, 24, 24]], [1]))
    assert done.quality[16].tolist() == [0, 1]
    assert done.sides[16].tolist() == [1, 1, 1, 1, 1]
    # fine points find boxes of 16 x 16 = a quarter of it: (1/4)^6 of the best product
    assert np.isclose(done.quality[5, 1], 0.25**6)
    assert (done.quality[:, 0] == 0).all()


def test_only_the_best_few_answer_and_only_inside():
    done = assigned(boxes.rows_of([[0, 0, 16, 16]], [0]), top=2)
    where = np.flatnonzero(done.sides[:, 4])
    inside = {0, 1, 4, 5, 16}
    assert len(where) == 2
    assert set(where.tolist()) <= inside
    assert done.quality.max() == done.quality[0, 0]  # the first of equal ones: (4, 4) finds 16 x 16 around itself


def test_what_two_objects_want_goes_to_the_one_it_overlaps_most():
    rows = boxes.rows_of([[-8, -8, 24, 24], [0, 0, 20, 20]], [0, 1])
    done = assigned(rows)
    assert done.quality[16].tolist() == [1, 0]
    assert ((done.quality > 0).sum(axis=1) <= 1).all()


def test_an_object_between_the_points_still_has_one():
    done = assigned(boxes.rows_of([[7, 7, 9, 9]], [0]))
    at = np.flatnonzero(done.sides[:, 4])
    assert len(at)
    assert (done.sides[at, :4] > 0).all()


def test_a_crowd_teaches_nothing_and_an_empty_image_teaches_absence():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.1, 0.9, (20, 2)).astype(np.float32)
    crowd = assigned(boxes.rows_of([[0, 0, 16, 32]], [0], flags=[boxes.CROWD]), scores)
    inside = POINTS[:, 0] < 16
    assert (crowd.quality[inside] == scores[inside]).all()
    assert not crowd.quality[~inside].any()
    assert not crowd.sides.any()
    empty = assigned(np.zeros((0, 9)), scores)
    assert not empty.quality.any()
    assert not empty.sides.any()
