"""``fovea import``: a network of another system becomes a model file of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fovea.cli import foreign
from fovea.cli.arguments import shape

__all__ = ["import_"]


def import_(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="An ONNX file (.onnx); weights of PyTorch (.pth), Keras (.keras, .h5) or safetensors; or torchvision.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the model.")],
    network: foreign.Network = None,
    option: foreign.Option = None,
    input_shape: foreign.InputShape = None,
    preprocess: foreign.Preprocess = None,
    size: foreign.Size = None,
    resize: foreign.Resize = None,
    mean: foreign.Mean = None,
    std: foreign.Std = None,
    scale: foreign.Scale = None,
    bgr: foreign.Bgr = False,
    labels: foreign.Labels = None,
) -> None:
    """Convert a network of another system into a model file.

    What the file cannot say, how images become input and what the classes are called, is said by the options. A file of
    weights says nothing about its network either: --network names it, unless its layers have names that are known.
    """
    model, notes = foreign.imported(file, network, option or [], shape(input_shape))
    model.preprocessing = foreign.with_preprocessing(model, preprocess, size, resize, mean, std, scale, bgr)
    model.classes = foreign.named(model, labels)
    model.save(out)
    typer.echo(f"wrote {out}: {model!r}")
    for note in notes:
        typer.echo(note)
    if model.preprocessing is None:
        typer.echo("note: the file does not say how images become input; see --preprocess, --size, --mean, --std")
