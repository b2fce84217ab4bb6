"""The Typer application: which commands there are, in the order in which a person meets them."""

from __future__ import annotations

from typing import Annotated

import typer

import fovea
from fovea.cli import (
    bench,
    classmap,
    data,
    demo,
    detect,
    doctor,
    evaluate,
    explain,
    export,
    finetune,
    import_,
    models,
    predict,
    quantize,
    summary,
    train,
    verify,
)

__all__ = ["app"]

app = typer.Typer(
    name="fovea",
    help="Convolutional networks, complete: define, train, look inside, quantize, import, export.",
    epilog="Example: fovea demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text: quick to start, and the same in a pipe
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fovea {fovea.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


_COMMANDS = (
    (demo.demo, "The whole way once, on handwritten digits, in about a minute.", "fovea demo --out runs/demo"),
    (train.train, "Train a network on your data.", "fovea train digits --epochs 2 --out runs/digits"),
    (
        finetune.finetune,
        "A classifier of your classes from a pretrained network.",
        "fovea finetune digits --from lenet5:mnist --out runs/finetuned",
    ),
    (evaluate.evaluate, "Measure a model on the test split.", "fovea evaluate runs/digits digits --json"),
    (predict.predict, "Classes with probabilities for files.", "fovea predict runs/digits picture.png --top-k 3"),
    (
        detect.detect,
        "Objects in pictures: boxes drawn and written down.",
        "fovea detect cells.safetensors picture.png --out found",
    ),
    (classmap.classmap, "Where in a picture a class is.", "fovea classmap runs/digits picture.png -o map.png"),
    (explain.explain, "What a network looks at.", "fovea explain runs/digits picture.png -o explained.png"),
    (import_.import_, "A network of another system becomes a model file.", "fovea import net.onnx -o net.safetensors"),
    (export.export, "A model for other runtimes.", "fovea export runs/digits -o digits.onnx --images"),
    (verify.verify, "All engines on a model, layer by layer.", "fovea verify runs/digits"),
    (quantize.quantize, "A smaller, faster int8 model.", "fovea quantize runs/digits digits -o digits.safetensors"),
    (summary.summary, "A network layer by layer.", "fovea summary lenet5 --input-shape 28,28,1"),
    (models.models, "The networks known by name, and their weights.", "fovea models resnet20"),
    (bench.bench, "How fast it is beside other libraries.", "fovea bench lenet5 --mode inference --batch 1 --quick"),
    (doctor.doctor, "What this machine has and how fast it is.", "fovea doctor --json"),
)
for _command, _short, _example in _COMMANDS:
    app.command(_command.__name__.rstrip("_"), short_help=_short, epilog=f"Example: {_example}")(_command)
app.add_typer(
    data.app, name="data", short_help="Check data, fetch known data sets.", epilog="Example: fovea data check digits"
)
