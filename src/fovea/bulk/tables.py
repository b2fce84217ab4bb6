"""Rows of predictions as files: Parquet, CSV or JSON lines, written whole, and joined part by part."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.errors import ConfigError, MissingExtra
from fovea.graph.serialize import write_atomically

__all__ = ["FORMATS", "check_format", "columns_of", "join_parts", "row_of", "table_of", "write_part"]

FORMATS = (".parquet", ".csv", ".jsonl")
_ROW_GROUP = 50_000  # rows, at least, that a joined Parquet file keeps together
_KINDS: dict[str, dict[str, str]] = {
    "classification": {"label": "text", "probability": "number", "abstained": "truth", "top": "labels"},
    "regression": {"value": "number"},
}


def columns_of(task: str, values: int = 1) -> dict[str, str]:
    """The columns of a task's predictions by name: ``text``, ``number``, ``truth``, ``numbers``, ``labels`` (a list of
    label and probability), or ``json`` for tasks that have no table of their own. A row that has no prediction says why
    in ``error``."""
    own = _KINDS.get(task, {"prediction": "json"})
    if task == "regression" and values > 1:
        own = {"values": "numbers"}
    return {"path": "text", **own, "error": "text"}


def row_of(name: str, found: Mapping[str, Any] | str, columns: Mapping[str, str]) -> dict[str, Any]:
    """One row: ``found`` is a prediction's ``to_dict()``, or the reason why there is none."""
    row: dict[str, Any] = dict.fromkeys(columns)
    row["path"] = name
    if isinstance(found, str):
        row["error"] = found
    elif "prediction" in columns:
        row["prediction"] = json.dumps(found, ensure_ascii=False)
    else:
        row.update({column: found[column] for column in columns if column in found})
    return row


def check_format(path: Path) -> None:
    """Raise ConfigError for a name that says no format, MissingExtra where Parquet needs its library."""
    if path.suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise ConfigError("--out", f"expected a file that ends in {known}, got {path.name!r}; results.parquet, say")
    if path.suffix == ".parquet":
        _arrow()


def write_part(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Write rows to a file, whole or not at all."""
    if path.suffix == ".parquet":
        table = table_of(rows, columns)
        write_atomically(path, lambda target: _arrow()[1].write_table(table, target))
    else:
        write_atomically(path, lambda target: _write_text(target, path.suffix, rows, columns))


def table_of(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Any:
    """Rows as a table of Arrow."""
    pa, _ = _arrow()
    clean = [{**row, "path": _utf8(row["path"])} for row in rows]
    return pa.Table.from_pylist(clean, schema=_schema(columns))


def _utf8(name: str) -> str:
    """A name with question marks for bytes that are not UTF-8, which Parquet does not take."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _write_text(target: Path, suffix: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    with open(target, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        if suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: Any) -> Any:
    """A value of a CSV: lists as JSON, truth as true and false, nothing as nothing."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, bool)) else value


def join_parts(path: Path, parts: Sequence[Path], columns: Mapping[str, str]) -> None:
    """One file of all parts, in bounded memory, whole or not at all."""
    if path.suffix == ".parquet":
        write_atomically(path, lambda target: _join_parquet(target, parts, columns))
    else:
        write_atomically(path, lambda target: _join_text(target, parts, path.suffix == ".csv", columns))


def _join_parquet(target: Path, parts: Sequence[Path], columns: Mapping[str, str]) -> None:
    pa, pq = _arrow()
    with pq.ParquetWriter(target, _schema(columns)) as writer:
        for tables in _grouped(pq.read_table(part) for part in parts):
            writer.write_table(pa.concat_tables(tables))


def _grouped(tables: Iterator[Any]) -> Iterator[list[Any]]:
    held: list[Any] = []
    for table in tables:
        held.append(table)
        if sum(len(one) for one in held) >= _ROW_GROUP:
            yield held
            held = []
    if held:
        yield held


def _join_text(target: Path, parts: Sequence[Path], header: bool, columns: Mapping[str, str]) -> None:
    with open(target, "wb") as joined:
        if header:
            joined.write((",".join(columns) + "\n").encode())
        for part in parts:
            with open(part, "rb") as file:
                if header:
                    file.readline()
                shutil.copyfileobj(file, joined)


def _schema(columns: Mapping[str, str]) -> Any:
    pa, _ = _arrow()
    labels = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))
    types = {
        "text": pa.string(), "json": pa.string(), "number": pa.float64(), "truth": pa.bool_(),
        "numbers": pa.list_(pa.float64()), "labels": labels,
    }  # fmt: skip
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("--out", "bulk", "writing Parquet") from None
    return pyarrow, pyarrow.parquet
