"""YOLO txt: ``images/.../a.jpg`` with ``labels/.../a.txt`` (or the text beside the image), lines ``class cx cy w h``.

All numbers are shares of the image's width and height. Lines of more numbers are outlines ``class x y x y ...``, of
which the corners are taken (with ``kpt_shape`` in data.yaml: key points behind the box). Names and splits are those of
``data.yaml``; else names come from ``classes.txt`` or ``*.names``, splits from ``train.txt`` lists or folders' names.
"""

from __future__ import annotations

from collections.abc import Sequence

from fovea.data.annotations.records import Annotated, Drawn, Finding, Findings, corners_of, split_of, wants_boxes
from fovea.data.annotations.resolve import Images, plain_path, stem_of
from fovea.data.annotations.yaml import Value, read_yaml
from fovea.data.layouts.annotated import settle
from fovea.data.layouts.base import Found, Options
from fovea.data.split import SPLIT_WORDS
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["find"]

_NAMES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels", "classes.names", "predefined_classes.txt")
_PROBES = 64
_MAX_BYTES = 1 << 24
_MOST_CLASSES = 1 << 16
Row = tuple[int, tuple[float, float, float, float], int]  # class id, corners, line
Config = dict[str, Value]


def find(tree: Tree, options: Options) -> Found | None:
    """Images with YOLO labels, or None."""
    if not wants_boxes(options.kind, options.task):
        return None
    images = Images(tree)
    texts = _Texts(tree)
    if not _is_yolo(tree, images, texts):
        if (options.explicit or "").lower().endswith((".yaml", ".yml")):
            raise DataError(str(options.explicit), "names no images with labels beside it: images/a.jpg, labels/a.txt")
        return None
    findings, notes = Findings(), [Finding("")][:0]
    where, config = _config(tree, options.explicit, notes)
    splits = _splits(tree, images, where, config, findings, notes)
    rows: dict[str, list[Row]] = {}
    used: set[str] = set()
    for image in dict.fromkeys(path for chosen in splits.values() for path in chosen):
        label = texts.of(image)
        if label is None:
            findings.add("no annotation file", image)
            continue
        used.add(label)
        rows[image] = _rows(tree, label, "kpt_shape" in config, findings)
    paired = used | {texts.of(image) for image in images.paths}
    for label in sorted(texts.labels - paired):
        findings.add("missing image", label)
    for image in sorted(set(images.paths) - {path for chosen in splits.values() for path in chosen}):
        findings.add("not listed", image)
    names = _numbered(_names(tree, config, notes), rows, findings)
    annotated = {
        split: [_annotated(path, texts.of(path), rows.get(path, []), names) for path in chosen]
        for split, chosen in splits.items()
    }
    classes = list(dict.fromkeys(names[number] for number in sorted(names)))
    return settle(tree, annotated, classes, findings, notes)


class _Texts:
    """Label files by image."""

    def __init__(self, tree: Tree) -> None:
        self._by_stem: dict[str, list[str]] = {}
        self.labels: set[str] = set()
        for path in tree:
            lower = path.lower()
            name = lower.rsplit("/", 1)[-1]
            if not name.endswith(".txt") or name in _NAMES or name.startswith("readme"):
                continue
            self._by_stem.setdefault(stem_of(name), []).append(path)
            if "labels" in lower.split("/")[:-1]:
                self.labels.add(path)

    def of(self, image: str) -> str | None:
        """The label file of an image: in ``labels`` where the image is in ``images``, in the image's folder, or the
        only text of that name."""
        stem = stem_of(image).lower()
        parts = stem.split("/")
        wanted = [stem]
        folders = [index for index, part in enumerate(parts[:-1]) if part in ("images", "jpegimages")]
        if folders:
            wanted.insert(0, "/".join([*parts[: folders[-1]], "labels", *parts[folders[-1] + 1 :]]))
        wanted.append("/".join([*parts[:-1], "labels", parts[-1]]))
        wanted.append("/".join(["labels", *parts]))
        found = {stem_of(path).lower(): path for path in self._by_stem.get(parts[-1], ())}
        alone = next(iter(found.values())) if len(found) == 1 and parts[-1] not in SPLIT_WORDS else None
        return next((found[name] for name in wanted if name in found), alone)


