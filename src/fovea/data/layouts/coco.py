"""COCO JSON: ``annotations/instances_SPLIT.json`` with the images anywhere, one ``annotations.json``, or a file in each
split's folder (``_annotations.coco.json``).

A file's split is in its name or in its folder's. Classes are the categories in the order of their ids, by name, so
files whose ids differ agree. ``bbox`` is x, y, width, height from 0; without one the outline's corners are taken.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fovea.data.annotations.lines import entry_lines
from fovea.data.annotations.records import Annotated, Drawn, Finding, Findings, corners_of, split_of, wants_boxes
from fovea.data.annotations.resolve import Images
from fovea.data.boxes import CROWD, DIFFICULT
from fovea.data.layouts.annotated import settle
from fovea.data.layouts.base import Found, Options
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["find"]

_KEYS = ("images", "annotations", "categories")
_MOST_FILES = 64  # more JSON files than this are a file for each image, not COCO
_MEMORY = 12  # bytes that a byte of JSON takes when it is read
_PLACE = re.compile(r"(?P<file>.+\.json) (?P<list>images|annotations) entry (?P<number>\d+)", re.IGNORECASE)
_NAN = float("nan")
Content = Mapping[str, Any]


def find(tree: Tree, options: Options) -> Found | None:
    """Images with boxes from COCO files, or None."""
    if not wants_boxes(options.kind, options.task):
        return None
    files = [path for path in tree if path.lower().endswith(".json")]
    if (options.explicit or "").lower().endswith(".json"):
        files = [path for path in files if path == options.explicit]
    instances = [path for path in files if path.rsplit("/", 1)[-1].lower().startswith("instances")]
    read: dict[str, Content] = {}
    for path in instances or (files if len(files) <= _MOST_FILES else []):
        content = _read(tree, path, options.max_memory)
        if content is not None:
            read[path] = content
    if not read and files and files == [options.explicit]:
        raise DataError(files[0], "is not COCO's: an object with images, annotations and categories is expected")
    if not read:
        return None
    findings, images = Findings(_with_line(tree)), Images(tree)
    notes: list[str] = []
    names = {path: _categories(path, content, notes) for path, content in read.items()}
    splits: dict[str, dict[str, Annotated]] = {}
    for path in sorted(read, key=lambda path: (split_of(path, file=True) or "train", path)):
        split = split_of(path, file=True) or "train"
        ids = _numbering(path, read[path], names[path], findings)
        _add(splits.setdefault(split, {}), path, read[path], ids, images, split, findings)
    _count_unlisted(images, splits, findings)
    classes = _classes(read, names, notes)
    return settle(tree, {split: list(chosen.values()) for split, chosen in splits.items()}, classes, findings, notes)


def _with_line(tree: Tree) -> Callable[[str], str]:
    """Adds to a place in a file of several lines the line; files are looked through for the first of them."""
    known: dict[str, list[int]] = {}

    def located(place: str) -> str:
        match = _PLACE.match(place)
        if match is None:
            return place
        key = f"{match['file']} {match['list']}"
        if key not in known:
            text = tree.read(match["file"]).decode("utf-8-sig", "replace")
            known[key] = entry_lines(text, match["list"]) if text.count("\n") > 1 else []
        number = int(match["number"])
        if number >= len(known[key]):
            return place
        return f"{match['file']} line {known[key][number]} ({match['list']} entry {number}){place[match.end() :]}"

    return located


def _read(tree: Tree, path: str, max_memory: int) -> Content | None:
    """The file when it is COCO's, else None. Raises DataError for one that is, but cannot be read."""
    data = tree.read(path)
    if not all(f'"{key}"'.encode() in data for key in _KEYS):
        return None
    if len(data) * _MEMORY > max_memory:
        raise DataError(
            path, f"takes about {len(data) * _MEMORY / 1e9:.1f} GB to read, {max_memory / 1e9:.1f} GB are allowed"
        )
    try:
        content = json.loads(data)
    except json.JSONDecodeError as error:
        raise DataError(path, f"line {error.lineno} column {error.colno} is not JSON: {error.msg}") from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(path, f"is not JSON that can be read: {str(error)[:120]}") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _KEYS):
        return None
    return content


def _categories(path: str, content: Content, notes: list[str]) -> dict[int, str]:
    """Name of each category id, ascending. A mere heading of others (as exporters add) is left out."""
    names: dict[int, str] = {}
    headings = set()
    for number, category in enumerate(content["categories"]):
        if not isinstance(category, dict) or not _is_int(category.get("id")) or "name" not in category:
            raise DataError(path, f"categories entry {number} needs an integer id and a name, got {str(category)[:80]}")
        names[category["id"]] = str(category["name"])
        headings.add(str(category.get("supercategory")))
    used = Counter(drawn.get("category_id") for drawn in content["annotations"] if _has_category(drawn))
    for number, name in sorted(names.items()):
        own = next(c.get("supercategory") for c in content["categories"] if c["id"] == number)
        if name in headings and not used[number] and own in ("none", "", None) and len(names) > 1:
            del names[number]
            notes.append(f"{path}: category {name!r} is only a heading of others and is left out")
    return dict(sorted(names.items()))


