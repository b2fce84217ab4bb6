"""A CSV of path,label (classification) or path,value (regression), with an optional split column.

Columns are found by their header: ``path``, ``file``, ``filename`` or ``image``; ``label``, ``class`` or ``category``;
``value``, ``target`` or ``y``; ``split``. Without a header the first column is the path, the second the label. Paths
are relative to the CSV. ``train.csv``, ``val.csv`` and ``test.csv`` side by side are the splits.
"""

from __future__ import annotations

import csv
import io

from fovea.data.layouts.base import Found, Labels, Options, as_values, split_word
from fovea.data.layouts.folders import kind_of_files
from fovea.data.source import FileSource
from fovea.data.split import SPLIT_WORDS
from fovea.data.tree import FolderTree, Tree
from fovea.errors import DataError

__all__ = ["find"]

_PATH = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img")
_LABEL = ("label", "class", "category", "class_name", "label_name")
_VALUE = ("value", "target", "y")
_SPLIT = ("split", "set", "subset")

Row = tuple[str, str, str, int]  # path, label, split, line


def find(tree: Tree, options: Options) -> Found | None:
    """The rows of the tables at the top, or None."""
    tables = [path for path in tree if path.lower().endswith(".csv") and "/" not in path]
    if not tables:
        return None
    rows: list[Row] = []
    value_column = False
    for table in tables:
        read = _read(
            tree, table, options.explicit is not None, default_split=split_word(table[:-4]) if len(tables) > 1 else None
        )
        if read is None:
            return None
        rows += read[0]
        value_column |= read[1]
    if not rows:
        raise DataError(tables[0], "has no rows")
    task = options.task or _task(rows, value_column)
    kind = kind_of_files(tree, [row[0] for row in rows], options.kind)
    parts = {}
    for split in ("train", "val", "test"):
        chosen = [row for row in rows if row[2] == split]
        if chosen:
            source = FileSource(tree, kind, [(path,) for path, _, _, _ in chosen])
            parts[split] = (source, _labels(chosen, task, tables[0]))
    return Found(kind, task, dict(parts))


def _read(tree: Tree, table: str, explicit: bool, default_split: str | None) -> tuple[list[Row], bool] | None:
    """Rows of one table, and whether they hold values; None when it is some other table and nobody asked for it."""
    try:
        lines = list(csv.reader(io.StringIO(tree.read(table).decode("utf-8-sig"), newline="")))
    except UnicodeDecodeError as error:
        raise DataError(table, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(table, f"is not a CSV that can be read: {error}") from None
    if not lines:
        raise DataError(table, "is empty")
    header = [cell.strip().lower() for cell in lines[0]]
    path = _column(header, _PATH)
    label, value, split = _column(header, _LABEL), _column(header, _VALUE), _column(header, _SPLIT)
    if path is not None and (label is not None or value is not None):
        target = label if label is not None else value
        first = 1
    elif len(lines[0]) >= 2 and _exists(tree, lines[0][0].strip()):
        path, target, split, first = (
            0,
            1,
            2 if len(lines[0]) > 2 and lines[0][2].strip().lower() in SPLIT_WORDS else None,
            0,
        )
    elif explicit:
        raise DataError(
            table,
            f"needs columns path,label or path,value (and may have split); it begins with {', '.join(lines[0][:5])!r}",
        )
    else:
        return None
    rows = []
    for number, cells in enumerate(lines[first:], first + 1):
        if not any(cell.strip() for cell in cells):
            continue
        rows.append(_row(cells, path, target or 0, split, f"{table} line {number}", default_split or "train", number))
    return rows, label is None and value is not None


def _row(
    cells: list[str], path: int, target: int, split: int | None, where: str, default_split: str, number: int
) -> Row:
    if len(cells) <= max(path, target, split or 0):
        raise DataError(where, f"has {len(cells)} columns, {max(path, target, split or 0) + 1} are expected")
    name, label = cells[path].strip().replace("\\", "/"), cells[target].strip()
    if not name or not label:
        raise DataError(where, "has no path" if not name else "has no label")
    part = default_split
    if split is not None:
        word = cells[split].strip().lower()
        if word not in SPLIT_WORDS:
            raise DataError(where, f"has the split {word!r}; train, val and test are known")
        part = SPLIT_WORDS[word]
    return name, label, part, number


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _exists(tree: Tree, path: str) -> bool:
    return bool(path) and (path in tree or (isinstance(tree, FolderTree) and (tree.root / path).is_file()))


def _task(rows: list[Row], value_column: bool) -> str:
    """Values when the column says so, or when every label is a number and one of them is not whole."""
    if value_column:
        return "regression"
    values = as_values([row[1] for row in rows])
    return (
        "regression"
        if values is not None and any("." in row[1] or "e" in row[1].lower() for row in rows)
        else "classification"
    )


def _labels(rows: list[Row], task: str, table: str) -> Labels:
    if task == "classification":
        return [row[1] for row in rows]
    values = as_values([row[1] for row in rows])
    if values is None:
        bad = next(row for row in rows if as_values([row[1]]) is None)
        raise DataError(f"{table} line {bad[3]}", f"has the value {bad[1]!r}, a finite number is expected")
    return values
