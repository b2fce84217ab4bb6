"""What a training writes into its run folder."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fovea.errors import ConfigError
from fovea.graph.serialize import write_atomically
from fovea.run import LOG_FILE, Run

__all__ = ["Log", "as_json", "new_folder", "write_json"]


def new_folder(out: str | os.PathLike[str] | None, name: str) -> Path:
    """The folder of a new run: ``out``, or ``runs/NAME-date`` with a number when that exists.

    Raises ConfigError when ``out`` holds a run already or is no folder.
    """
    if out is None:
        stem = Path("runs") / f"{name or 'model'}-{time.strftime('%Y%m%d-%H%M%S')}"
        path, count = stem, 1
        while path.exists():
            count += 1
            path = stem.with_name(f"{stem.name}-{count}")
    else:
        path = Path(out)
        if Run.is_run(path):
            raise ConfigError(
                str(path), "expected a folder without a run, got one that holds a run; resume it or choose another name"
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(str(path), f"expected a folder to write to, got: {error.strerror}; choose another") from None
    return path


def as_json(where: str, value: Mapping[str, Any]) -> str:
    """The text of a JSON file for people and programs. Raises ConfigError for what JSON has no word for."""
    try:
        return json.dumps(value, indent=2) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(where, f"expected values that JSON can hold, got: {error}; give numbers and texts") from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Such a file, written atomically. Raises ConfigError when the disk does not take it."""
    text = as_json(str(path), value)

    def fill(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    try:
        write_atomically(path, fill)
    except OSError as error:
        raise ConfigError(str(path), f"expected to write the file, got: {error.strerror}; free space") from None


class Log:
    """``log.jsonl``: one JSON object a line. ``length`` bytes are safely on disk after ``sync``."""

    def __init__(self, folder: Path, length: int = 0) -> None:
        """Open the log and drop what follows ``length``: lines that a checkpoint does not know would come twice."""
        self._path = folder / LOG_FILE
        try:
            self._file = open(self._path, "ab")  # noqa: SIM115 - open as long as the training runs
            self._file.truncate(min(length, os.path.getsize(self._path)))
        except OSError as error:
            raise self._failed(error) from None

    def write(self, event: str, **values: Any) -> dict[str, Any]:
        """Append one line and return it."""
        # JSON has no infinity and no nan
        broken = {name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)}
        line = {"event": event, **{name: None if name in broken else value for name, value in values.items()}}
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from None
        return line

    def sync(self) -> int:
        """Bring every line to the disk; returns the length in bytes."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            return os.path.getsize(self._path)
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _failed(self, error: OSError) -> ConfigError:
        return ConfigError(
            str(self._path), f"expected to write the log, got: {error.strerror}; free space, then resume"
        )
