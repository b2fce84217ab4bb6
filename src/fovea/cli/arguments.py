"""What several commands read from their words: shapes, threads, a MODEL, sample files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fovea.model import Model

__all__ = [
    "MODEL",
    "Device",
    "MinConfidence",
    "Precision",
    "Tta",
    "load_model",
    "sample_files",
    "set_threads",
    "shape",
    "sizes",
]

MODEL = "A model file, a run folder, or NETWORK:WEIGHTS such as resnet20:cifar10."
"""What a command says of its MODEL."""
Device = Annotated[str | None, typer.Option(help="cuda or cuda:1: compute on that GPU, with PyTorch.")]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32, or bf16: activations stored as bfloat16 (native engine). Default: the model's own."),
]

Tta = Annotated[
    str | None,
    typer.Option(
        "--tta", metavar="flip|five-crop|ten-crop", help="Average over so many views: 2, 5 or 10 times the work."
    ),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(metavar="P", help="Answer only from this probability on, else 'unsure'. Default: the model's own."),
]

_SUFFIXES = {"signal": (".wav", ".npy"), "volume": (".npy",), "clip": (".gif", ".npy")}


def sizes(text: str | None, option: str) -> tuple[int, ...] | None:
    """``"96"`` or ``"96,128"`` as integers of at least 1. Raises ConfigError."""
    if text is None:
        return None
    try:
        found = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ConfigError(
            option, f"expected positive integers such as 96 or 96,128, got {text!r}; separate them by commas"
        )
    return found


def shape(text: str | None) -> tuple[int | None, ...] | None:
    """``"32,32,3"`` as one input's shape, channels last; ``?`` leaves a size open. Raises ConfigError."""
    if text is None:
        return None
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if len(parts) < 2 or not all(part == "?" or (part.isdecimal() and int(part) > 0) for part in parts):
        raise ConfigError(
            "--input-shape",
            f"expected sizes and channels such as 32,32,3 (or ?,?,3 for open sizes), got {text!r}; channels come last",
        )
    return tuple(None if part == "?" else int(part) for part in parts)


def set_threads(threads: int | None) -> None:
    """Use that many threads in the native engine; None keeps one for each core."""
    if threads is None:
        return
    if threads < 1:
        raise ConfigError("--threads", f"expected at least 1, got {threads}; leave it out to use every core")
    import fovea

    fovea.set_threads(threads)


def load_model(model: str) -> Model:
    """The model of a model file or run folder. Raises ModelFileError."""
    import fovea

    loaded: Model = fovea.load(model)
    return loaded


def sample_files(paths: Sequence[str], kind: str) -> list[Path]:
    """The files to predict: those named, and of a folder all whose suffix fits the kind. Raises DataError.

    A clip may be a folder of frames: a folder without GIFs or arrays is taken as one.
    """
    from fovea.data.decode import IMAGE_SUFFIXES

    suffixes = IMAGE_SUFFIXES if kind == "image" else _SUFFIXES[kind]
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(item for item in path.rglob("*") if item.suffix.lower() in suffixes and item.is_file())
        if not inside and kind == "clip":
            frames = sorted({item.parent for item in path.rglob("*") if item.suffix.lower() in IMAGE_SUFFIXES})
            inside = frames
        if not inside:
            raise DataError(
                name, f"expected {kind} files ({', '.join(suffixes)}), found none in this folder; check the path"
            )
        found += inside
    return found
