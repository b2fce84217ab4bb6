"""What was found, as files: JSON of our own and COCO's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fovea.tasks.detect.task import DetectionPrediction

__all__ = ["Seen", "as_coco", "as_json"]


@dataclass(frozen=True)
class Seen:
    """One image and what was found in it: its path as it is written down, its size, the objects."""

    path: str
    height: int
    width: int
    prediction: DetectionPrediction


def as_json(seen: Sequence[Seen], model: str, speed: Mapping[str, Any]) -> dict[str, Any]:
    """``{"model", "speed", "images": [{"path", "width", "height", "objects": [{"label", "score", "box"}]}]}``, boxes as
    x1, y1, x2, y2 in pixels of the image."""
    images = [{"path": one.path, "width": one.width, "height": one.height, **one.prediction.to_dict()} for one in seen]
    return {"model": model, "speed": dict(speed), "images": images}


def as_coco(seen: Sequence[Seen], classes: Sequence[str]) -> dict[str, Any]:
    """A data set in COCO's layout, which tools for annotating read: images and classes numbered from 1, and the boxes
    found as annotations ``x, y, width, height`` that have a score besides."""
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(seen, 1):
        for found in one.prediction.objects:
            x1, y1, x2, y2 = found.box
            width, height = x2 - x1, y2 - y1
            about = {"id": len(annotations) + 1, "image_id": number, "category_id": found.index + 1, "iscrowd": 0}
            annotations.append({**about, "bbox": [x1, y1, width, height], "area": width * height, "score": found.score})
    return {
        "images": [
            {"id": number, "file_name": one.path, "width": one.width, "height": one.height}
            for number, one in enumerate(seen, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
        "annotations": annotations,
    }
