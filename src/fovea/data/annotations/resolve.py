"""Finds the images that annotations name: paths there are often those of another machine, or lack their folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from fovea.data.annotations.records import split_of
from fovea.data.decode import IMAGE_SUFFIXES
from fovea.data.tree import Tree

__all__ = ["Images", "plain_path", "stem_of"]

_MASKS = ("segmentationclass", "segmentationobject")  # VOC's pictures of labels


class Images:
    """The images of a tree by their names."""

    def __init__(self, tree: Tree) -> None:
        self.paths = [
            path
            for path in tree
            if path.lower().endswith(IMAGE_SUFFIXES) and not any(part in _MASKS for part in path.lower().split("/"))
        ]
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            name = path.rsplit("/", 1)[-1].lower()
            self._by_name[name].append(path)
            self._by_stem[stem_of(name)].append(path)

    def named(self, name: str, near: str, split: str | None = None) -> str | None:
        """The image of a name that an annotation at ``near`` gives, with or without folders, or None.

        As many of the name's folders as possible must agree; then the image in the annotation's folder is taken, one
        in a folder of that split, the nearest.
        """
        wanted = plain_path(name).lower().split("/")
        return _best(self._by_name.get(wanted[-1], ()), wanted, near, split)

    def with_stem(self, stem: str, near: str, split: str | None = None) -> str | None:
        """As :meth:`named`, for a name without its suffix."""
        wanted = plain_path(stem).lower().split("/")
        return _best(self._by_stem.get(wanted[-1], ()), wanted, near, split)


def plain_path(text: str) -> str:
    """A path as people write it, with ``/`` and without what leads out of the tree."""
    parts = [part for part in text.strip().replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts)


def stem_of(path: str) -> str:
    """A path without the suffix of its file."""
    head, slash, name = path.rpartition("/")
    return head + slash + (name.rsplit(".", 1)[0] if "." in name else name)


def _best(found: Iterable[str], wanted: list[str], near: str, split: str | None) -> str | None:
    folder = near.lower().split("/")[:-1]

    def rank(path: str) -> tuple[int, bool, bool, int, int]:
        parts = path.lower().split("/")
        return (
            _common(reversed(parts[:-1]), reversed(wanted[:-1])),
            parts[:-1] == folder,
            split is not None and split_of(path) == split,
            _common(parts, folder),
            -len(parts),
        )

    return max(found, key=rank, default=None)


def _common(first: Iterable[str], second: Iterable[str]) -> int:
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
