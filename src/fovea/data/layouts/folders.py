"""One sub-folder per class, under ``train``, ``val`` and ``test`` or not: images, wavs, volumes, animations, frames.

Folders around the whole are looked through. The folder below the split names the class; what lies deeper belongs to it.
"""

from __future__ import annotations

import re
from collections import Counter

from fovea.data import decode, npy
from fovea.data.layouts.base import Found, Options
from fovea.data.source import FileSource
from fovea.data.split import SPLIT_WORDS
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["SUFFIXES", "find", "frame_number", "kind_of_files", "wanted_files"]

SUFFIXES = {"image": decode.IMAGE_SUFFIXES, "signal": (".wav", ".wave"), "array": (".npy", ".npz")}
_FRAME = re.compile(r"(?:frame|img|image|f)?[-_ ]?\d+", re.IGNORECASE)
_PROBES = 16


def find(tree: Tree, options: Options) -> Found | None:
    """Sub-folders of classes, or None when there is no file of a known type."""
    files, ignored = wanted_files(tree, options)
    if not files:
        return None
    kind = kind_of_files(tree, files, options.kind)
    inside = _unwrap(files)
    splits, unlabelled, aside = _by_split(inside)
    if not any(splits.values()):
        raise DataError(
            tree.name,
            f"holds {len(files)} {kind}s but no sub-folder per class; make them, or give a CSV or label_pattern",
        )
    notes = _notes(tree, inside, ignored, unlabelled, aside)
    if kind == "image" and options.kind is None and all(_is_frames(items) for items in splits.values()):
        kind = "clip"
        notes.append("folders of numbered frames are read as clips; kind='image' reads each picture by itself")
    parts = {}
    for split, items in splits.items():
        if items:
            samples = _clips(items) if kind == "clip" else [((path,), path, label) for path, label, _ in items]
            source = FileSource(tree, kind, [files for files, _, _ in samples], [name for _, name, _ in samples])
            parts[split] = (source, [label for _, _, label in samples])
    return Found(kind, "classification", parts, notes=notes)  # type: ignore[arg-type]  # list[str] is one of Labels


def wanted_files(tree: Tree, options: Options) -> tuple[list[str], int]:
    """The sample files of the most frequent type (or of ``options.kind``), and how many other files there are."""
    types = Counter(_type(path) for path in tree)
    del types[""]
    if options.kind in ("image", "clip"):
        wanted = ["image"] if types["image"] else ["array"]
    elif options.kind == "signal":
        wanted = ["signal"] if types["signal"] else ["array"]
    elif options.kind == "volume":
        wanted = ["array"]
    else:
        wanted = [max(types, key=lambda name: (types[name], name))] if types else []
    files = [path for path in tree if _type(path) in wanted]
    return files, len(tree.paths) - len(files)


def kind_of_files(tree: Tree, files: list[str], asked: str | None) -> str:
    """image, signal, volume or clip: by the suffix, and for arrays and animations by the first readable header."""
    if asked is not None:
        return asked
    group = _type(files[0]) or "image"  # a table may name files without a suffix
    if group == "signal":
        return "signal"
    animations = [path for path in files if path.lower().endswith(".gif")]
    for path in (animations if group == "image" and len(animations) * 2 > len(files) else files)[:_PROBES]:
        try:
            if group == "array":
                axes = len(_array_shape(tree.read(path), path))
                return "signal" if axes <= 2 else "volume"
            if not animations:
                return "image"
            if decode.image_header(tree.read(path), path)[3] > 1:
                return "clip"
        except DataError:
            continue
    return "image" if group == "image" else "volume"


def _array_shape(data: bytes, name: str) -> tuple[int, ...]:
    if name.lower().endswith(".npz"):
        file = npy.NpzFile(data, name, 1 << 31)
        return file.header(file.names[0])[0] if file.names else ()
    return npy.npy_header(data, name)[0]


def _type(path: str) -> str:
    lower = path.lower()
    for name, suffixes in SUFFIXES.items():
        if lower.endswith(suffixes):
            return name
    return ""


Item = tuple[str, str, str]  # path in the tree, class, path below the class


def _unwrap(files: list[str]) -> list[tuple[str, str]]:
    """``(path, path without the folders that surround everything)``; a split or a single class is not taken off."""
    inside = [(path, path) for path in files]
    while True:
        first = {name.split("/", 1)[0] for _, name in inside}
        if len(first) != 1 or first.pop().lower() in SPLIT_WORDS or any(name.count("/") < 2 for _, name in inside):
            return inside
        below = [name.split("/", 1)[1] for _, name in inside]
        if all(_FRAME.fullmatch(name.rsplit("/", 1)[1].rsplit(".", 1)[0]) and name.count("/") == 1 for name in below):
            tops = {name.split("/", 1)[0].lower() for name in below}
            if not tops & set(SPLIT_WORDS) and len(tops) == 1:
                return inside
        inside = [(path, name) for (path, _), name in zip(inside, below, strict=True)]


def _by_split(inside: list[tuple[str, str]]) -> tuple[dict[str, list[Item]], int, list[str]]:
    first = {name.split("/", 1)[0] for _, name in inside if "/" in name}
    named = {name for name in first if name.lower() in SPLIT_WORDS}
    has_splits = bool(named) and (named == first or any(SPLIT_WORDS[name.lower()] == "train" for name in named))
    splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    unlabelled = 0
    for path, name in inside:
        split, rest = "train", name
        if has_splits:
            top, _, rest = name.partition("/")
            if top not in named:
                continue
            split = SPLIT_WORDS[top.lower()]
        label, slash, below = rest.partition("/")
        if slash:
            splits[split].append((path, label, below))
        else:
            unlabelled += 1
    return splits, unlabelled, sorted(first - named) if has_splits else []


def _notes(tree: Tree, inside: list[tuple[str, str]], ignored: int, unlabelled: int, aside: list[str]) -> list[str]:
    notes = []
    if ignored:
        notes.append(f"{ignored} files of other types are ignored")
    if unlabelled:
        notes.append(f"{unlabelled} files outside of a class folder are ignored")
    if aside:
        notes.append(f"folders beside the splits are ignored: {', '.join(aside[:5])}")
    notes.extend(f"class folder {folder!r} is empty" for folder in tree.empty[:20])
    return notes


def _is_frames(items: list[Item]) -> bool:
    """Class / clip / numbered frames, at least two frames in each clip."""
    counts: Counter[str] = Counter()
    for path, _, below in items:
        clip, slash, frame = below.rpartition("/")
        if not slash or "/" in clip or not _FRAME.fullmatch(frame.rsplit(".", 1)[0]):
            return False
        counts[path.rsplit("/", 1)[0]] += 1
    return all(count > 1 for count in counts.values())


def _clips(items: list[Item]) -> list[tuple[tuple[str, ...], str, str]]:
    """Animations stay single files; frames are gathered by folder, in the order of their numbers."""
    clips: dict[tuple[str, str], list[str]] = {}
    for path, label, below in items:
        name = path.rsplit("/", 1)[0] if "/" in below else path
        clips.setdefault((name, label), []).append(path)
    return [(tuple(sorted(paths, key=frame_number)), name, label) for (name, label), paths in clips.items()]


def frame_number(path: str) -> tuple[int, str]:
    """The order of a clip's frames: the last number in the file's name, so that frame10 follows frame9."""
    digits = re.findall(r"\d{1,18}", path.rsplit("/", 1)[-1].rsplit(".", 1)[0])
    return (int(digits[-1]) if digits else 0, path)
