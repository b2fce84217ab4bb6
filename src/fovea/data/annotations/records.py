"""What every layout of boxes reads: images with their drawn boxes, and findings about them for people."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fovea.data.split import SPLIT_WORDS

__all__ = ["Annotated", "Drawn", "Finding", "Findings", "corners_of", "split_of", "wants_boxes"]

_SHOWN = 20  # places kept of each kind of finding
_NAMED = 3  # of them in a note


class Drawn(NamedTuple):
    """One object as its file states it.

    ``box`` is x1, y1, x2, y2 in pixels, the last two exclusive, or shares of width and height when the image says
    ``relative``; ``line`` is where it stands; ``area`` is the object's own, None that of the box.
    """

    label: str
    box: tuple[float, float, float, float]
    line: int
    flags: int = 0
    area: float | None = None


@dataclass(frozen=True)
class Annotated:
    """An image in the tree and what was drawn on it.

    ``source`` is the file with the annotation ("" for none), ``unit`` what ``Drawn.line`` counts in it; ``stated`` the
    height and width that the annotation names.
    """

    path: str
    objects: list[Drawn] = field(default_factory=list)
    source: str = ""
    unit: str = "line"
    stated: tuple[int, int] | None = None
    relative: bool = False

    def place(self, drawn: Drawn) -> str:
        """Where an object stands, for people."""
        return f"{self.source} {self.unit} {drawn.line}"


class Finding(str):
    """A note about the data that also says how grave it is (as a Problem of ``fovea data check``) and where it was."""

    name: str
    severity: str
    found: int
    examples: tuple[str, ...]

    def __new__(
        cls, text: str, name: str = "note", severity: str = "info", found: int = 1, examples: tuple[str, ...] = ()
    ) -> Finding:
        """A note of this text."""
        note = super().__new__(cls, text)
        note.name, note.severity, note.found, note.examples = name, severity, found, examples
        return note


_KINDS = {
    "unknown class": ("error", "objects of a class that has no name, left out"),
    "bad annotation": ("error", "annotation files that cannot be read, left out with their images"),
    "bad object": ("warning", "objects that cannot be read, left out"),
    "not a number": ("warning", "boxes with corners that are not finite numbers, left out"),
    "no area": ("warning", "boxes without area, left out"),
    "outside": ("warning", "boxes outside of their image, left out"),
    "cut": ("warning", "boxes that reach over the edge of their image, cut there"),
    "swapped corners": ("warning", "boxes with swapped corners, mended"),
    "duplicate boxes": ("warning", "boxes that were given twice, counted once"),
    "ids off by one": ("warning", "class ids that begin at 1 where names begin at 0, or the other way, taken so"),
    "missing image": ("warning", "annotations without their image, left out"),
    "other size": ("warning", "images of another size than their annotation says"),
    "no annotation file": ("info", "images without an annotation file, taken as images without objects"),
    "turned": ("info", "images with an EXIF orientation, annotated as stored: their boxes are turned along"),
    "exif": ("info", "images with an EXIF orientation, their boxes taken as of the picture as it is shown"),
    "not listed": ("info", "images that no list or annotation names, left out"),
}
"""Kind of finding -> how grave it is, and what is said of it."""


class Findings:
    """Gathers findings by kind, and says each kind once; ``locate`` makes the places that are said more exact."""

    def __init__(self, locate: Callable[[str], str] | None = None) -> None:
        self._locate = locate
        self._places: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, place: str, count: int = 1) -> None:
        """One more of this kind (or ``count``), found at ``place``."""
        if kind not in _KINDS:
            raise KeyError(kind)
        self._counts[kind] = self._counts.get(kind, 0) + count
        places = self._places.setdefault(kind, [])
        if len(places) < _SHOWN:
            places.append(place)

    def count(self, kind: str) -> int:
        """How many of this kind there are."""
        return self._counts.get(kind, 0)

    def first(self, kind: str) -> str:
        """Where the first of this kind was, "" without any."""
        return self._places.get(kind, [""])[0]

    def notes(self) -> list[str]:
        """One line for each kind found, the gravest first."""
        notes: list[str] = []
        for kind, (severity, what) in _KINDS.items():
            if kind in self._counts:
                places, count = self._places[kind], self._counts[kind]
                places = [self._locate(place) for place in places] if self._locate else places
                more = ", ..." if count > _NAMED else ""
                text = f"{what}: {count} ({', '.join(places[:_NAMED])}{more})"
                notes.append(Finding(text, kind, severity, count, tuple(places)))
        return notes


def corners_of(outline: Sequence[float]) -> tuple[float, float, float, float]:
    """The box around an outline ``x, y, x, y, ...``; NaN when one of its numbers is not finite."""
    if not all(map(math.isfinite, outline)):
        return (math.nan,) * 4
    return min(outline[0::2]), min(outline[1::2]), max(outline[0::2]), max(outline[1::2])


def split_of(path: str, file: bool = False) -> str | None:
    """train, val or test when a folder of a path (or with ``file`` its name too) says so; the innermost decides.

    ``train2017`` and ``instances_val2017.json`` do; ``trainval`` is train.
    """
    parts = path.lower().split("/")
    for part in reversed(parts if file else parts[:-1]):
        words = set()
        for word in re.split(r"[^a-z0-9]+", part):
            stem = re.sub(r"\d+$", "", word)
            if stem in SPLIT_WORDS or stem == "trainval":
                words.add(SPLIT_WORDS.get(stem, "train"))
        if len(words) == 1:
            return words.pop()
    return None


def wants_boxes(kind: str | None, task: str | None) -> bool:
    """Whether boxes may be looked for, given what the user said about the data."""
    return kind in (None, "image") and task in (None, "detection")
