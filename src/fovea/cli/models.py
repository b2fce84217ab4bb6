"""``fovea models``: the zoo, and one network of it in detail."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli.output import print_json

if TYPE_CHECKING:
    from fovea.models.registry import Architecture

__all__ = ["models"]


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One network, in detail.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """List the networks that fovea knows by name, for --model, `fovea summary` and `fovea import --network`.

    Parameters and MACs (multiply-accumulates of one sample) are those of the published input size and classes; top-1 is
    the percentage of images that the first of its weights name rightly: those called by a data set come with fovea and
    were measured on its test images, those of torchvision on ImageNet's validation images.
    """
    from fovea.models.registry import MODELS, architecture

    chosen = [architecture(name)] if name is not None else list(MODELS.values())
    facts = [_facts(one) for one in chosen]
    if as_json:
        print_json(facts if name is None else facts[0])
    elif name is not None:
        print(_detail(facts[0]))
    else:
        print(_table(facts))


def _facts(one: Architecture) -> dict[str, Any]:
    from fovea.graph.summary import summarize
    from fovea.models.foreign_names import SCHEMES
    from fovea.models.packaged import packaged_for
    from fovea.models.published import PUBLISHED

    defaults = inspect.signature(one.network).parameters
    weights: list[dict[str, Any]] = [
        {"weights": kept.name, "data": kept.data, "top1": round(100 * kept.accuracy, 2), "samples": kept.samples,
         "megabytes": round(kept.megabytes, 3), "licence": kept.licence, "commands": kept.commands,
         "file": str(kept.file), "card": str(kept.card)}
        for kept in packaged_for(one.name).values()
    ]  # fmt: skip
    weights += [
        {"weights": publisher if place == 0 else f"{publisher}:{file.name}", "version": file.name,
         "top1": file.top1, "top5": file.top5, "megabytes": file.size, "url": file.url, "sha256": file.checksum}
        for publisher, table in PUBLISHED.items()
        for place, file in enumerate(table.get(one.name, ()))
    ]  # fmt: skip
    return {
        "name": one.name, "input_shape": one.input_shape, "classes": one.num_classes, "parameters": one.parameters,
        "macs": summarize(one.graph()).totals["macs"], "options": {key: defaults[key].default for key in one.options},
        "description": one.description, "source": one.source, "weights": weights,
        "names": [scheme.library for scheme in SCHEMES.get(one.name, ())],
    }  # fmt: skip


def _table(facts: Sequence[dict[str, Any]]) -> str:
    head = ("name", "input", "parameters", "MACs", "top-1", "weights", "what it is")
    rows = [
        (one["name"], _shape(one["input_shape"]), f"{one['parameters']:,}", _count(one["macs"]),
         f"{one['weights'][0]['top1']:.1f}" if one["weights"] else "",
         one["weights"][0]["weights"] if one["weights"] else "", one["description"])
        for one in facts
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    right = (2, 3, 4)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    )


def _detail(one: dict[str, Any]) -> str:
    from fovea.models.registry import architecture

    lines = [
        f"{one['name']}: {one['description']}",
        f"source      {one['source']}",
        f"input       {_shape(one['input_shape'])}, {one['classes']} classes",
        f"size        {one['parameters']:,} parameters, {_count(one['macs'])} MACs a sample",
        "options     " + (", ".join(f"{key}={value!r}" for key, value in one["options"].items()) or "none"),
    ]
    explained = (inspect.getdoc(architecture(one["name"])) or "").partition("\n\n")[2]
    lines += [f"            {line.replace('``', '')}" for line in explained.splitlines()]
    lines.append("files       " + ", ".join(["fovea", *dict.fromkeys(one["names"])]) + ", or layers in the same order")
    for file in one["weights"]:
        if "card" in file:
            lines += _packaged(one["name"], file)
            continue
        measured = f"top-1 {file['top1']:.2f} %, top-5 {file['top5']:.2f} %"
        lines.append(f'weights     "{file["weights"]}" ({file["version"]}): {measured}, {file["megabytes"]:.1f} MB')
        lines.append(f"            {file['url']}")
    if not one["weights"]:
        lines.append("weights     none that fovea downloads; weights=FILE takes a file")
    return "\n".join(lines)


def _packaged(network: str, file: dict[str, Any]) -> list[str]:
    measured = f"top-1 {file['top1']:.2f} % of {file['samples']:,} test images"
    size = f"{file['megabytes']:.2f} MB, comes with fovea, {file['licence']}"
    return [
        f'weights     "{file["weights"]}" (MODEL: {network}:{file["weights"]}): {measured}, {size}',
        f"            {file['data']}",
        f"            card: {file['card']}",
        *(f"            $ {command}" for command in file["commands"]),
    ]


def _shape(sizes: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in sizes)


def _count(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e6:.2f} M"
