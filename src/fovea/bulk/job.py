"""One output file in the making: parts, each whole, beside a record of what they are parts of."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fovea.bulk.tables import join_parts, write_part
from fovea.errors import DataError
from fovea.graph.serialize import remove_leftovers, write_atomically

__all__ = ["Counts", "Job", "share_name"]

_PARTS, _RECORD = ".parts", "job.json"


@dataclass
class Counts:
    """What is done: parts, rows, how many of these are unreadable, and the name of the last one."""

    parts: int = 0
    rows: int = 0
    unreadable: int = 0
    last: str = ""


def share_name(out: Path, share: tuple[int, int]) -> Path:
    """Where a share writes: ``results.parquet`` alone, ``results-00001-of-00004.parquet`` among four."""
    own, all_shares = share
    return out if all_shares == 1 else out.with_name(f"{out.stem}-{own:05d}-of-{all_shares:05d}{out.suffix}")


class Job:
    """``out`` when it is done, with ``out.json`` beside it; until then the folder ``out.parts``.

    Raises DataError when ``out`` belongs to something else than ``facts``: other files, weights or options.
    """

    def __init__(self, out: Path, facts: Mapping[str, Any], columns: Mapping[str, str]) -> None:
        self.out, self.facts, self.columns = out, dict(facts), columns
        self.folder = out.with_name(out.name + _PARTS)
        self.counts, self.done = Counts(), False
        finished = self._read(self._summary) if out.exists() else None
        begun = self._read(self.folder / _RECORD)
        if out.exists() and finished is None and begun is None:
            raise DataError(str(out), "is there already, and was not written by this command; choose another --out")
        known = finished or begun
        if known is not None:
            self._adopt(known)
        self.done = finished is not None
        for part in self.folder.glob("part-*") if self.folder.is_dir() else ():
            remove_leftovers(part)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one more part, then note that it is there."""
        write_part(self._part(self.counts.parts), rows, self.columns)
        counts = self.counts
        counts.parts, counts.rows, counts.last = counts.parts + 1, counts.rows + len(rows), rows[-1]["path"]
        counts.unreadable += sum(row["error"] is not None for row in rows)
        self._write(self.folder / _RECORD)

    def finish(self) -> None:
        """Join the parts to one file."""
        join_parts(self.out, [self._part(number) for number in range(self.counts.parts)], self.columns)
        self._write(self._summary)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)
        self.done = True

    @property
    def _summary(self) -> Path:
        return self.out.with_name(self.out.name + ".json")

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}{self.out.suffix}"

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
            return found if isinstance(found["job"], dict) and isinstance(found["counts"], dict) else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(
                str(path), "is damaged; remove it and what it belongs to, or choose another --out"
            ) from None

    def _adopt(self, known: Mapping[str, Any]) -> None:
        before = known["job"]
        other = sorted(name for name in {*before, *self.facts} if before.get(name) != self.facts.get(name))
        if other:
            words = ", ".join(f"{name} {_short(before.get(name))}" for name in other)
            raise DataError(
                str(self.out), f"was begun with other settings: {words}; repeat them, or choose another --out"
            )
        self.counts = Counts(**known["counts"])

    def _write(self, path: Path) -> None:
        content = json.dumps({"job": self.facts, "counts": asdict(self.counts)}, indent=1)
        write_atomically(path, lambda target: _fill(target, content))


def _fill(target: Path, content: str) -> None:
    target.write_text(content + "\n", encoding="utf-8")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
