"""``fovea data``: look at data before training, and fetch known sets."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fovea.cli import source
from fovea.cli.output import print_json
from fovea.cli.source import data_options

__all__ = ["app"]

app = typer.Typer(
    help="Check data before training, and fetch known data sets.", no_args_is_help=True, rich_markup_mode=None
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
