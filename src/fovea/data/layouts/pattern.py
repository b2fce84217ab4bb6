"""Files with labels in their names: ``label_pattern='{label}_{speaker}_{take}.wav'``, split by rules on the fields."""

from __future__ import annotations

from fovea.data.layouts.base import Found, Labels, Options, as_values
from fovea.data.layouts.folders import kind_of_files, wanted_files
from fovea.data.source import FileSource
from fovea.data.split import Pattern, Rule
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["find"]


def find(tree: Tree, options: Options) -> Found | None:
    """Files whose names fit the pattern, or None when none was given."""
    if options.label_pattern is None:
        if options.test_where or options.val_where:
            raise DataError("split rule", "test_where and val_where compare fields of label_pattern; give one")
        return None
    pattern = Pattern(options.label_pattern)
    files, ignored = wanted_files(tree, options)
    rules = [(split, Rule(text)) for split, text in (("test", options.test_where), ("val", options.val_where)) if text]
    splits: dict[str, list[tuple[str, str]]] = {"train": [], "val": [], "test": []}
    name = "label" if "label" in pattern.fields else "value"
    unmatched = []
    for path in files:
        fields = pattern.match(path)
        if fields is None:
            unmatched.append(path)
            continue
        split = next((split for split, rule in rules if rule(fields)), "train")
        splits[split].append((path, fields[name]))
    if not any(splits.values()):
        example = f"; the first name is {files[0]!r}" if files else ""
        raise DataError(tree.name, f"none of {len(files)} files fits the label pattern {pattern.text!r}{example}")
    for split, rule in rules:
        if not splits[split]:
            raise DataError("split rule", f"{rule.text!r} leaves no sample for {split}")
    kind = kind_of_files(tree, files, options.kind)
    notes = [f"{ignored} files of other types are ignored"] if ignored else []
    if unmatched:
        notes.append(f"{len(unmatched)} files do not fit the label pattern, such as {unmatched[0]!r}")
    parts: dict[str, tuple[FileSource, Labels]] = {}
    for split, items in splits.items():
        if not items:
            continue
        labels: Labels = [label for _, label in items]
        if name == "value":
            values = as_values([label for _, label in items])
            if values is None:
                raise DataError("label pattern", f"{pattern.text!r}: {{value}} is not a number in every file name")
            labels = values
        parts[split] = (FileSource(tree, kind, [(path,) for path, _ in items]), labels)
    return Found(kind, "regression" if name == "value" else "classification", dict(parts), notes=notes)
