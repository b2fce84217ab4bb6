"""``fovea data check``: what is wrong with a data set, before a training run finds out.

Looks for files that cannot be read, duplicates within and across splits (exact and near), class imbalance, extreme
sizes and label problems. The result is a table for people and a dictionary for programs.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fovea.data.boxes import is_box
from fovea.data.check_boxes import box_facts, box_problems, note_problems
from fovea.data.dataset import Dataset, Split
from fovea.data.duplicates import exact_groups, near_pairs
from fovea.data.load import dataset as open_dataset
from fovea.data.problems import Problem, problem
from fovea.data.source import FileSource
from fovea.errors import DataError

__all__ = ["DataReport", "Problem", "check", "class_doubts"]

_IMBALANCE = 5.0  # largest class over smallest
_FEW = 5  # samples of a class
_ASPECT = 3.0  # longer side over shorter
_ENLARGED = 2.0  # how much a small image has to be blown up


@dataclass(frozen=True)
class DataReport:
    """What :func:`check` found. ``ok``: no error among the problems."""

    name: str
    kind: str
    task: str
    input_shape: tuple[int, ...]
    splits: dict[str, int]
    class_counts: dict[str, dict[str, int]]  # split -> class -> samples, or objects of detection
    sizes: dict[str, Any]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing was found that makes results wrong."""
        return not any(problem.severity == "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        record = asdict(self)
        record["ok"] = self.ok
        record["input_shape"] = list(self.input_shape)
        record["problems"] = [{**asdict(problem), "examples": list(problem.examples)} for problem in self.problems]
        return record

    def text(self) -> str:
        """The table for people."""
        shape = "x".join(str(side) for side in self.input_shape)
        lines = [f"{self.name}: {self.kind} {self.task}, decoded to {shape}", ""]
        names = list(self.splits)
        width = max([12, *(len(name) for counts in self.class_counts.values() for name in counts)])
        width = min(width, 40)
        lines.append(f"{'':{width}}" + "".join(f"{name:>9}" for name in names))
        classes = list(next(iter(self.class_counts.values()), {}))
        for label in classes[:50]:
            row = "".join(f"{self.class_counts[name][label]:>9}" for name in names)
            lines.append(f"{label[:width]:{width}}{row}")
        if len(classes) > 50:
            lines.append(f"... and {len(classes) - 50} more classes")
        if self.task == "detection":
            totals = (sum(self.class_counts[name].values()) for name in names)
            lines.append(f"{'objects':{width}}" + "".join(f"{total:>9}" for total in totals))
        last = "images" if self.task == "detection" else "samples"
        lines.append(f"{last:{width}}" + "".join(f"{self.splits[name]:>9}" for name in names))
        lines.append("")
        if not self.problems:
            lines.append("no problems found")
        for found in self.problems:
            lines.append(f"{found.severity:8}{found.name}: {found.message}")
            lines.extend(f"          {example}" for example in found.examples[:5])
            if found.count > 5 and len(found.examples) > 5:
                lines.append(f"          ... {found.count - 5} more")
        return "\n".join(lines)


def check(data: Dataset | str | os.PathLike[str], **options: Any) -> DataReport:
    """Check a Dataset, or open a path with the options of ``fovea.dataset`` and check that. Decodes every split.

    >>> print(check("photos/").text())  # doctest: +SKIP
    """
    if not isinstance(data, Dataset):
        data = open_dataset(data, **options)
    data = data.tolerant()
    splits = list(data.splits.values())
    sizes_of_splits = {split.name: len(split) for split in splits}  # decodes, which finds the unreadable files
    problems = [*_corrupt(splits), *_label_problems(data), *_duplicates(data, splits)]
    sizes, size_problems = _sizes(data, splits)
    problems += size_problems
    problems += note_problems(data)
    if data.task == "detection":
        problems += box_problems(data)
        sizes = {**sizes, **box_facts(data)}
    rank = {"error": 0, "warning": 1, "info": 2}
    problems.sort(key=lambda problem: rank[problem.severity])
    counts = {}
    if data.task != "regression":
        counts = {split.name: dict(zip(data.classes, split.class_counts().tolist(), strict=True)) for split in splits}
    return DataReport(
        data.name, data.kind, data.task, data.input_shape, sizes_of_splits, counts, sizes,
        tuple(problems),
    )  # fmt: skip


def _corrupt(splits: list[Split]) -> list[Problem]:
    bad = [f"{item.split}: {item.path} {item.reason}" for split in splits for item in split.quarantined]
    total = sum(split.listed for split in splits)
    share = f"{len(bad)} of {total} files cannot be read and are left out"
    return problem("unreadable", "error" if len(bad) > 0.05 * total else "warning", share, bad)


def _label_problems(data: Dataset) -> list[Problem]:
    if data.task == "regression":
        values = data.split(next(iter(data.splits))).targets
        if len(values) > 1 and float(values.min()) == float(values.max()):
            return [Problem("labels", "error", f"every target is {float(values[0, 0]):g}; there is nothing to learn")]
        return []
    counts = {name: split.class_counts() for name, split in data.splits.items()}
    what = "objects" if data.task == "detection" else "samples"
    problems: list[Problem] = []
    train = counts.get("train")
    if train is not None:
        unseen = [data.classes[index] for index in np.flatnonzero(train == 0)]
        problems += problem("empty class", "error", f"{len(unseen)} classes have no training {what}", unseen)
        few = [f"{data.classes[index]}: {train[index]}" for index in np.flatnonzero((train > 0) & (train < _FEW))]
        problems += problem("small class", "warning", f"{len(few)} classes have fewer than {_FEW} training {what}", few)
        present = train[train > 0]
        if len(present) > 1 and present.max() > _IMBALANCE * present.min():
            most, least = (
                data.classes[int(train.argmax())],
                data.classes[int(np.where(train > 0, train, train.max() + 1).argmin())],
            )
            message = (
                f"class {most!r} has {present.max()} training {what}, {least!r} {present.min()}"
                f" ({present.max() / present.min():.1f} times as many)"
                + ("" if data.task == "detection" else "; class weights help")
            )
            problems.append(Problem("imbalance", "warning", message))
        for name, other in counts.items():
            missing = (
                [data.classes[index] for index in np.flatnonzero((train > 0) & (other == 0))] if name != "train" else []
            )
            problems += problem("missing class", "warning", f"{len(missing)} classes have no {what} in {name}", missing)
    if len(data.classes) == 1 and data.task != "detection":
        problems.append(Problem("labels", "error", f"there is one class only, {data.classes[0]!r}"))
    problems += problem("class names", "warning", "some class names differ by case, space or hyphen only", _alike(data))
    return problems


def _alike(data: Dataset) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in data.classes:
        alike["".join(label.casefold().replace("_", " ").replace("-", " ").split())].append(label)
    return [" / ".join(map(repr, group)) for group in alike.values() if len(group) > 1]


def class_doubts(data: Dataset) -> list[str]:
    """What makes the result of a training meaningless and can be told from the labels alone; decodes nothing."""
    doubts = (
        [f"class names that differ by case, space or hyphen only: {', '.join(pairs)}"]
        if (pairs := _alike(data))
        else []
    )
    if data.task != "classification":
        return doubts
    if len(data.classes) == 1:
        doubts.append(f"there is one class only, {data.classes[0]!r}: nothing to learn")
    train = data.train
    counts = (
        np.bincount(train.listed_targets, minlength=len(data.classes)) if type(train) is Split else train.class_counts()
    )
    unseen = [repr(data.classes[index]) for index in np.flatnonzero(counts == 0)]
    if unseen:
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        doubts.append(
            f"no training samples of {', '.join(unseen[:5])}{more}: it cannot be learnt; see fovea data check"
        )
    return doubts


def _duplicates(data: Dataset, splits: list[Split]) -> list[Problem]:
    ids = [f"{split.name}: {name}" for split in splits for name in split.ids]
    names = [split.name for split in splits for _ in range(len(split))]
    targets = [target for split in splits for target in _comparable(split)]
    digests = [digest for split in splits for digest in split.digests()]
    groups = exact_groups(digests)
    within = [" = ".join(ids[row] for row in group) for group in groups if len({names[row] for row in group}) == 1]
    across = [" = ".join(ids[row] for row in group[:6]) for group in groups if len({names[row] for row in group}) > 1]
    clash = [" = ".join(ids[row] for row in group[:6]) for group in groups if len({targets[row] for row in group}) > 1]
    problems = problem("leak", "error", f"{len(across)} samples lie in more than one split", across)
    problems += problem("conflict", "error", f"{len(clash)} samples have copies with another target", clash)
    problems += problem("duplicates", "warning", f"{len(within)} samples have exact copies in their split", within)
    if data.kind != "image":
        return problems
    same = {row: digests[row] for group in groups for row in group}
    pairs = [
        (a, b) for a, b in near_pairs([split.inputs for split in splits]).tolist() if same.get(a, a) != same.get(b, b)
    ]
    near = [f"{ids[a]} ~ {ids[b]}" for a, b in pairs if names[a] == names[b]]
    leaks = [f"{ids[a]} ~ {ids[b]}" for a, b in pairs if names[a] != names[b]]
    problems += problem("near leak", "warning", f"{len(leaks)} pairs of images look the same across splits", leaks)
    problems += problem("near duplicates", "info", f"{len(near)} pairs of images look the same within a split", near)
    return problems


def _comparable(split: Split) -> list[Any]:
    """A target of each sample that equals another's only when both are the same."""
    if split.task == "detection":
        rows = split.listed_targets[split.readable]
        return [image[np.lexsort(image.T)][is_box(image[np.lexsort(image.T)])].tobytes() for image in rows]
    return list(split.targets.reshape(-1).tolist())


def _sizes(data: Dataset, splits: list[Split]) -> tuple[dict[str, Any], list[Problem]]:
    """Original sizes of image files, and those that will suffer from being brought to one size."""
    if data.kind != "image" or not any(isinstance(split.source, FileSource) for split in splits):
        return {}, []
    shapes: list[tuple[int, int]] = []
    ids: list[str] = []
    for split in splits:
        for name, row in zip(split.ids, split.rows.tolist(), strict=True):
            try:
                height, width = split.source.shape(row).shape[-2:]
            except DataError:
                continue
            shapes.append((height, width))
            ids.append(f"{split.name}: {name} {height}x{width}")
    if not shapes:
        return {}, []
    sides = np.array(shapes)
    short, long = sides.min(axis=1), sides.max(axis=1)
    target = max(data.input_shape[:2])
    thin = [ids[row] for row in np.flatnonzero(long > _ASPECT * short)]
    small = [ids[row] for row in np.flatnonzero(short * _ENLARGED < target)]
    problems = problem("aspect", "warning", f"{len(thin)} images are over {_ASPECT:g} times as long as wide", thin)
    problems += problem("small images", "warning", f"{len(small)} images are enlarged over {_ENLARGED:g} times", small)
    summary = {
        "height": {"min": int(sides[:, 0].min()), "median": int(np.median(sides[:, 0])), "max": int(sides[:, 0].max())},
        "width": {"min": int(sides[:, 1].min()), "median": int(np.median(sides[:, 1])), "max": int(sides[:, 1].max())},
    }
    return summary, problems
