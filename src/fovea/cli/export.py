"""``fovea export``: a model for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fovea.cli.arguments import load_model
from fovea.errors import ConfigError

__all__ = ["export"]


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file or a run folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write: a file that ends in .onnx.")],
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="The file takes uint8 images N,H,W,C of any size, and gives probabilities: preprocessing is inside.",
        ),
    ] = False,
) -> None:
    """Write a model as ONNX, which onnxruntime and others run.

    Without --images the file takes float32 network input N,C,H,W and gives what the network gives.
    """
    from fovea.interop.load import export_file

    if out.suffix.lower() != ".onnx":
        raise ConfigError("--out", f"expected a file that ends in .onnx, got {out}; name one")
    loaded = load_model(model)
    export_file(loaded, out, images)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
