"""``fovea summary``: a network layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.cli.arguments import MODEL, load_model, shape
from fovea.cli.output import print_json
from fovea.errors import ConfigError

__all__ = ["summary"]


def summary(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"A name from `fovea models`. {MODEL}")],
    input_shape: Annotated[
        str | None, typer.Option(metavar="H,W,C", help="Another input shape; ? leaves a size open (?,?,3).")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of outputs of a network from the zoo.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Per layer: output shape, parameters, MACs, activation memory, receptive field (size and jump).

    MACs and memory are for one sample.
    """
    found = _summarize(model, shape(input_shape), classes)
    if as_json:
        print_json(found.to_dict())
    else:
        print(found)


def _summarize(name: str, given: tuple[int | None, ...] | None, classes: int | None) -> Any:
    from fovea.graph.summary import summarize
    from fovea.loading import is_zoo_name
    from fovea.models.registry import MODELS, architecture

    if (Path(name).exists() and name not in MODELS) or is_zoo_name(name):
        if classes is not None:
            raise ConfigError(
                "--classes", f"expected a network from the zoo, got the trained model {name}; leave --classes out"
            )
        model = load_model(name)
        return summarize(model.graph if given is None else model.graph.at(given), model.name, model.note)
    if "/" in name or Path(name).suffix:  # meant as a file
        load_model(name)
    return summarize(architecture(name).graph(classes, given), name)
