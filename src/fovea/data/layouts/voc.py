"""Pascal VOC: an XML file for each image, in ``Annotations`` beside ``JPEGImages``, or beside the image.

Splits are the lists in ``ImageSets/Main`` (``trainval`` only where train or val is missing), else the folders' names.
Corners are PASCAL's, counted from 1 with both ends inside, ``(xmin - 1, ymin - 1, xmax, ymax)``; they are edges, taken
as they stand, when one of the set is below 1, when more than a hundredth are no whole numbers (as VOC 2012 has a few),
or when a file says ``<corners>edges</corners>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from fovea.data.annotations.records import Annotated, Drawn, Finding, Findings, split_of, wants_boxes
from fovea.data.annotations.resolve import Images, stem_of
from fovea.data.annotations.xml import VocFile, read_voc
from fovea.data.boxes import CROWD, DIFFICULT
from fovea.data.layouts.annotated import class_names, settle
from fovea.data.layouts.base import Found, Options
from fovea.data.split import SPLIT_WORDS
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["find"]

_PROBES = 16
_BROKEN = 0.01  # share of corners that are no whole numbers
_LIST = re.compile(r"(?P<root>(?:.*/)?)imagesets/main/(?P<name>[^/]+)\.txt", re.IGNORECASE)
Splits = dict[str, dict[str, str]]  # split -> image -> its annotation file, "" without one


def find(tree: Tree, options: Options) -> Found | None:
    """Images with VOC annotations, or None."""
    files = [path for path in tree if path.lower().endswith(".xml")]
    if not wants_boxes(options.kind, options.task) or not any(_is_voc(tree, path) for path in files[:_PROBES]):
        return None
    findings, images = Findings(), Images(tree)
    read = _read(tree, files, findings)
    lists = _lists(tree)
    splits = _listed(images, read, lists, findings) if lists else _beside(images, read, findings)
    notes = _drop_bare(splits)
    pascal = _is_pascal(file for file in read.values() if file)
    annotated = {
        split: [_annotated(path, source, read.get(source), pascal, findings) for path, source in chosen.items()]
        for split, chosen in splits.items()
    }
    rule = "from 1, both ends inside (PASCAL)" if pascal else "as edges of the box, from 0"
    notes.append(Finding(f"VOC corners are read {rule}"))
    return settle(tree, annotated, _classes(tree, annotated), findings, notes)


def _classes(tree: Tree, annotated: Mapping[str, Sequence[Annotated]]) -> Sequence[str]:
    """The labels that were drawn, sorted; or in the order of a ``labelmap.txt``, which may name more."""
    drawn = class_names(annotated)
    maps = [path for path in tree if path.rsplit("/", 1)[-1].lower() == "labelmap.txt"]
    if not maps:
        return drawn
    lines = tree.read(maps[0]).decode("utf-8-sig", "replace").splitlines()
    kept = [line for line in lines if not line.startswith("# label")]
    named = [line.rsplit(":", 3)[0].strip() if line.count(":") > 2 else line.strip() for line in kept]
    named = list(dict.fromkeys(name for name in named if name and (name != "background" or name in drawn)))
    return [*named, *(name for name in drawn if name not in named)]


def _is_voc(tree: Tree, path: str) -> bool:
    try:
        return read_voc(tree.read(path), path) is not None
    except DataError:
        return False


def _read(tree: Tree, files: list[str], findings: Findings) -> dict[str, VocFile | None]:
    """Annotation files by path; None for those that cannot be read. Files with another root are not among them."""
    read: dict[str, VocFile | None] = {}
    for path in files:
        try:
            file = read_voc(tree.read(path), path)
        except DataError as error:
            findings.add("bad annotation", f"{path} {error.message}")
            read[path] = None
            continue
        if file is not None:
            read[path] = file
    return read


def _lists(tree: Tree) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Folder of a VOC set -> split -> names in its list, each with the place where it stands."""
    lists: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for path in tree:
        match = _LIST.fullmatch(path)
        word = match["name"].lower() if match else ""
        if match is None or (word not in SPLIT_WORDS and word not in ("trainval", "default")):
            continue
        lines = tree.read(path).decode("utf-8-sig", "replace").splitlines()
        names = [(line.strip(), f"{path} line {number}") for number, line in enumerate(lines, 1) if line.strip()]
        lists.setdefault(match["root"], {}).setdefault(SPLIT_WORDS.get(word, word), []).extend(names)
    for chosen in lists.values():
        both, default = chosen.pop("trainval", []), chosen.pop("default", [])
        if default and "train" not in chosen:
            chosen["train"] = default
        if both and "train" not in chosen:
            taken = {name for name, _ in chosen.get("val", [])}
            chosen["train"] = [item for item in both if item[0] not in taken]
        elif both and "val" not in chosen:
            taken = {name for name, _ in chosen["train"]}
            chosen["val"] = [item for item in both if item[0] not in taken]
    return lists


