"""A folder that is there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fovea.errors import DataError

__all__ = ["check_new", "written_whole"]


def check_new(out: str | os.PathLike[str]) -> Path:
    """The path of a folder that is not there yet, or is empty. Raises DataError for another one."""
    target = Path(out).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(str(target), "expected a new folder, got one that holds something; choose another")
    return target


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` to write into, which takes its place when all is written and vanishes after an
    error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.mkdir()
    except OSError as error:
        error.filename = str(target)  # the name that the user knows
        raise
    try:
        yield temporary
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
