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


@app.command("check", epilog="Example: fovea data check digits --json")
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


@app.command("shard", epilog="Example: fovea data shard digits --out shards/digits")
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


@app.command("get", epilog="Example: fovea data get digits")
def get(
    name: Annotated[str | None, typer.Argument(help="A known data set; none lists them.", show_default=False)] = None,
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
