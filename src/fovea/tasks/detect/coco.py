"""How good found boxes are: the numbers of the COCO challenge, computed by its own library (pycocotools).

Boxes and found boxes are brought to pixels of the file first, so that the sizes small, medium and large mean what they
mean elsewhere, whatever size a network looks at. Source: Lin et al. 2014, "Microsoft COCO: common objects in context".
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import AREA, BOX, COLUMNS, CROWD, FLAGS, LABEL, SCALE, is_box
from fovea.errors import MissingExtra, ShapeError
from fovea.tasks.detect.confusion import confusion_matrix
from fovea.tasks.detect.voc import voc_average_precision
from fovea.tasks.metrics import class_names

__all__ = ["best_threshold", "in_file_pixels", "measure"]

Array = npt.NDArray[Any]

_NUMBERS = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "ar1", "ar10", "ar100")
_DRAWN_IOU = (0.5, 0.75, 0.9)


def measure(
    found: Array, targets: Array, classes: Sequence[str] | None = None, detail: bool = False, *,
    score_threshold: float = 0.25,
) -> dict[str, Any]:  # fmt: skip
    """Found boxes ``(N, D, 6)`` (x1, y1, x2, y2, score, label; label -1 fills up) against targets ``(N, M, 9)`` of
    ``fovea.data.boxes``, both in pixels of the network's input.

    ``map`` is the mean average precision over the IoU thresholds 0.50, 0.55 ... 0.95 and over classes; ``map50`` and
    ``map75`` are those at one threshold; ``map_small``, ``map_medium``, ``map_large`` those of objects below 32 x 32,
    below 96 x 96 and above (None where there are none); ``ar1``, ``ar10``, ``ar100`` the mean recall with so many boxes
    an image. All are 0 when nothing is found, or nothing was there to find. A crowd is neither demanded nor wrong to
    find, as officially; a difficult object counts as any other.

    In detail also ``voc_map50`` (Pascal VOC's own figure at IoU 0.5, in which difficult objects are left out),
    ``per_class`` (name -> ap, ap50, and at the score of the best F1 at IoU 0.5: precision, recall, f1, score; support
    is the number of objects; None for a class without), ``confusion`` (K+1 by K+1 of boxes that are at least as sure
    as ``score_threshold``, at IoU 0.5: rows are the truth, the last row holds boxes where nothing is, the last column
    objects that were missed) and ``pr`` (precision at 101 recalls, of each class at IoU 0.5 and by IoU).

    Raises ShapeError for arrays that do not fit; MissingExtra without the extra "detect".
    """
    found, targets, names = _checked(found, targets, classes)
    boxes, objects = in_file_pixels(found, targets)
    judged = _judge(boxes, objects, len(names))
    result: dict[str, Any] = {
        name: (None if name.startswith("map_") and value < 0 else max(0.0, float(value)))
        for name, value in zip(_NUMBERS, judged.stats[:9], strict=True)
    }
    if not detail:
        return result
    in_voc = [voc_average_precision(boxes, objects, label) for label in range(len(names))]
    known = [value for value in in_voc if value is not None]
    return {
        **result,
        "voc_map50": float(np.mean(known)) if known else 0.0,
        "per_class": _per_class(judged, objects, names),
        "confusion": confusion_matrix(boxes, objects, len(names), score_threshold).tolist(),
        "pr": _curves(judged, names),
    }


def best_threshold(found: Array, targets: Array) -> float | None:
    """The score, in hundredths from 0.05 to 0.95, above which boxes make the mean F1 over classes at IoU 0.5 largest;
    None where nothing right is found. Of equal scores the middle one. Arrays as of :func:`measure`."""
    found, targets, names = _checked(found, targets, None)
    boxes, objects = in_file_pixels(found, targets)
    judged = _judge(boxes, objects, len(names))
    rows = np.concatenate(objects)
    demanded = rows[rows[:, FLAGS].astype(np.int64) & CROWD == 0, LABEL]
    steps = np.arange(5, 96) / 100
    curves = []
    for label in np.unique(demanded).astype(int).tolist():
        scores, right, counted = _matches(judged, label)
        least = len(scores) - np.searchsorted(scores[::-1], steps)  # how many are at least so sure
        hits, shown = (np.concatenate([[0], np.cumsum(one)])[least] for one in (right, counted))
        curves.append(2 * hits / (int((demanded == label).sum()) + shown))
    mean = np.mean(curves, axis=0) if curves else np.zeros(1)
    if mean.max() <= 0:
        return None
    best = np.flatnonzero(mean >= mean.max() - 1e-12)
    return float(steps[best[len(best) // 2]])


def in_file_pixels(found: Array, targets: Array) -> tuple[list[Array], list[Array]]:
    """Found boxes and targets as lists of float64 rows, one array for each image, in pixels of the file.

    Rows that only fill up are gone, and so are found boxes that are not finite. The scale alone is undone: where the
    image lies in the input moves both alike, which no overlap sees.
    """
    boxes, objects = [], []
    for one, rows in zip(found.astype(np.float64), targets.astype(np.float64), strict=True):
        scale = np.tile(rows[0, SCALE], 2)
        one, rows = one[(one[:, 5] >= 0) & np.isfinite(one).all(axis=1)].copy(), rows[is_box(rows)].copy()
        one[:, :4] /= scale
        rows[:, BOX] /= scale
        boxes.append(one)
        objects.append(rows)
    return boxes, objects


def _checked(found: Any, targets: Any, classes: Sequence[str] | None) -> tuple[Array, Array, list[str]]:
    found, targets = np.asarray(found), np.asarray(targets)
    if found.ndim != 3 or found.shape[2] != 6 or targets.ndim != 3 or targets.shape[2] != len(COLUMNS):
        got = f"{found.shape} and {targets.shape}"
        raise ShapeError("detection", f"expected found boxes (N, D, 6) and targets (N, M, 9), got {got}")
    if len(found) != len(targets) or not len(found) or not targets.shape[1]:
        got = f"found boxes of {len(found)} and targets of {len(targets)} images"
        raise ShapeError("detection", f"expected the same images in both, at least one, got {got}")
    largest = int(max(np.nan_to_num(found[..., 5], nan=-1).max(initial=-1), targets[..., LABEL].max(initial=-1)))
    if classes is not None and largest >= len(classes):
        got = f"{largest} for {len(classes)} classes"
        raise ShapeError("detection", f"expected labels 0 to {len(classes) - 1}, got {got}; use the model's own data")
    return found, targets, class_names(classes, len(classes) if classes else max(1, largest + 1))


def _judge(boxes: list[Array], objects: list[Array], count: int) -> Any:
    """pycocotools' COCOeval of the boxes, accumulated and summed up, without what it prints."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingExtra("detection", "detect", "judging found boxes") from None
    head = {
        "images": [{"id": image} for image in range(1, len(boxes) + 1)],
        "categories": [{"id": label, "name": str(label)} for label in range(count)],
    }
    truth, said = COCO(), COCO()
    truth.dataset = {**head, "annotations": _numbered(_annotations(objects, LABEL))}
    said.dataset = {**head, "annotations": _numbered(_annotations(boxes, 5))}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        said.createIndex()
        judged = COCOeval(truth, said, "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged


def _annotations(images: list[Array], label: int) -> list[dict[str, Any]]:
    """Rows of all images as COCO's annotations: targets with their own area, found boxes with a score."""
    listed = []
    for image, rows in enumerate(images, 1):
        for row in rows.tolist():
            width, height = row[2] - row[0], row[3] - row[1]
            one = {"image_id": image, "category_id": int(row[label]), "bbox": [row[0], row[1], width, height]}
            if label == LABEL:
                listed.append({**one, "area": row[AREA], "iscrowd": int(row[FLAGS]) & CROWD})
            else:
                listed.append({**one, "area": width * height, "iscrowd": 0, "score": row[4]})
    return listed


def _numbered(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**one, "id": number} for number, one in enumerate(annotations, 1)]  # 0 would say "no match"


def _per_class(judged: Any, objects: list[Array], names: list[str]) -> dict[str, dict[str, Any]]:
    precision = judged.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; of all sizes, with 100 boxes an image
    rows = np.concatenate(objects)
    demanded = rows[rows[:, FLAGS].astype(np.int64) & CROWD == 0, LABEL]
    result = {}
    for label, name in enumerate(names):
        support = int((demanded == label).sum())
        one: dict[str, Any] = dict.fromkeys(("ap", "ap50", "precision", "recall", "f1", "score"))
        if support:
            one.update(ap=float(precision[:, :, label].mean()), ap50=float(precision[0, :, label].mean()))
            one.update(_best_f1(judged, label, support))
        result[name] = {**one, "support": support}
    return result


def _best_f1(judged: Any, label: int, support: int) -> dict[str, float]:
    """Precision, recall and F1 at the score where F1 is best."""
    scores, right, counted = _matches(judged, label)
    if not len(scores):
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0, "score": 1.0}
    hits, shown = np.cumsum(right), np.cumsum(counted)
    last = np.append(scores[1:] != scores[:-1], True)  # a threshold takes all boxes of one score or none
    f1 = np.where(last, 2 * hits / (support + shown), -1.0)
    best = int(f1.argmax())
    precision = float(hits[best] / shown[best]) if shown[best] else 0.0
    recall = float(hits[best] / support)
    return {"precision": precision, "recall": recall, "f1": float(f1[best]), "score": float(scores[best])}


