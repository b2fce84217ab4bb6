"""The task of detection: targets of the maps, losses, and boxes back from maps."""

import numpy as np
import pytest

import fovea
from fovea.data import boxes
from fovea.errors import ConfigError, ShapeError
from fovea.tasks import Detection, task_from_dict

TASK = Detection((8, 16))


def maps(images=1, classes=2, size=32, logit=-6.0):
    """Maps of a detector that is sure that nothing is there."""
    sides = [size // stride for stride in TASK.strides]
    return [np.full((images, side, side, classes), logit, np.float32) for side in sides] + [
        np.ones((images, side, side, 4), np.float32) for side in sides
    ]


def truth():
    rows = boxes.rows_of([[2, 3, 14, 15], [8, 8, 31, 30]], [1, 0])
    return boxes.padded([rows, np.zeros((0, 9))])


def test_maps_that_are_what_was_asked_for_find_the_truth():
    """Distances and qualities as ``assign`` wants them, read back by ``found``, are the boxes that were given."""
    targets, outputs = truth(), maps(2)
    for _ in range(3):  # the better the boxes, the better the points that are chosen
        asked = TASK.assign(outputs, targets)
        for index, wanted in enumerate(asked[2:]):
            there = wanted[..., 4] > 0
            outputs[2 + index][there] = wanted[there][:, :4]
            quality = np.clip(asked[index], 0.001, 0.999)
            outputs[index] = np.log(quality / (1 - quality)).astype(np.float32)
    found = TASK.condense(outputs, targets)
    assert found.shape == (2, TASK.max_detections, 6)
    sure = found[0, found[0, :, 4] > 0.5]
    np.testing.assert_allclose(sure[np.argsort(sure[:, 5]), :4], [[8, 8, 31, 30], [2, 3, 14, 15]], atol=1e-3)
    assert TASK.metrics(found, targets)["map"] == pytest.approx(1.0)
    assert not (found[1, :, 4] > 0.5).any()


def test_losses_are_divided_by_the_weights_of_boxes():
    outputs, targets = maps(2), truth()
    asked = TASK.assign(outputs, targets)
    weights = sum(float(one[..., 4].sum()) for one in asked[2:]) / 2
    assert TASK.loss_divisor(asked) == pytest.approx(weights)
    nothing = TASK.assign(maps(2), boxes.padded([np.zeros((0, 9))] * 2))
    assert TASK.loss_divisor(nothing) == 0


def test_losses_of_maps_are_those_of_their_parts():
    outputs, targets = maps(2), truth()
    asked = TASK.assign(outputs, targets)
    graph = TASK.loss([one.shape[1:] for one in outputs])
    assert graph.output_shapes == ((),) * 4
    assert len(graph.inputs) == 8
    assert [op.kind for op in (graph.node(ref.node).op for ref in graph.outputs)] == ["qualityfocalloss"] * 2 + [
        "iouloss"
    ] * 2
    assert [one.shape for one in asked] == [(2, 4, 4, 2), (2, 2, 2, 2), (2, 4, 4, 5), (2, 2, 2, 5)]


def test_boxes_are_in_pixels_of_the_image():
    outputs = maps(logit=-20.0)
    outputs[0][0, 1, 2, 1] = 5.0  # seen from (20, 12): one stride to each side
    (said,) = TASK.decode(outputs, classes=["a", "b"])
    (one,) = said.objects
    assert (one.label, one.box) == ("b", (12, 4, 28, 20))
    assert one.score == pytest.approx(1 / (1 + np.exp(-5)))
    how = fovea.Preprocessing(size=(32, 32), resize="letterbox")
    placed = said.placed(how.placement(64, 128))  # drawn at a quarter, 8 rows below the upper edge
    assert placed.objects[0].box == (48, 0, 112, 48)
    assert str(placed) == "1 b"
    assert str(one) == "b 99% at 12, 4, 28, 20"
    assert placed.to_dict()["objects"][0]["box"] == [48, 0, 112, 48]
    assert str(TASK.decode(maps(logit=-20.0))[0]) == "nothing found"


def test_a_threshold_of_one_or_nothing():
    outputs = maps(logit=-20.0)
    outputs[0][0, 1, 2, 1] = 5.0
    assert (TASK.found(outputs, 1.0)[..., 5] == -1).all()
    assert (TASK.found(outputs, 0.0)[..., 5] >= 0).sum() > 1


def test_suppression_may_ignore_classes():
    outputs = maps(logit=-20.0)
    outputs[0][0, 1, 2] = 5.0, 4.0
    assert len(TASK.decode(outputs)[0].objects) == 2
    assert len(Detection((8, 16), class_agnostic=True).decode(outputs)[0].objects) == 1


def test_the_task_goes_through_a_file_and_refuses_what_is_wrong():
    task = Detection((8, 16, 32), score_threshold=0.4)
    assert task_from_dict(task.to_dict()) == task
    with pytest.raises(ConfigError, match="expected strides as integers"):
        Detection(())
    with pytest.raises(ConfigError, match="score_threshold"):
        Detection(score_threshold=2)
    with pytest.raises(ConfigError, match="expected no label_smoothing for detection"):
        task.loss([], label_smoothing=0.1)
    with pytest.raises(ShapeError, match=r"maps of 3 classes and .*detector_nano\(num_classes=3\)"):
        task.check_network([(10,)], 3, "cells")
    with pytest.raises(ShapeError, match="expected 3 maps of classes and 3 of boxes"):
        task.decode(maps())