def _has_category(drawn: Any) -> bool:
    return isinstance(drawn, dict) and _is_int(drawn.get("category_id"))


def _numbering(path: str, content: Content, names: dict[int, str], findings: Findings) -> dict[int, str]:
    """Category id as annotations use it -> name. Ids that lie one beside the categories' are moved."""
    used = {drawn["category_id"] for drawn in content["annotations"] if _has_category(drawn)}
    if used and not used <= set(names):
        for shift in (-1, 1):
            ends = (min(used) + shift, max(used) + shift) == (min(names, default=0), max(names, default=0))
            if ends and {number + shift for number in used} <= set(names):
                findings.add("ids off by one", f"{path}: annotations use {min(used)} to {max(used)}")
                return {number - shift: name for number, name in names.items()}
    return names


def _add(
    chosen: dict[str, Annotated], path: str, content: Content, names: dict[int, str], images: Images, split: str,
    findings: Findings,
) -> None:  # fmt: skip
    """The file's images with what was drawn on them."""
    by_id: dict[int | str, Annotated | None] = {}
    for number, entry in enumerate(content["images"]):
        name, key = (entry.get("file_name"), entry.get("id")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(key, (int, str)) or key in by_id:
            what = "repeats an id" if isinstance(key, (int, str)) and key in by_id else "has no id or file_name"
            findings.add("bad object", f"{path} images entry {number} {what}")
            continue
        found = images.named(name, path, split)
        if found is None:
            findings.add("missing image", f"{path} images entry {number}: {name}")
            by_id[key] = None
            continue
        stated = (entry.get("height"), entry.get("width"))
        size = (stated[0], stated[1]) if _is_int(stated[0]) and _is_int(stated[1]) else None
        by_id[key] = chosen.setdefault(found, Annotated(found, [], path, "annotations entry", size))
    for number, drawn in enumerate(content["annotations"]):
        place = f"{path} annotations entry {number}"
        if not isinstance(drawn, dict) or not isinstance(drawn.get("image_id"), (int, str)):
            findings.add("bad object", f"{place} has no image_id")
        elif drawn["image_id"] not in by_id:
            findings.add("missing image", f"{place}: no image has the id {drawn['image_id']}")
        else:
            image = by_id[drawn["image_id"]]
            if image is not None:
                image.objects.append(_drawn(drawn, number, names))


def _drawn(drawn: Content, number: int, names: dict[int, str]) -> Drawn:
    category = drawn.get("category_id")
    label = names.get(category) if isinstance(category, int) else None
    flags = (CROWD if drawn.get("iscrowd") in (1, True) else 0) | (
        DIFFICULT if drawn.get("ignore") in (1, True) or drawn.get("difficult") in (1, True) else 0
    )
    area = drawn.get("area")
    own = float(area) if isinstance(area, (int, float)) and _is_number(area) else None
    return Drawn(f"id {str(category)[:40]}" if label is None else label, _box(drawn), number, flags, own)


def _box(drawn: Content) -> tuple[float, float, float, float]:
    box = drawn.get("bbox")
    if isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)):
        x, y, width, height = map(float, box)
        return x, y, x + width, y + height
    outlines = drawn.get("segmentation")
    if not box and isinstance(outlines, list) and outlines and all(isinstance(part, list) for part in outlines):
        points = [value for part in outlines for value in part]
        if len(points) >= 6 and all(map(_is_number, points)) and all(len(part) % 2 == 0 for part in outlines):
            return corners_of(points)
    return _NAN, _NAN, _NAN, _NAN


def _count_unlisted(images: Images, splits: Mapping[str, Mapping[str, Annotated]], findings: Findings) -> None:
    listed = {path for chosen in splits.values() for path in chosen}
    for path in images.paths:
        if path not in listed:
            findings.add("not listed", path)


def _classes(read: Mapping[str, Content], names: Mapping[str, dict[int, str]], notes: list[str]) -> Sequence[str]:
    """Every name once, in the order of the ids in the train file, then what only other files name."""
    order = sorted(read, key=lambda path: (split_of(path, file=True) not in (None, "train"), path))
    classes = list(dict.fromkeys(name for path in order for name in names[path].values()))
    for path in order[1:]:
        mine, first = set(names[path].values()), set(names[order[0]].values())
        if mine != first:
            only = ", ".join(sorted(mine ^ first)[:5])
            text = f"{path} and {order[0]} do not name the same classes: {only}"
            notes.append(Finding(text, "class names differ", "warning"))
    return classes


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300) or value != value
