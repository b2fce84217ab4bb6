"""``fovea verify``: every engine and onnxruntime on one model, layer by layer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fovea.cli.arguments import load_model, sample_files, set_threads, shape
from fovea.cli.output import columns, print_json
from fovea.errors import ConfigError, DataError

__all__ = ["verify"]

DIFFERENT = 1
"""Exit code."""


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file, a run folder or an ONNX file.")],
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="A file to compute on, or a folder; may be repeated. Default: random numbers."
        ),
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option(metavar="H,W,C", help="Input size, where the model leaves it open.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Of a layer's largest value: how far others may be off.")] = 1e-5,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
    threads: Annotated[int | None, typer.Option(help="Threads (default: every core).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Compare all installed engines, and onnxruntime on the export, with the reference in float64.

    For every layer: its largest value, and how far each is off, as a share of that. The exit code is 1 when a layer
    differs; the first one is named with the place.
    """
    import fovea

    sizes = shape(input_shape)
    given = None if sizes is None else tuple(size for size in sizes if size is not None)
    if given is not None and given != sizes:
        raise ConfigError("--input-shape", f"expected closed sizes, got {input_shape}; give for example 32,32,3")
    set_threads(threads)
    loaded = load_model(model)
    files = None
    if images:
        if loaded.preprocessing is None:
            raise DataError(model, "expected a model that knows its preprocessing, got none; leave --images out")
        files = sample_files(images, loaded.preprocessing.kind)
    result = fovea.verify(loaded, images=files, input_shape=given, tolerance=tolerance, seed=seed)
    if as_json:
        print_json(result)
    else:
        _print(result, "random input" if files is None else "files")
    if not result["equal"]:
        raise typer.Exit(DIFFERENT)


def _print(result: dict[str, Any], what: str) -> None:
    sides = result["sides"]
    rows = [_row(one, _name(one), sides) for one in result["layers"]]
    rows += [_row(one, f"{_name(one)}, as it runs", sides) for one in result["outputs"]]
    print(columns(["layer", "op", "output", "largest", *sides], rows, left=3))
    print()
    for name, why in result["absent"].items():
        print(f"not compared: {name}: {why}")
    first = result["first"]
    layers, samples = len(result["layers"]), f"{result['samples']} samples ({what})"
    if first is None:
        print(f"equal: {layers} layers on {samples}, within {result['tolerance']:g} of each layer's largest value")
        return
    how = ", with the layers before it fused" if first["fused"] else ""
    print(
        f"first difference: {_name(first)} ({first['op']}) by {first['side']}{how}: off by {first['error']:.3g} where "
        f"{first['allowed']:.3g} is allowed, at {tuple(first['index'])} (sample, position, channel): expected "
        f"{first['expected']:.7g}, got {first['got']:.7g}"
    )


def _row(one: dict[str, Any], name: str, sides: list[str]) -> list[str]:
    largest = one["largest"] or 1.0
    cells = []
    for side in sides:
        error = one["errors"].get(side)
        mark = " *" if side in one["differs"] else ""
        cells.append("" if error is None else f"{error / largest:.1e}{mark}")
    output = "x".join(map(str, one["shape"]))
    return [name, one["op"], output, f"{one['largest']:.3g}", *cells]


def _name(one: dict[str, Any]) -> str:
    return f"{one['node']}:{one['output']}" if one["output"] else str(one["node"])
