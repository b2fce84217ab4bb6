"""``fovea import``: a network of another system becomes a model file of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.cli.arguments import shape, sizes
from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.data.preprocess import Preprocessing
    from fovea.model import Model

__all__ = ["import_"]

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of the training images of ImageNet, on a scale from 0 to 1: what most published networks were trained with."""


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file (.onnx).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the model.")],
    input_shape: Annotated[
        str | None, typer.Option(metavar="H,W,C", help="Input size, where the file leaves it open; channels last.")
    ] = None,
    preprocess: Annotated[
        str | None, typer.Option(metavar="imagenet", help="Mean, standard deviation and crop as usual for ImageNet.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="H,W", help="Images are resized to this.")] = None,
    resize: Annotated[str, typer.Option(help="shorter-side (and crop), stretch or letterbox.")] = "shorter-side",
    mean: Annotated[str | None, typer.Option(metavar="R,G,B", help="Subtracted from the scaled pixels.")] = None,
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="What they are divided by then.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="What pixels (0 to 255) are multiplied by first; 1/255 unless told.")
    ] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="The network takes blue first.")] = False,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line.")] = None,
) -> None:
    """Convert a network of another system into a model file.

    What the file cannot say, how images become input and what the classes are called, is said by the options.
    """
    from fovea.interop.load import import_file

    imported = import_file(file, shape(input_shape))
    model = imported.model
    asked = (preprocess, size, mean, std, scale)
    if any(one is not None for one in asked) or bgr:
        model.preprocessing = _preprocessing(model, preprocess, size, resize, mean, std, scale, bgr)
    if labels is not None:
        model.classes = _labels(model, labels)
    model.save(out)
    typer.echo(f"wrote {out}: {model!r}")
    for name, ours in zip(model.graph.inputs, imported.inputs, strict=True):
        layout = "channels last" if ours != tuple(range(len(ours))) else "as in the file"
        typer.echo(f"input {name}: {('N', *model.graph.shape(name))} ({layout})")
    for node in imported.transposes:
        typer.echo(f"note: {node} transposes at run time; everything else was renamed")
    if model.preprocessing is None:
        typer.echo("note: the file does not say how images become input; see --preprocess, --size, --mean, --std")


def _preprocessing(
    model: Model,
    preset: str | None,
    size: str | None,
    resize: str,
    mean: str | None,
    std: str | None,
    scale: float | None,
    bgr: bool,
) -> Preprocessing:
    from fovea.data.preprocess import Preprocessing

    if preset not in (None, "imagenet"):
        raise ConfigError("--preprocess", f"expected imagenet, got {preset!r}; or give --size, --mean and --std")
    given = sizes(size, "--size")
    height, width, channels = (*model.graph.input_shapes[0], None, None, None)[:3]
    side = given if given is not None else (height, width)
    side = side * 2 if len(side) == 1 else side
    if channels is None or len(side) != 2 or any(one is None for one in side):
        raise ConfigError("--size", "expected a height and a width, and the network leaves them open; give --size 224")
    chosen = IMAGENET if preset == "imagenet" else {"mean": (0.0,), "std": (1.0,)}
    fitted = tuple(int(one or 0) for one in side)
    crop = round(max(fitted) * 256 / 224) if preset == "imagenet" and resize == "shorter-side" else None
    return Preprocessing(
        size=fitted,
        channels=channels,
        resize=resize,
        resize_to=crop,
        scale=1.0 / 255.0 if scale is None else scale,
        order="bgr" if bgr else "rgb",
        mean=_numbers(mean, "--mean") or chosen["mean"],
        std=_numbers(std, "--std") or chosen["std"],
    )


def _numbers(text: str | None, option: str) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            option, f"expected numbers such as 0.485,0.456,0.406, got {text!r}; separate by commas"
        ) from None


def _labels(model: Model, path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--labels", f"expected a text file with one class a line, got: {error}") from None
    names = tuple(line.strip() for line in lines if line.strip())
    outputs = model.graph.output_shapes[0][-1] if model.graph.output_shapes[0] else None
    if len(names) != outputs:
        raise ConfigError("--labels", f"expected {outputs} names for as many outputs, got {len(names)} in {path}")
    return names
