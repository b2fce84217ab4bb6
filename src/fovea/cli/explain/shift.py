"""``fovea explain --shift``: why convolution; networks of equal accuracy on images that move by a few pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.cli.explain.asked import Asked
from fovea.cli.files import write
from fovea.cli.output import columns, print_json
from fovea.errors import ConfigError
from fovea.progress import say

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.explain.shift import ShiftCurve
    from fovea.model import Model

__all__ = ["ShiftOption", "run"]

ShiftOption = Annotated[
    bool,
    typer.Option(
        "--shift",
        help="Accuracy on --data (default: mnist) while images move, of MODEL and others; trains some without MODEL.",
    ),
]


def run(asked: Asked, data: str | None, seed: int) -> None:
    """Draw the curves and print them as a table."""
    from fovea.explain.shift import shift_curve
    from fovea.report.shift import shift_picture

    out = asked.file("shift.png")
    models, opened = _given(asked, data) if asked.model else _trained(data, seed)
    split = opened.split("test" if opened.test is not None else "val")
    found = shift_curve(models, split, seed=seed)
    write(out, shift_picture(found))
    if asked.as_json:
        print_json({**found.to_dict(), "files": [str(out)]})
        return
    print(_table(found))
    print(f"wrote {out}")


def _given(asked: Asked, data: str | None) -> tuple[dict[str, Model], Dataset]:
    """MODEL and the others, which stand where images would."""
    import fovea
    from fovea.cli.arguments import load_model

    names = (asked.model, *map(str, asked.images))
    if len(names) < 2:
        raise ConfigError("--shift", "expected two models to compare, got one; name a second, or none to train some")
    models = {Path(name).stem or name: load_model(name) for name in names}
    if len(models) < len(names):  # files of one name
        models = {name: load_model(name) for name in names}
    first = next(iter(models.values()))
    opened: Dataset = fovea.dataset(data or "mnist")
    return models, opened if first.preprocessing is None else opened.prepared(first.preprocessing)


def _trained(data: str | None, seed: int) -> tuple[dict[str, Model], Dataset]:
    """A perceptron, and convolutional networks that are trained until they are as good."""
    import fovea
    from fovea.training.equal import train_to_equal

    opened: Dataset = fovea.dataset(data or "mnist")
    if opened.kind != "image" or opened.task != "classification":
        raise ConfigError("--data", f"expected images with classes, got {opened.kind}s for {opened.task}; name others")
    shape, classes = opened.input_shape, opened.classes
    models = {"mlp": fovea.models.mlp(len(classes), shape, classes=classes, seed=seed)}
    if shape == (28, 28, 1):
        models["lenet5"] = fovea.models.lenet5(len(classes), shape, classes=classes, seed=seed)
    models["small_cnn"] = fovea.models.small_cnn(len(classes), shape, classes=classes, seed=seed)
    say(f"training {', '.join(models)} on {opened.name}, the convolutional ones until they are as good as the first")
    return {name: run.model for name, run in train_to_equal(models, opened, seed=seed).items()}, opened


def _table(found: ShiftCurve) -> str:
    head = ["accuracy", *(f"{shift:+d}" if shift else "0" for shift in found.shifts)]
    rows = [[name, *(f"{value:.1%}" for value in row)] for name, row in zip(found.names, found.accuracy, strict=True)]
    lines = [columns(head, rows)]
    for name, count, first in zip(found.names, found.parameters, found.first_layer, strict=True):
        lines.append(
            f"{name}: {count:,} parameters, {first:,} of them in its first layer; a shift by "
            f"{max(map(abs, found.shifts))} pixels costs {found.fall(name):.1%}"
        )
    lines += [f"{found.samples} images, mean over four directions", *found.notes]
    return "\n".join(lines)