def _listed(
    images: Images, read: dict[str, VocFile | None],
    lists: dict[str, dict[str, list[tuple[str, str]]]], findings: Findings,
) -> Splits:  # fmt: skip
    splits: Splits = {}
    used: set[str] = set()
    by_stem = {stem_of(path).lower(): path for path in read}
    for root, chosen in lists.items():
        for split, names in chosen.items():
            for name, place in names:
                image, source = _pair(root, name, images, by_stem)
                if source:
                    used.add(source)
                if image is None:
                    findings.add("missing image", f"{place}: {name}")
                elif not source:
                    findings.add("no annotation file", image)
                    splits.setdefault(split, {})[image] = ""
                elif read[source] is not None:
                    splits.setdefault(split, {})[image] = source
    for path in read:
        if path not in used and read[path] is not None:
            findings.add("not listed", path)
    return splits


def _pair(root: str, name: str, images: Images, by_stem: dict[str, str]) -> tuple[str | None, str]:
    """The image and the annotation of a name in a list; a name may have a suffix, or a column behind it."""
    for stem in dict.fromkeys((name, stem_of(name), name.split()[0])):
        source = by_stem.get(f"{root}annotations/{stem}".lower(), "")
        image = images.with_stem(stem, f"{root}JPEGImages/{stem}")
        if image is not None or source:
            return image, source
    return None, ""


def _beside(images: Images, read: dict[str, VocFile | None], findings: Findings) -> Splits:
    """Splits by the names of folders; each annotation with its image, and the other images of the same folders."""
    splits: Splits = {}
    bad: set[str] = set()
    for source, file in read.items():
        split = split_of(source)
        image = images.with_stem(stem_of(source), source, split)
        if image is None and file is not None and file.filename:
            image = images.named(file.filename, source, split)
        if image is None:
            findings.add("missing image", f"{source}: {file.filename if file else ''}")
        elif file is None:
            bad.add(image)
        else:
            splits.setdefault(split or split_of(image) or "train", {})[image] = source
    seen = {image: None for chosen in splits.values() for image in chosen}
    folders = {image.rpartition("/")[0] for image in (*seen, *bad)}
    for image in images.paths:
        if image not in seen and image not in bad and image.rpartition("/")[0] in folders:
            findings.add("no annotation file", image)
            splits.setdefault(split_of(image) or "train", {})[image] = ""
    return splits


def _drop_bare(splits: Splits) -> list[str]:
    """Take out splits of which no image has an annotation: they have nothing to be judged by."""
    bare = [split for split, chosen in splits.items() if chosen and not any(chosen.values())]
    for split in bare:
        del splits[split]
    return [Finding(f"the split {split} has no annotation and is left out", "bare split", "warning") for split in bare]


def _is_pascal(files: Iterable[VocFile]) -> bool:
    values: list[float] = []
    for file in files:
        if file.corners == "edges":
            return False
        values += [value for drawn in file.objects for value in drawn.corners or () if abs(value) < 1e9]
    broken = sum(value != int(value) for value in values)
    return min(values, default=1.0) >= 1 and broken <= _BROKEN * len(values)


def _annotated(path: str, source: str, file: VocFile | None, pascal: bool, findings: Findings) -> Annotated:
    if file is None:
        return Annotated(path)
    image = Annotated(path, [], source, stated=file.stated)
    for found in file.objects:
        corners, label = found.corners, found.texts.get("name", "")
        if corners is None or not label:
            missing = "name" if corners is not None else "bndbox"
            findings.add("bad object", f"{source} line {found.line}: an object without a {missing}")
            continue
        difficult = found.texts.get("difficult", "0").lower() in ("1", "true")
        box = _edges(corners) if pascal else corners
        crowd = found.texts.get("iscrowd", "0") == "1"
        flags = (DIFFICULT if difficult else 0) | (CROWD if crowd else 0)
        image.objects.append(Drawn(label, box, found.line, flags))
    return image


def _edges(corners: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Both ends inside, from 1 -> edges from 0. Swapped corners stay swapped; equal ones stay without area."""
    x1, y1, x2, y2 = corners
    return (x1 - (x1 < x2), y1 - (y1 < y2), x2 - (x2 < x1), y2 - (y2 < y1))
