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
            "--out", "-o", help="Where to write: a file that ends in .onnx, .pth (PyTorch) or .safetensors (fovea)."
        ),
    ],
    to: Annotated[
        str | None, typer.Option(metavar="onnx|torch|fovea", help="What to write (default: by the end of --out).")
    ] = None,
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
    """Write a model as ONNX, which onnxruntime and others run, for PyTorch, or as one model file of fovea.

    For PyTorch: a state_dict (.pth), and beside it Python source (.py) of an nn.Module that needs PyTorch alone.
    Without --images an ONNX file takes float32 network input N,C,H,W and gives what the network gives. With
    --min-confidence the model file abstains wherever it is used.
    """
    from fovea.interop.load import export_file

    out, kind = _kind(out, to)
    if images and kind != "onnx":
        reason = "a model file, which always takes images" if kind == "fovea" else "one for PyTorch; leave it out"
        raise ConfigError("--images", f"expected it with an ONNX file, got {reason}")
    if float16 and kind != "fovea":
        got = "an ONNX file" if kind == "onnx" else "one for PyTorch"
        raise ConfigError("--float16", f"expected it with a model file (.safetensors), got {got}; leave it out")
    loaded, given = load_model(model), shape(input_shape)
    if given is not None:
        loaded = _closed(loaded, given)
    if min_confidence is not None:
        loaded.task = loaded.task.abstaining(min_confidence)
    if kind == "fovea":
        loaded.save(out, dtype="float16" if float16 else "float32")
    else:
        export_file(loaded, out, images)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if kind == "torch":
        typer.echo(f"wrote {out.with_suffix('.py')}: the network; load() in it reads the weights")


_ENDS = {"onnx": (".onnx",), "torch": (".pth", ".pt"), "fovea": (".safetensors",)}


def _kind(out: Path, to: str | None) -> tuple[Path, str]:
    """The file, with the end of its name, and what it holds. Raises ConfigError."""
    if to is not None and to not in _ENDS:
        raise ConfigError("--to", f"expected onnx, torch or fovea, got {to!r}; choose one of them")
    if to is not None and not out.suffix:
        return out.with_suffix(_ENDS[to][0]), to
    found = next((kind for kind, ends in _ENDS.items() if out.suffix.lower() in ends), None)
    if found is None or to not in (None, found):
        ends = " or ".join(_ENDS[to]) if to else ".onnx, .pth or .safetensors"
        raise ConfigError("--out", f"expected a file that ends in {ends}, got {out}; name one")
    return out, found


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
