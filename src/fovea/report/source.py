"""The data of a run, opened again from what the run recorded about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fovea.errors import DataError

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.run import Run

__all__ = ["reopen"]


def reopen(run: Run) -> Dataset:
    """The data set that the run was trained on. Raises DataError when the run does not say how, or it is not there."""
    from fovea.data.load import dataset

    record = run.config.get("record") or {}
    path = record.get("data")
    if not isinstance(path, str):
        raise DataError(
            str(run.path),
            "expected a run that says where its data lie, got one trained from arrays in Python; give DATA",
        )
    own = record.get("options") or {}
    options: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    return dataset(path, **options)
