"""Boxes that a caller gives as arrays, and data sets that are named by their annotation file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.annotations.yaml import read_yaml
from fovea.data.boxes import BOX, COLUMNS, FLAGS, LABEL, is_box, padded, rows_of
from fovea.data.tree import FolderTree, Tree, UnionTree
from fovea.errors import DataError

__all__ = ["FILES", "boxes_given", "tree_of"]

Array = npt.NDArray[Any]
FILES = (".json", ".yaml", ".yml")
"""How files end that name a set of boxes."""
_FIX = "give one array (m, 5) an image: x1, y1, x2, y2, label"


def boxes_given(targets: Any, count: int, where: str) -> Array:
    """Boxes of ``count`` images -> ``float32 (N, M, 9)``: of that shape already, or one array ``(m, 5)`` or ``(m, 6)``
    an image with rows x1, y1, x2, y2, label[, flags]. Raises DataError."""
    if isinstance(targets, np.ndarray) and targets.ndim == 3 and targets.shape[2] == len(COLUMNS):
        rows = [image[is_box(image)] for image in targets]
    elif isinstance(targets, (list, tuple, np.ndarray)):
        rows = [_rows(image, f"{where}, image {number}") for number, image in enumerate(targets)]
    else:
        raise DataError(where, f"expected boxes of each image, got {type(targets).__name__}; {_FIX}")
    if len(rows) != count:
        raise DataError(where, f"expected boxes of {count} images, got those of {len(rows)}; {_FIX}")
    for number, image in enumerate(rows):
        place = f"{where}, image {number}"
        if not np.isfinite(image).all():
            raise DataError(place, "has a box with numbers that are not finite; take it out")
        if (image[:, 2:4] <= image[:, 0:2]).any():
            raise DataError(place, "has a box without area; x2 and y2 must be larger than x1 and y1")
        if (image[:, LABEL] != np.round(image[:, LABEL])).any() or (image[:, LABEL] < 0).any():
            raise DataError(place, "has a label that is no class index; indices begin at 0")
    return padded(rows)


def _rows(image: Any, where: str) -> Array:
    try:
        given = np.asarray(image, np.float32)
    except (TypeError, ValueError):
        raise DataError(where, f"has boxes that are not numbers; {_FIX}") from None
    if given.size == 0:
        given = given.reshape(0, 5)
    if given.ndim != 2 or given.shape[1] not in (5, 6):
        raise DataError(where, f"has boxes of shape {given.shape}; {_FIX}")
    return rows_of(given[:, BOX], given[:, LABEL], given[:, FLAGS] if given.shape[1] == 6 else None)


def tree_of(file: Path) -> tuple[Tree, str]:
    """The files around a COCO file or a data.yaml, and the path of that file among them.

    Images lie beside the file, beside its folder ``annotations``, or where data.yaml's ``path`` says.
    """
    if file.suffix.lower() == ".json":
        above = file.parent.resolve()
        root = above.parent if above.name.lower() in ("annotations", "labels", "ann") else above
        return FolderTree(root), file.resolve().relative_to(root).as_posix()
    tree = FolderTree(file.parent)
    config = read_yaml(file.read_bytes(), file.name)
    path = config.get("path")
    if isinstance(path, str) and path:
        root = (file.parent / Path(path.replace("\\", "/")).expanduser()).resolve()
        if root.is_dir() and not root.is_relative_to(file.parent.resolve()):
            inside = FolderTree(root)
            if file.name not in inside:
                return UnionTree(str(root), [("", inside), ("", FolderTree(file.parent, [file.name]))]), file.name
            return inside, file.name
    return tree, file.name
