"""``fovea data``: look at data before training, pack them into shards, and fetch known sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.cli import source, training
from fovea.cli.output import columns, print_json
from fovea.cli.source import data_options
from fovea.progress import say

__all__ = ["app"]

app = typer.Typer(
    help="Check data before training, pack them into shards, and fetch known data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    "check",
    short_help="What is wrong with data, before a training finds out.",
    epilog="Example: fovea data check digits --json",
)
def check(
    data: Annotated[str, source.DataName],
    size: source.Size = None,
    length: source.Length = None,
    label_pattern: source.LabelPattern = None,
    test_where: source.TestWhere = None,
    kind: source.Kind = None,
    task: source.TaskName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Corrupt files, duplicates across splits, class imbalance, extreme sizes, label problems.

    The exit code is 1 when something makes results wrong, else 0.
    """
    from fovea.data.check import check as look

    options: dict[str, Any] = data_options(
        size=size, length=length, label_pattern=label_pattern, test_where=test_where, kind=kind, task=task
    )
    found = look(data, **options)
    if as_json:
        print_json(found.to_dict())
    else:
        print(found.text())
    if not found.ok:
        raise typer.Exit(1)


@app.command(
    "shard",
    short_help="Tar shards, for data that do not fit into memory.",
    epilog="Example: fovea data shard digits --out shards/digits",
)
def shard(
    data: Annotated[str, source.DataName],
    out: Annotated[Path, typer.Option(help="A new folder for the shards.", show_default=False)],
    per_shard: Annotated[
        int | None, typer.Option(help="Samples of a shard (default: a sixteenth of them, from 256 to 10,000).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of the training samples.")] = 0,
    label_pattern: source.LabelPattern = None,
    test_where: source.TestWhere = None,
    val_fraction: training.ValFraction = None,
    max_bad: source.MaxBad = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Write tar shards in WebDataset's layout, for data that do not fit into memory. Needs the extra shards.

    The bytes of image files stay as they are; class names and counts are in shards.json beside the shards.
    """
    from fovea.data.shards.write import write_shards

    options = data_options(label_pattern=label_pattern, test_where=test_where, val_fraction=val_fraction)
    opened = source.open_data(data, options)
    listing = write_shards(opened, out, per_shard=per_shard, seed=seed, max_bad=0.05 if max_bad is None else max_bad)
    splits = {
        name: {"samples": one["samples"], "shards": len(one["shards"]), "bytes": sum(s["bytes"] for s in one["shards"])}
        for name, one in listing["splits"].items()
    }
    if as_json:
        print_json(
            {"out": str(out), "classes": len(listing["classes"]), "splits": splits, "left_out": listing["left_out"]}
        )
        return
    for one in listing["left_out"]:
        say(f"left out    {one['path']} {one['reason']}")
    rows = [(name, one["samples"], one["shards"], f"{one['bytes'] / 1e6:.1f}") for name, one in splits.items()]
    print(columns(["split", "samples", "shards", "MB"], rows))
    print(f"{len(listing['classes'])} classes, in {out}")


@app.command(
    "convert",
    short_help="Images with boxes in another layout: VOC, COCO, YOLO.",
    epilog="Example: fovea data convert cells_voc cells_coco --to coco",
)
def convert(
    data: Annotated[str, source.DataName],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.", show_default=False)],
    to: Annotated[str, typer.Option(help="voc, coco or yolo.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Write images with boxes in another layout: Pascal VOC, COCO or YOLO. Images are copied as they are."""
    from fovea.data.annotations.convert import convert as write

    done = write(data, out, to)
    if as_json:
        print_json({"out": str(out), **done.to_dict()})
        return
    for note in done.notes:
        say(f"note        {note}")
    for path, reason in done.left_out[:20]:
        say(f"left out    {path} {reason}")
    if len(done.left_out) > 20:
        say(f"            ... {len(done.left_out) - 20} more")
    for what, count in done.lost.items():
        say(f"not kept    {what}: {count} ({to} cannot hold them)")
    splits = ", ".join(f"{name} {count}" for name, count in done.images.items())
    print(f"{sum(done.images.values())} images ({splits}) with {done.boxes} boxes as {to}, in {out}")


@app.command(
    "sheet",
    short_help="Annotated images with their boxes on one picture.",
    epilog="Example: fovea data sheet cells_voc --out sheet.png",
)
def sheet(
    data: Annotated[str, source.DataName],
    out: Annotated[Path, typer.Option(help="A PNG file.")] = Path("sheet.png"),
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    count: Annotated[int, typer.Option(help="Images on the sheet.")] = 12,
    seed: Annotated[int, typer.Option(help="Of the choice of images.")] = 0,
    augment: Annotated[str | None, typer.Option(help="As in training: standard, or mosaic=1,scale=0.5:2.")] = None,
) -> None:
    """Draw annotated images with their boxes and names on one sheet, to see what a detector will be told."""
    from fovea.cli.files import write
    from fovea.data.augment.scene import Scene
    from fovea.detection.sheet import annotation_sheet

    opened = source.open_data(data, {"val_fraction": 0, "max_bad": 1.0})
    scene = None if augment is None else Scene.from_text(augment)
    write(out, annotation_sheet(opened, split, count, seed, augment=scene))
    print(out)


@app.command("get", short_help="Download a known data set, or list them.", epilog="Example: fovea data get digits")
def get(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A known data set; none lists them.", show_default=False)
    ] = None,
) -> None:
    """Download a known data set, checked by its published checksum, and print its folder; without a name list them."""
    from fovea.data import fetch

    if name is None:
        print("\n".join(fetch.names()))
        return
    known = fetch.known(name)
    if known is not None and known.name == "digits":
        print("digits comes with scikit-learn: nothing to download")
        return
    print(fetch.fetch(name))
