"""What commands print: results on stdout (a table or JSON, nothing else), words for people on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

__all__ = ["columns", "duration", "print_json"]


def print_json(value: Any) -> None:
    """The value as JSON on stdout. JSON knows no infinity and no NaN: they become null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=_plain))


def columns(head: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> str:
    """An aligned table; the first `left` columns are text, the others numbers."""
    table = [[str(cell) for cell in head], *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def duration(seconds: float) -> str:
    """A duration as a person says it."""
    from fovea.progress import seconds_as_text

    return seconds_as_text(seconds)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    return _finite(value.tolist()) if hasattr(value, "tolist") else str(value)
