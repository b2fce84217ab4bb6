"""``fovea explain MODEL IMAGE --trust``: whether to believe the picture, measured beside maps that know nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli.arguments import load_model
from fovea.cli.explain.asked import Asked
from fovea.cli.explain.attribution import box_number, by_each, method_names, say_left_out
from fovea.cli.files import write, write_array
from fovea.cli.output import columns, print_json
from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.explain import Attribution, Method, TrustReport
    from fovea.explain.trusting import Measures

__all__ = ["BoxOption", "TrustOption", "run"]

TrustOption = Annotated[
    bool, typer.Option("--trust", help="Measure whether to believe the map: random weights, insertion, deletion.")
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="N|X1,Y1,X2,Y2",
        help="Of a detector: which found box, 1 the surest. With --trust: corners say where the object is; repeatable.",
    ),
]


def run(asked: Asked, box: list[str] | None, baseline: str | None, seed: int) -> None:
    """The picture with its verdict, the measures as a picture and as a table."""
    from fovea.explain import Box, default_method, find_method, trusts
    from fovea.report.attribution import picture
    from fovea.report.trust import table_of, trust_picture

    image, names = asked.picture(), method_names(asked.method)
    model = load_model(asked.model)
    target: Any = asked.aim(model)
    corners = [text for text in box or [] if "," in text or model.task.kind != "detection"]
    numbers = [text for text in box or [] if text not in corners]
    boxes = [_numbers(text) for text in corners] or None
    if numbers:
        target = Box(box_number(numbers), asked.target)
    methods = [find_method(name) for name in names] or [default_method(model)]
    out = asked.file(f"{image.stem}-{methods[0].name.replace('_', '-') if len(methods) == 1 else 'methods'}.png")

    known: dict[str | None, tuple[Measures, ...]] = {}  # baselines, which the methods share

    def measure(method: Method) -> list[TrustReport]:
        alone = len(methods) == 1
        options = {} if baseline is None or not (alone or "baseline" in method.options) else {"baseline": baseline}
        return trusts(
            model, image, [method.name], target, asked.layer if alone or method.needs_layer else None, boxes=boxes,
            score=asked.score, engine=asked.engine, seed=seed, options=options, known=known,
        )  # fmt: skip

    found, left_out = by_each(methods, measure, asked)
    files = []
    for one in found:
        stem = out.stem if len(found) == 1 else f"{out.stem}-{one.attribution.method.replace('_', '-')}"
        paths = [out.with_name(f"{stem}{suffix}") for suffix in (".png", ".npy", "-trust.png")]
        write(paths[0], picture(_with_verdict(one)))
        write_array(paths[1], one.attribution.values)
        write(paths[2], trust_picture(one))
        files += [str(path) for path in paths]
    if asked.as_json:
        print_json({"trust": [one.to_dict() for one in found], "left_out": left_out, "files": files})
        return
    for one in found:
        at = f" at {one.attribution.layer}" if one.attribution.layer else ""
        print(f"{one.attribution.facts.title}{at}: {one.attribution.name} {one.attribution.score:.4g}")
        print(f"{one.verdict}\n{_known(one)}")
        head, rows = table_of(one)
        print(columns(head, rows))
    say_left_out(left_out)
    print(f"wrote {', '.join(files)}")


def _with_verdict(found: TrustReport) -> Attribution:
    """The attribution, whose picture then says what was measured."""
    return replace(found.attribution, notes=(*found.attribution.notes, found.verdict))


def _known(found: TrustReport) -> str:
    """What is known of the method beyond this picture."""
    if found.attribution.facts.fails_randomisation:
        return "known of this method: it changes little when weights are random, and shows edges, not reasons"
    return "one picture and one draw; other pictures may differ"


def _numbers(text: str) -> list[float]:
    """``"10,20,90,80"`` as numbers. Raises ConfigError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise ConfigError("--box", f"expected X1,Y1,X2,Y2 such as 10,20,90,80, got {text!r}; give four numbers")
    return numbers