def _matches(judged: Any, label: int) -> tuple[Array, Array, Array]:
    """Of a class's boxes, the surest first: their scores, which are right at IoU 0.5, and which count at all, from the
    library's own matches."""
    images, sizes = len(judged.params.imgIds), len(judged.params.areaRng)
    start = label * sizes * images
    parts = [one for one in judged.evalImgs[start : start + images] if one is not None and len(one["dtScores"])]
    if not parts:
        return np.zeros(0), np.zeros(0, bool), np.zeros(0, bool)
    scores = np.concatenate([one["dtScores"] for one in parts])
    right = np.concatenate([one["dtMatches"][0] > 0 for one in parts])
    counted = ~np.concatenate([one["dtIgnore"][0] for one in parts]).astype(bool)
    order = np.argsort(-scores, kind="stable")
    return scores[order], (right & counted)[order], counted[order]


def _curves(judged: Any, names: list[str]) -> dict[str, Any]:
    precision, scores = (judged.eval[key][:, :, :, 0, -1] for key in ("precision", "scores"))
    known = [label for label in range(len(names)) if precision[0, 0, label] > -1]
    thresholds = [round(float(value), 2) for value in judged.params.iouThrs]
    return {
        "recall": [round(float(value), 2) for value in judged.params.recThrs],
        "per_class": {
            names[label]: {"precision": precision[0, :, label].tolist(), "score": scores[0, :, label].tolist()}
            for label in known
        },
        "by_iou": {
            f"{iou:.2f}": precision[thresholds.index(iou)][:, known].mean(axis=1).tolist()
            for iou in _DRAWN_IOU
            if known
        },
    }
