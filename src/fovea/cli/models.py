"""``fovea models``: the zoo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fovea.cli.output import print_json

__all__ = ["models"]


def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False) -> None:
    """List the networks that fovea knows by name, for --model and `fovea summary`."""
    from fovea.models.registry import MODELS

    if as_json:
        print_json(
            [
                {"name": one.name, "input_shape": one.input_shape, "classes": one.num_classes,
                 "parameters": one.parameters, "options": one.options,
                 "description": one.description, "source": one.source}
                for one in MODELS.values()
            ]
        )  # fmt: skip
        return
    rows = [(one.name, _shape(one.input_shape), f"{one.parameters:,}", one.description) for one in MODELS.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, shape, count, description in rows:
        print(f"{name.ljust(widths[0])}  {shape.ljust(widths[1])}  {count.rjust(widths[2])}  {description}")


def _shape(sizes: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in sizes)
