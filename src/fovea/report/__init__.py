"""The report of a run: one HTML file with everything inside, to read, to keep and to send."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from fovea.data.dataset import Dataset
    from fovea.run import Run

__all__ = ["write"]


def write(run: Run, data: Dataset | None = None) -> Path:
    """Write ``report.html`` into the run folder, atomically, and return its path.

    ``data``: what the run was trained on (its test split is not read); None opens it again as the run recorded it.
    Where that fails, the sections that show samples say so and the rest is complete. Works for unfinished runs too.
    """
    from fovea.report.build import build

    return build(run, data)
