"""One file per layout of data on disk; :func:`detect` asks each in turn."""

from __future__ import annotations

from fovea.data.layouts import arrays, cifar, coco, folders, idx, pattern, table, voc, yolo
from fovea.data.layouts.base import Found, Options, natural
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["Found", "Options", "detect", "natural"]

# Most specific first: file names that can only mean one thing come before folders of anything.
_BOXES = (coco, voc, yolo)
_LAYOUTS = (pattern, *_BOXES, idx, cifar, table, arrays, folders)


def detect(tree: Tree, options: Options) -> Found:
    """What the tree holds. Raises DataError, naming the layouts that are known, when nothing fits."""
    for layout in _BOXES if options.task == "detection" else _LAYOUTS:
        found: Found | None = layout.find(tree, options)
        if found is not None:
            return found
    seen = ", ".join(tree.paths[:3]) + (", ..." if len(tree.paths) > 3 else "") if tree.paths else "no files"
    if options.task == "detection":
        raise DataError(
            tree.name,
            f"holds {seen}, no layout of boxes that is known: Pascal VOC (XML files, JPEGImages), COCO (a JSON with"
            " images, annotations and categories) or YOLO (images, labels with a txt for each, data.yaml)",
        )
    raise DataError(
        tree.name,
        f"holds {seen}, no layout that is known: one sub-folder per class (with or without train/val/test), a CSV of"
        " path,label, IDX files, CIFAR batches, .npz arrays, files with labels in their names"
        " (label_pattern), or boxes as VOC, COCO or YOLO keep them",
    )
