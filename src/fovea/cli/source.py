"""The options that say how DATA is to be read; the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli.arguments import sizes

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset

__all__ = [
    "DataName",
    "Kind",
    "LabelPattern",
    "Length",
    "MaxBad",
    "Size",
    "TaskName",
    "TestWhere",
    "data_options",
    "open_data",
    "record",
]

_WHAT = "Folder, archive, CSV, IDX, CIFAR or npz files, boxes (VOC, COCO, YOLO), shards, or a name (digits, mnist)."
DataName = typer.Argument(metavar="DATA", help=_WHAT, show_default=False)
Size = Annotated[str | None, typer.Option(metavar="N|H,W", help="Size to which images, clips or volumes are brought.")]
Length = Annotated[int | None, typer.Option(help="Samples of a signal or frames of a clip; others are cut or padded.")]
LabelPattern = Annotated[
    str | None, typer.Option(metavar="PATTERN", help="Labels from file names: '{label}_{speaker}_{take}.wav'.")
]
TestWhere = Annotated[
    str | None, typer.Option(metavar="RULE", help="Which files are the test, by a field of the pattern: 'take<5'.")
]
Kind = Annotated[str | None, typer.Option(help="image, signal, volume or clip (default: found from the files).")]
TaskName = Annotated[
    str | None, typer.Option("--task", help="classification, regression or detection (default: found from the labels).")
]
MaxBad = Annotated[float | None, typer.Option(help="Largest share of unreadable files that is tolerated (0.05).")]


def data_options(**given: Any) -> dict[str, Any]:
    """The options of fovea.dataset that were given; ``size`` still as the text of the command line."""
    if isinstance(given.get("size"), str):
        found = sizes(given["size"], "--size") or ()
        given["size"] = found[0] if len(found) == 1 else found
    return {name: value for name, value in given.items() if value is not None}


def open_data(path: str, options: dict[str, Any], stream: bool = False) -> Dataset:
    """``fovea.dataset`` of a path or name; ``stream``: the training split of shards is not read into memory. Raises
    DataError."""
    import fovea

    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    data: Dataset = fovea.dataset(path, stream=stream, **options)
    return data


def record(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a run keeps about its data: `--resume`, `evaluate` and the report find them again from any folder."""
    return {"data": str(Path(path).resolve()) if Path(path).exists() else path, "options": options}
