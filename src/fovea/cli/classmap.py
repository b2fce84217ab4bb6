"""``fovea classmap``: where in a picture a classifier sees a class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fovea.cli.arguments import load_model, set_threads, sizes
from fovea.cli.files import write, write_array
from fovea.cli.output import print_json
from fovea.errors import ConfigError

__all__ = ["classmap"]


def classmap(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A classifier of images: a model file or run folder.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture of any size.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write: MAP.png, and beside it MAP.npy.")],
    name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class to show (default: the one that peaks).")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Pixels of the shorter side for the network: more give a finer map (default: twice its own)."
        ),
    ] = None,
    pooling: Annotated[
        str, typer.Option(help="Global pooling becomes a window, or is left out (none): finer, less sure.")
    ] = "window",
    trained_size: Annotated[
        str | None, typer.Option(metavar="H,W", help="What the network was trained on, where the model does not say.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many classes to name, the highest peak first.")] = 5,
    threads: Annotated[int | None, typer.Option(help="Threads (default: every core).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Show where in a picture a network sees a class: its dense layers slide over the whole picture at once.

    Writes the picture with the heat of one class over it, and an array rows,columns,classes of probabilities.
    """
    from fovea.explain import class_map
    from fovea.report.class_map import overlay

    if out.suffix.lower() != ".png":
        raise ConfigError("--out", f"expected a file that ends in .png, got {out}; name one")
    if top_k < 1:
        raise ConfigError("--top-k", f"expected at least 1, got {top_k}; 5 is usual")
    set_threads(threads)
    side = sizes(trained_size, "--trained-size")
    trained = None if side is None else side * 2 if len(side) == 1 else side
    found = class_map(load_model(model), image, size=size, pooling=pooling, trained_size=trained)
    ranked = found.ranked(top_k)
    index = ranked[0][0] if name is None else found.index(name)
    array = out.with_suffix(".npy")
    write(out, overlay(found, index))
    write_array(array, found.probabilities)
    peak, place = found.peak(index)
    if as_json:
        top = [{"label": found.classes[i], "peak": value, "x": x, "y": y} for i, value, (y, x) in ranked]
        shown = {"label": found.classes[index], "peak": peak, "x": place[1], "y": place[0]}
        print_json(
            {"map": list(found.probabilities.shape), "shown": shown, "top": top, "files": [str(out), str(array)]}
        )
        return
    rows, columns, classes = found.probabilities.shape
    for i, value, (y, x) in ranked:
        print(f"{value:6.1%}  {found.classes[i]}  (at x {x:.0f}, y {y:.0f})")
    print(f"wrote {out} ({found.classes[index]}, at most {peak:.1%}) and {array} ({rows}x{columns}x{classes})")
