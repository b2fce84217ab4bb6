"""Drawn boxes: where their pixels are, and that words can be read at any size."""

import numpy as np
import pytest

from fovea.detection.draw import Mark, colour_of, draw_boxes


def test_the_line_lies_on_the_edge_of_the_box():
    image = np.full((500, 600, 3), 128, np.uint8)
    drawn = draw_boxes(image, [Mark((100, 50, 200, 150), colour=(255, 0, 0))])
    painted = (drawn == (255, 0, 0)).all(axis=-1)
    rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    assert (columns[0], columns[-1], rows[0], rows[-1]) == (100, 199, 50, 149)
    assert not painted[60:140, 110:190].any()
    assert (image == 128).all()  # the image given is left as it is
    assert (drawn[~painted] == 128).all()


def test_a_dashed_line_has_gaps():
    image = np.zeros((500, 600, 3), np.uint8)
    solid, dashed = (draw_boxes(image, [Mark((100, 50, 200, 150), dashed=dashed)]) for dashed in (False, True))
    edge = (dashed[50, 100:200] > 0).any(axis=-1)
    assert 0.3 < edge.mean() < 0.8
    assert (solid[50, 100:200] > 0).any(axis=-1).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (6, 900, 1), (33, 20, 1), (480, 640, 3), (2500, 3000, 3)])
def test_words_are_legible_at_any_size(shape):
    image = np.zeros(shape, np.uint8)
    box = (0.2 * shape[1], 0.4 * shape[0], 0.6 * shape[1], 0.8 * shape[0])
    bare, named = (draw_boxes(image, [Mark(box, words)]) for words in ("", "leukocyte 0.98"))
    factor = named.shape[0] // shape[0]
    assert named.shape == (shape[0] * factor, shape[1] * factor, 3)
    assert max(named.shape) >= 480
    room = (bare != named).any(axis=-1)
    assert np.flatnonzero(room.any(axis=1)).size >= 11  # rows of the words
    assert np.flatnonzero(room.any(axis=0)).size >= 60
    dark = (named == 0).all(axis=-1)  # letters on the colour of the class
    rows, columns = np.nonzero(room)
    inside = dark[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert 0.05 < inside.mean() < 0.7


def test_words_do_not_cover_words():
    image = np.zeros((600, 600, 3), np.uint8)
    marks = [Mark((100, 100, 400, 400), "one 0.9", (250, 0, 0)), Mark((102, 102, 398, 398), "two 0.8", (0, 250, 0))]
    drawn = draw_boxes(image, marks)
    second = draw_boxes(image, [marks[0], Mark((102, 102, 398, 398), "", (0, 250, 0))])
    first = draw_boxes(
        image, [Mark((100, 100, 400, 400), "", (250, 0, 0)), Mark((102, 102, 398, 398), "", (0, 250, 0))]
    )
    one, two = (second != first).any(axis=-1), (drawn != second).any(axis=-1)
    assert one.sum() > 100
    assert two.sum() > 100
    assert not (one & two).any()


def test_boxes_beyond_the_image_are_cut():
    drawn = draw_boxes(np.zeros((500, 500, 3), np.uint8), [Mark((-50, 100, 900, 300), "wide", (0, 0, 250))])
    assert (drawn[200, 0] == (0, 0, 250)).all()
    assert (drawn[200, 499] == (0, 0, 250)).all()


def test_every_class_has_a_colour_of_its_own():
    colours = [colour_of(label) for label in range(60)]
    assert len(set(colours)) == 60
    assert all(0 <= value <= 255 for colour in colours for value in colour)
