"""``fovea explain MODEL IMAGE``: how much each pixel counts, by one method or by several beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fovea.cli.arguments import load_model
from fovea.cli.explain.asked import Asked
from fovea.cli.files import write, write_array
from fovea.cli.output import print_json
from fovea.errors import ConfigError, EngineError, FoveaError, GraphError

if TYPE_CHECKING:
    from fovea.explain import Attribution, Method

__all__ = [
    "BaselineOption",
    "MethodOption",
    "ScoreOption",
    "box_number",
    "by_each",
    "method_names",
    "run",
    "say_left_out",
]

T = TypeVar("T")

MethodOption = Annotated[
    str | None,
    typer.Option(metavar="METHOD", help="grad-cam, integrated-gradients, ...; several with commas, or all that fit."),
]
ScoreOption = Annotated[
    str | None, typer.Option(help="What is explained of a class: logit, probability or log-probability.")
]
BaselineOption = Annotated[
    str | None, typer.Option(help="What stands for nothing: zero (of the network's input), black or blur.")
]


def run(asked: Asked, baseline: str | None = None, box: int | None = None, seed: int = 0) -> None:
    """Explain one image, write picture and array, and say what they show. ``box``: the number of one that is found;
    ``seed``: of methods that draw."""
    from fovea.explain import Box, attributions, default_method, find_method
    from fovea.report.attribution import picture, sheet

    image, names = asked.picture(), method_names(asked.method)
    methods = [find_method(name) for name in names]
    words = "methods" if len(methods) > 1 else methods[0].name.replace("_", "-") if methods else ""
    model = load_model(asked.model)
    if box is not None and model.task.kind != "detection":
        raise ConfigError(
            "--box", f"expected a detector, got a model for {model.task.kind}; add --trust, or leave it out"
        )
    if not methods:
        methods = [default_method(model)]
        words = methods[0].name.replace("_", "-")
    out = asked.file(f"{image.stem}-{words}.png")
    target: Any = asked.aim(model) if box is None else Box(box, asked.target)

    def explain(method: Method) -> list[Attribution]:
        layer = asked.layer if method.needs_layer or len(methods) == 1 else None
        options: dict[str, Any] = {"score": asked.score, "engine": asked.engine}
        if baseline is not None and (len(methods) == 1 or "baseline" in method.options):
            options["baseline"] = baseline
        if seed and (len(methods) == 1 or "seed" in method.options):
            options["seed"] = seed
        return attributions(model, [image], method.name, [target], layer, **options)

    found, left_out = by_each(methods, explain, asked)
    write(out, picture(found[0]) if len(found) == 1 else sheet(found))
    arrays = [out.with_suffix(".npy")]
    if len(found) > 1:
        arrays = [out.with_name(f"{out.stem}-{one.method.replace('_', '-')}.npy") for one in found]
    for path, one in zip(arrays, found, strict=True):
        write_array(path, one.values)
    if asked.as_json:
        files = [str(path) for path in (out, *arrays)]
        print_json({"explained": [_record(one) for one in found], "left_out": left_out, "files": files})
        return
    for one in found:
        at = f" at {one.layer}" if one.layer else ""
        print(f"{one.facts.title}{at}: {one.name} {one.score:.4g}")
        if one.facts.fails_randomisation:
            print("  it changes little when the weights are random: it shows edges, not reasons")
        for note in one.notes:
            print(f"  {note}")
    say_left_out(left_out)
    more = f" and {arrays[0]}" if len(arrays) == 1 else f" and {len(arrays)} arrays beside it"
    print(f"wrote {out}{more}")


def by_each(
    methods: Sequence[Method], explain: Callable[[Method], list[T]], asked: Asked
) -> tuple[list[T], dict[str, str]]:
    """What every method finds. Of ``--method all`` those that cannot explain this network are left out: title -> why.

    Raises the first error where none can, and every error of a method or layer that was named.
    """
    found: list[T] = []
    left_out: dict[str, str] = {}
    first: FoveaError | None = None
    for method in methods:
        try:
            found += explain(method)
        except (EngineError, GraphError) as error:
            if asked.method != "all" or (method.needs_layer and asked.layer is not None):
                raise
            left_out[method.title], first = error.message, first or error
    if not found and first is not None:
        raise first
    return found, left_out


def say_left_out(left_out: dict[str, str]) -> None:
    """One line for each reason, with the methods that it is about."""
    for why in dict.fromkeys(left_out.values()):
        print(f"left out: {', '.join(title for title, one in left_out.items() if one == why)}: {why}")


def box_number(words: list[str]) -> int:
    """``--box 3`` as a number. Raises ConfigError."""
    if len(words) != 1 or not words[0].isdecimal():
        got = " and ".join(words)
        raise ConfigError("--box", f"expected the number of a found box, got {got}; give 1, or add --trust for corners")
    return int(words[0])


def method_names(method: str | None) -> list[str]:
    """The methods asked for; none for the model's default."""
    from fovea.explain import METHODS

    if method is None:
        return []
    return list(METHODS) if method == "all" else [part.strip() for part in method.split(",")]


def _record(one: Attribution) -> dict[str, Any]:
    return {
        "method": one.method, "layer": one.layer, "target": one.target, "name": one.name, "score": one.score,
        "shape": list(one.values.shape), "sum": float(one.values.sum()), "box": one.box, "notes": list(one.notes),
        "fails_randomisation": one.facts.fails_randomisation,
    }  # fmt: skip
