"""``fovea explain MODEL IMAGE --arithmetic LAYER``: one number of a layer, worked out and held to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from fovea.cli.arguments import load_model
from fovea.cli.explain.arithmetic_text import arithmetic_text
from fovea.cli.explain.asked import Asked
from fovea.cli.files import write
from fovea.cli.output import print_json
from fovea.errors import ConfigError

__all__ = [
    "ArithmeticOption", "AtOption", "BackwardOption", "ChannelOption", "Place", "StatisticsOption", "WeightOption",
    "run",
]  # fmt: skip

ArithmeticOption = Annotated[
    str | None, typer.Option("--arithmetic", metavar="NODE", help="Work one number of this layer out, term by term.")
]
AtOption = Annotated[
    str | None,
    typer.Option(
        metavar="Y,X", help="With --arithmetic or --neuron: the place in the layer's output (default: the strongest)."
    ),
]
ChannelOption = Annotated[
    int | None,
    typer.Option(
        help="The channel, of --arithmetic, --exciting, --visualise or --dream (default: the strongest, or several)."
    ),
]
BackwardOption = Annotated[
    bool,
    typer.Option(
        "--backward", help="With --arithmetic: gradients of the loss at a place of the layer's input, and of a weight."
    ),
]
WeightOption = Annotated[
    str | None,
    typer.Option(metavar="INDEX", help="With --backward: which weight, 0,1,0,3 for example (default: the strongest)."),
]
StatisticsOption = Annotated[
    bool, typer.Option("--batch-statistics", help="With --arithmetic: batch norm as in training, on this image alone.")
]


@dataclass(frozen=True)
class Place:
    """The mode's own words."""

    layer: str | None
    at: str | None
    channel: int | None
    backward: bool
    weight: str | None
    training: bool


def run(asked: Asked, place: Place) -> None:
    """Print the numbers, draw them, and say whether the engine has the same."""
    from fovea.explain import layer_arithmetic
    from fovea.report.arithmetic import arithmetic_picture

    image = asked.picture()
    assert place.layer is not None
    direction = "-backward" if place.backward else ""
    out = asked.file(f"{image.stem}-arithmetic-{place.layer}{direction}.png")
    at, weight = _integers(place.at, "--at", "12,7"), _integers(place.weight, "--weight", "0,1,0,3")
    model = load_model(asked.model)
    found = layer_arithmetic(
        model, image, place.layer, at, place.channel, backward=place.backward, weight_at=weight, target=asked.target,
        training=place.training, engine=asked.engine,
    )  # fmt: skip
    write(out, arithmetic_picture(found))
    if asked.as_json:
        print_json({**found.to_dict(), "agrees": found.agrees, "files": [str(out)]})
        return
    print(arithmetic_text(found))
    print(f"\nwrote {out}")


def _integers(text: str | None, option: str, example: str) -> tuple[int, ...] | None:
    """``"12,7"`` as integers. Raises ConfigError."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(
            option, f"expected integers from 0 on such as {example}, got {text!r}; separate them by commas"
        )
    return tuple(int(part) for part in parts)
