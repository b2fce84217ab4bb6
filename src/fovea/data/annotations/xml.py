"""A Pascal VOC annotation file, read with line numbers. DTDs are refused, so a file can neither grow nor fetch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from fovea.errors import DataError

__all__ = ["VocFile", "VocObject", "read_voc"]

_MAX_BYTES = 1 << 24
_MAX_DEPTH = 64
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class VocObject:
    """An ``<object>``: its texts by tag; of ``<part>`` and other nested objects nothing is kept."""

    line: int
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def corners(self) -> tuple[float, float, float, float] | None:
        """xmin, ymin, xmax, ymax as written, NaN for a text that is no number; None without a ``<bndbox>``."""
        if not any(name in self.texts for name in _CORNERS):
            return None
        x1, y1, x2, y2 = (_number(self.texts.get(name, "")) for name in _CORNERS)
        return x1, y1, x2, y2


@dataclass
class VocFile:
    """``<annotation>``: the image's name, its height and width (None: not said), how corners are meant ("": not said),
    its objects."""

    filename: str = ""
    stated: tuple[int, int] | None = None
    corners: str = ""
    objects: list[VocObject] = field(default_factory=list)


def read_voc(data: bytes, name: str) -> VocFile | None:
    """The file's contents; None when its root is not ``<annotation>``. Raises DataError for what is no plain XML."""
    if len(data) > _MAX_BYTES:
        raise DataError(name, f"has {len(data):,} bytes; an annotation has at most {_MAX_BYTES:,}")
    reader = _Reader(name)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(name, f"line {error.lineno} is not XML: {expat.errors.messages[error.code]}") from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise DataError(name, f"is not XML that can be read: {error}") from None
    return reader.result()


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._doctype
        self._path: list[str] = []
        self._texts: list[str] = []
        self._root = ""
        self._head: dict[str, str] = {}
        self._objects: list[VocObject] = []

    def result(self) -> VocFile | None:
        if self._root != "annotation":
            return None
        height, width = (_number(self._head.get(name, "")) for name in ("size/height", "size/width"))
        whole = 0 < height < 1e9 and 0 < width < 1e9
        stated = (int(height), int(width)) if whole else None
        return VocFile(self._head.get("filename", ""), stated, self._head.get("corners", ""), self._objects)

    def _doctype(self, *_: Any) -> None:
        raise DataError(self.name, f"line {self.parser.CurrentLineNumber} has a DOCTYPE; take it out")

    def _start(self, tag: str, _: Any) -> None:
        self._root = self._root or tag
        self._path.append(tag)
        self._texts = []
        if len(self._path) > _MAX_DEPTH:
            raise DataError(self.name, f"line {self.parser.CurrentLineNumber} is nested {_MAX_DEPTH} deep")
        if self._path[1:] == ["object"]:
            self._objects.append(VocObject(self.parser.CurrentLineNumber))

    def _text(self, text: str) -> None:
        self._texts.append(text)

    def _end(self, tag: str) -> None:
        text, inner = "".join(self._texts).strip(), self._path[1:]
        self._texts = []
        if inner[:1] == ["object"]:
            if len(inner) == 2 or inner[1:2] == ["bndbox"]:
                self._objects[-1].texts[tag] = text
        elif inner:
            self._head["/".join(inner)] = text
        self._path.pop()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
