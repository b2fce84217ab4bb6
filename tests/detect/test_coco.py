"""Judging found boxes: the same numbers as the library gives on files, and by hand where the library has none."""

import builtins
import contextlib
import io
import json

import numpy as np
import pytest

from fovea.data import boxes
from fovea.errors import MissingExtra, ShapeError
from fovea.tasks.detect.coco import best_threshold, measure
from fovea.tasks.detect.confusion import confusion_matrix, paired
from fovea.tasks.detect.voc import voc_average_precision
from tests.detect.scenes import scene

NAMES = ["map", "map50", "map75", "map_small", "map_medium", "map_large", "ar1", "ar10", "ar100"]


def library(targets, found, classes, folder):
    """COCOeval as its users run it: both sides read from JSON files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for image, (rows, said) in enumerate(zip(targets.astype(float), found.astype(float), strict=True)):
        sx, sy = rows[0, boxes.SCALE]
        for x1, y1, x2, y2, label, flags, *_, area in rows[boxes.is_box(rows)].tolist():
            box = [x1 / sx, y1 / sy, x2 / sx - x1 / sx, y2 / sy - y1 / sy]
            one = {"id": len(annotations) + 1, "image_id": 70 + image, "category_id": int(label) + 1, "bbox": box}
            annotations.append({**one, "area": area, "iscrowd": int(flags == boxes.CROWD)})
        for x1, y1, x2, y2, score, label in said[said[:, 5] >= 0].tolist():
            box = [x1 / sx, y1 / sy, x2 / sx - x1 / sx, y2 / sy - y1 / sy]
            results.append({"image_id": 70 + image, "category_id": int(label) + 1, "bbox": box, "score": score})
    images = [{"id": 70 + image, "file_name": f"{image}.jpg"} for image in range(len(targets))]
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(classes)]
    truth, said = folder / "truth.json", folder / "said.json"
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    said.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        one = COCO(str(truth))
        judged = COCOeval(one, one.loadRes(str(said)), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scales", [None, (0.37, 0.61)])
def test_numbers_equal_the_librarys_on_files(seed, scales, tmp_path, capsys):
    classes = ["ant", "bee", "cat", "never seen"]
    targets, found = scene(seed, scales=scales)
    judged = library(targets, found, classes, tmp_path)
    ours = measure(found, targets, classes, True)
    assert capsys.readouterr().out == ""
    for name, value in zip(NAMES, judged.stats[:9], strict=True):
        assert ours[name] == (None if value == -1 else value), name
    assert 0.05 < ours["map"] < 0.9
    precision = judged.eval["precision"]
    for label, name in enumerate(classes[:3]):
        assert ours["per_class"][name]["ap"] == precision[:, :, label, 0, 2].mean()
        assert ours["per_class"][name]["ap50"] == precision[0, :, label, 0, 2].mean()
        assert ours["pr"]["per_class"][name]["precision"] == precision[0, :, label, 0, 2].tolist()
    assert ours["per_class"]["never seen"] == dict.fromkeys(["ap", "ap50", "precision", "recall", "f1", "score"]) | {
        "support": 0
    }
    assert "never seen" not in ours["pr"]["per_class"]
    json.dumps(ours, allow_nan=False)


def test_the_size_of_the_network_does_not_change_the_numbers():
    """Small, medium and large are sizes in the file."""
    plain, scaled = scene(1), scene(1, scales=(0.25, 0.25))
    whole, small = (measure(found, targets) for targets, found in (plain, scaled))
    assert whole == pytest.approx(small, abs=1e-12)


def test_perfect_boxes_are_perfect():
    targets, _ = scene(2, flags=False)
    found = np.concatenate([targets[..., :4], np.full((*targets.shape[:2], 1), 0.9), targets[..., 4:5]], axis=2)
    ours = measure(found, targets, ["a", "b", "c"], detail=True)
    assert [ours[name] for name in ("map", "map50", "map75", "ar100", "voc_map50")] == pytest.approx([1.0] * 5)
    support = [int((targets[..., 4] == label).sum()) for label in range(3)]
    assert np.array_equal(ours["confusion"], np.diag([*support, 0]))
    for one in ours["per_class"].values():
        assert (one["precision"], one["recall"], one["f1"]) == (1, 1, 1)
        assert one["score"] == pytest.approx(0.9)


def test_nothing_found_and_nothing_there():
    targets, found = scene(3)
    nothing = np.full((len(targets), 1, 6), -1, np.float32)
    ours = measure(nothing, targets, ["a", "b", "c"], detail=True)
    assert ours["map"] == ours["ar100"] == ours["voc_map50"] == 0.0
    assert np.array(ours["confusion"])[:, -1].sum() > 0
    empty = boxes.padded([np.zeros((0, 9))] * len(found))
    ours = measure(found, empty, ["a", "b", "c"], detail=True)
    assert ours["map"] == 0.0
    assert isinstance(ours["map"], float)
    assert ours["map_small"] is None
    assert np.array(ours["confusion"])[:-1].sum() == 0
    json.dumps(ours, allow_nan=False)


def test_boxes_that_are_not_finite_count_as_not_found():
    targets, found = scene(4)
    broken = np.concatenate([found, found[:, :1] * np.float32(np.nan)], axis=1)
    assert measure(broken, targets) == measure(found, targets)


def test_precision_and_recall_at_the_best_score_by_hand():
    targets = boxes.padded([boxes.rows_of([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 0, 0])])
    found = np.array([[
        [0, 0, 10, 10, 0.9, 0], [60, 0, 70, 10, 0.8, 0], [20, 0, 30, 10, 0.7, 0], [60, 0, 70, 10, 0.7, 0],
        [0, 50, 9, 60, 0.6, 0],
    ]])  # fmt: skip
    one = measure(found, targets, ["a"], detail=True)["per_class"]["a"]
    # F1 after each score: 2/4, 2/5, and 4/7 once both boxes of 0.7 are taken
    assert one["f1"] == pytest.approx(4 / 7)
    assert (one["precision"], one["recall"], one["score"]) == pytest.approx((2 / 4, 2 / 3, 0.7))


def test_the_best_threshold_by_hand():
    rows = boxes.rows_of([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 80, 10, 90]], [0, 0, 0, 1])
    first = [
        [0, 0, 10, 10, 0.9, 0], [60, 0, 70, 10, 0.8, 0], [20, 0, 30, 10, 0.7, 0], [60, 0, 70, 10, 0.7, 0],
        [0, 50, 9, 60, 0.6, 0],
    ]  # fmt: skip
    alone = boxes.padded([rows[:3]])
    # F1 from 0.9 down: 2/4, 2/5, 4/7 with both boxes of 0.7, 4/8
    assert 0.6 < best_threshold(np.array([first]), alone) < 0.7
    # another class, found once with 0.5: below it the mean is (4/8 + 1) / 2, above at most (4/7) / 2
    second = [*first, [0, 80, 10, 90, 0.5, 1]]
    assert best_threshold(np.array([second]), boxes.padded([rows])) == pytest.approx(0.28)  # the middle of 0.05 to 0.5
    assert best_threshold(np.full((1, 1, 6), -1.0), alone) is None
    assert best_threshold(np.array([first[-1:]]), alone) is None


@pytest.mark.parametrize("seed", range(4))
def test_the_best_threshold_of_one_class_is_that_of_its_best_f1(seed):
    targets, found = scene(seed, classes=1)
    one = measure(found, targets, ["a"], True)["per_class"]["a"]
    best = best_threshold(found, targets)
    found[..., 5] = np.where(found[..., 4] >= best, found[..., 5], -1)
    kept = measure(found, targets, ["a"], True)["per_class"]["a"]
    assert kept["f1"] == pytest.approx(one["f1"])
    assert kept["score"] == pytest.approx(one["score"])


def test_voc_leaves_difficult_objects_out():
    rows = boxes.rows_of([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 0, 0], [0, boxes.DIFFICULT, 0])
    hit, hard, wrong = [0, 0, 10, 10], [20, 0, 30, 10], [70, 0, 80, 10]

    def average(*said):
        return voc_average_precision(
            [np.array([[*box, score, 0] for box, score in said], float).reshape(-1, 6)], [rows.astype(float)], 0
        )

    assert average((hit, 0.9)) == pytest.approx(0.5)
    assert average((hard, 0.95), (hard, 0.94), (hit, 0.9)) == pytest.approx(0.5)  # neither right nor wrong
    assert average((wrong, 0.95), (hit, 0.9)) == pytest.approx(0.25)
    assert average((hit, 0.95), (hit, 0.9), ([40, 0, 50, 10], 0.8)) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average() == 0.0
    assert voc_average_precision([np.zeros((0, 6))], [rows[1:2].astype(float)], 0) is None


def test_confusion_by_hand():
    rows = boxes.rows_of(
        [[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [50, 0, 60, 10], [0, 50, 100, 100], [70, 0, 80, 10]],
        [0, 1, 0, 1, 0, 1], [0, 0, 0, 0, boxes.CROWD, boxes.DIFFICULT],
    ).astype(float)  # fmt: skip
    found = np.array([
        [0.6, 0, 10.6, 10, 0.9, 1],  # between two objects: the one of its class
        [0, 0, 10, 10, 0.8, 0],
        [30, 0, 40, 10, 0.7, 1],  # taken for the other class
        [5, 55, 15, 65, 0.9, 1],  # in a crowd: counts for nothing
        [70, 0, 80, 10, 0.9, 0],  # on a difficult object: neither
        [0, 20, 10, 30, 0.6, 1],  # nothing there
        [50, 0, 60, 10, 0.1, 1],  # not sure enough: missed
    ])  # fmt: skip
    assert confusion_matrix([found], [rows], 2, 0.25).tolist() == [[1, 1, 0], [0, 1, 1], [0, 1, 0]]
    partner, ignored = paired(found, rows)
    assert partner.tolist() == [1, 0, 2, -1, -1, -1, 3]
    assert ignored.tolist() == [False, False, False, True, True, False, False]


def test_mistakes_are_told():
    targets, found = scene(5)
    with pytest.raises(ShapeError, match=r"expected found boxes \(N, D, 6\)"):
        measure(found[..., :5], targets)
    with pytest.raises(ShapeError, match="same images in both"):
        measure(found[1:], targets)
    with pytest.raises(ShapeError, match="expected labels 0 to 1"):
        measure(found, targets, ["a", "b"])


def test_without_the_library(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    targets, found = scene(6)
    with pytest.raises(MissingExtra, match=r"judging found boxes needs the extra 'detect'"):
        measure(found, targets)
