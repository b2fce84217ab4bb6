"""``fovea export``: a model for other runtimes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.cli.arguments import MODEL, MinConfidence, load_model, shape
from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.model import Model
    from fovea.ops.base import Shape

__all__ = ["export"]


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Where to write: a file that ends in .onnx, or .safetensors for a model file."
        ),
    ],
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="The file takes uint8 images N,H,W,C of any size, and gives probabilities: preprocessing is inside.",
        ),
    ] = False,
    input_shape: Annotated[
        str | None, typer.Option(metavar="H,W,C", help="Input size, where the model leaves it open; channels last.")
    ] = None,
    float16: Annotated[
        bool, typer.Option("--float16", help="Of a model file: numbers rounded to float16, half of the size.")
    ] = False,
    min_confidence: MinConfidence = None,
) -> None:
    """Write a model as ONNX, which onnxruntime and others run, or as one model file of fovea.

    Without --images an ONNX file takes float32 network input N,C,H,W and gives what the network gives. With
    --min-confidence the model file abstains wherever it is used.
    """
    from fovea.interop.load import export_file

    suffix = out.suffix.lower()
    if suffix not in (".onnx", ".safetensors"):
        raise ConfigError("--out", f"expected a file that ends in .onnx or .safetensors, got {out}; name one")
    if images and suffix == ".safetensors":
        raise ConfigError("--images", "expected it with an ONNX file, got a model file, which always takes images")
    if float16 and suffix == ".onnx":
        raise ConfigError("--float16", "expected it with a model file (.safetensors), got an ONNX file; leave it out")
    loaded, given = load_model(model), shape(input_shape)
    if given is not None:
        loaded = _closed(loaded, given)
    if min_confidence is not None:
        loaded.task = loaded.task.abstaining(min_confidence)
    if suffix == ".onnx":
        export_file(loaded, out, images)
    else:
        loaded.save(out, dtype="float16" if float16 else "float32")
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


def _closed(model: Model, shape: Shape) -> Model:
    """The model for inputs of one size. Raises ShapeError when it has another."""
    from fovea.model import Model

    record, sizes = model.preprocessing, tuple(size for size in shape[:-1] if size is not None)
    if record is not None and record.size is None and len(sizes) == len(shape) - 1:
        record = replace(record, size=sizes, resize_to=None)
    graph = model.graph.at(shape)
    return Model.from_store(
        graph, model.store, model.classes, record, model.task, model.name, model.provenance, model.quantization
    )