def _is_yolo(tree: Tree, images: Images, texts: _Texts) -> bool:
    """Whether most of some labelled images have labels that read like YOLO's, and one is not empty."""
    labels = [label for path in images.paths if (label := texts.of(path)) is not None]
    good = bad = 0
    for label in labels[:: max(1, len(labels) // _PROBES)]:
        findings = Findings()
        try:
            rows = _rows(tree, label, True, findings)
        except DataError:
            continue
        good += len(rows) > 0
        bad += findings.count("bad object") > len(rows)
    return good > bad


def _rows(tree: Tree, label: str, pose: bool, findings: Findings) -> list[Row]:
    data = tree.read(label)
    if len(data) > _MAX_BYTES:
        raise DataError(label, f"has {len(data):,} bytes; labels of one image have at most {_MAX_BYTES:,}")
    rows: list[Row] = []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        try:
            index, *values = map(float, fields)
        except ValueError:
            findings.add("bad object", f"{label} line {number}: {line.strip()[:60]!r} are not numbers")
            continue
        outline = len(values) >= 6 and len(values) % 2 == 0 and not pose
        if index != int(index) if abs(index) < 1e9 else True:
            findings.add("bad object", f"{label} line {number}: {fields[0][:20]!r} is no class id")
        elif outline:
            rows.append((int(index), corners_of(values), number))
        elif len(values) in (4, 5) or (len(values) > 5 and pose):
            x, y, width, height = values[:4]
            rows.append((int(index), (x - width / 2, y - height / 2, x + width / 2, y + height / 2), number))
        else:
            findings.add("bad object", f"{label} line {number}: {len(fields)} numbers, class cx cy w h are expected")
    return rows


def _annotated(path: str, label: str | None, rows: Sequence[Row], names: dict[int, str]) -> Annotated:
    objects = [Drawn(names.get(index, f"id {index}"), box, line) for index, box, line in rows]
    return Annotated(path, objects, label or "", relative=True)


def _config(tree: Tree, explicit: str | None, notes: list[Finding]) -> tuple[str, Config]:
    """The data.yaml that names classes or splits, and what it says."""
    files = sorted((path for path in tree if path.lower().endswith((".yaml", ".yml"))), key=lambda p: (p.count("/"), p))
    for path in [explicit] if explicit in files else files[:_PROBES]:
        try:
            config = read_yaml(tree.read(path), path)
        except DataError as error:
            notes.append(Finding(f"{path} {error.message}", "data.yaml", "warning"))
            continue
        if "names" in config or any(key in config for key in ("train", "val")):
            return path, config
    return "", {}


def _names(tree: Tree, config: Config, notes: list[Finding]) -> dict[int, str]:
    """Class id -> name, as far as a file says."""
    given = config.get("names")
    if isinstance(given, list):
        names = dict(enumerate(given))
    elif isinstance(given, dict):
        names = {int(key): name for key, name in given.items() if key.isdigit() and len(key) < 9}
    else:
        files = [path for path in tree if path.rsplit("/", 1)[-1].lower() in _NAMES or path.lower().endswith(".names")]
        lines = tree.read(min(files, key=lambda p: (p.count("/"), p))).decode("utf-8-sig", "replace") if files else ""
        names = dict(enumerate(line.strip() for line in lines.strip().splitlines()))
    count = config.get("nc")
    if names and isinstance(count, str) and count.isdigit() and int(count) != len(names):
        notes.append(Finding(f"data.yaml says nc: {count} but names {len(names)} classes", "class names", "warning"))
    return names


def _numbered(names: dict[int, str], rows: dict[str, list[Row]], findings: Findings) -> dict[int, str]:
    """Names by the ids that labels use: all numbers where nothing is named; moved by one where ids begin at 1."""
    used = {index for found in rows.values() for index, _, _ in found}
    if not names:
        return {index: str(index) for index in range(min(max(used, default=-1) + 1, _MOST_CLASSES))}
    if used and min(used) == min(names) + 1 and max(used) == max(names) + 1:
        findings.add("ids off by one", f"labels use {min(used)} to {max(used)}, names are {min(names)} to {max(names)}")
        return {number + 1: name for number, name in names.items()}
    return names


def _splits(
    tree: Tree, images: Images, where: str, config: Config, findings: Findings, notes: list[Finding]
) -> dict[str, list[str]]:
    """The images of each split: as data.yaml says, else as lists at the top say, else by folders' names."""
    base = where.rpartition("/")[0]
    root = config.get("path", "")
    texts = [path for path in tree if path.lower().endswith(".txt")]
    lists: Config = {word: [path] for path in texts if (word := path.lower()[:-4]) in SPLIT_WORDS}
    splits: dict[str, list[str]] = {}
    for key, value in config.items() or lists.items():
        entries = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        for entry in entries if key in SPLIT_WORDS else ():
            if not entry:
                continue
            found = _entry(
                tree, images, [base, root if isinstance(root, str) else ""], entry, SPLIT_WORDS[key], findings
            )
            if found:
                splits.setdefault(SPLIT_WORDS[key], []).extend(found)
            else:
                notes.append(Finding(f"{where or entry}: {key} is {entry!r}, where no image lies", "split", "warning"))
    if not splits and config and lists:
        return _splits(tree, images, where, {}, findings, notes)
    if not splits:
        for path in images.paths:
            splits.setdefault(split_of(path) or "train", []).append(path)
    return {split: list(dict.fromkeys(chosen)) for split, chosen in splits.items()}


def _entry(tree: Tree, images: Images, bases: Sequence[str], entry: str, split: str, findings: Findings) -> list[str]:
    """The images of a folder or of a list of files, wherever it lies in the tree."""
    if entry.lower().endswith(".txt"):
        name = _suffix(plain_path(entry), [path for path in tree if path.lower().endswith(".txt")])
        if name is None:
            return []
        chosen = []
        for number, line in enumerate(tree.read(name).decode("utf-8-sig", "replace").splitlines(), 1):
            if line.strip():
                found = images.named(line, name, split)
                if found is None:
                    findings.add("missing image", f"{name} line {number}: {line.strip()[:100]}")
                else:
                    chosen.append(found)
        return chosen
    folders = {""}
    for path in images.paths:
        parts = path.split("/")[:-1]
        folders.update("/".join(parts[: count + 1]) for count in range(len(parts)))
    wanted = [plain_path("/".join([*bases, entry])), plain_path(f"{bases[0]}/{entry}"), plain_path(entry)]
    folder = next((name for name in wanted if name in folders), None) or _suffix(wanted[-1], sorted(folders))
    if folder is None:
        return []
    return [path for path in images.paths if not folder or path.startswith(folder + "/")]


def _suffix(wanted: str, paths: Sequence[str]) -> str | None:
    """The path that ends like ``wanted``, with as many of its folders as one of them has; the shortest of those."""
    parts = wanted.split("/")
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        found = [path for path in paths if path and (path == tail or path.endswith("/" + tail))]
        if found:
            return min(found, key=lambda path: (path.count("/"), path))
    return None
