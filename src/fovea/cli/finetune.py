"""``fovea finetune``: from a pretrained network and a small data set to the best classifier that the two give."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.cli import foreign, source, training
from fovea.cli.arguments import shape
from fovea.cli.finish import finish
from fovea.cli.running import class_weights_of, command_line, describe, given, interruptible
from fovea.cli.source import data_options, open_data
from fovea.errors import ConfigError
from fovea.progress import say

if TYPE_CHECKING:
    from fovea.model import Model

__all__ = ["finetune"]


def finetune(
    data: Annotated[str, source.DataName],
    weights: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WEIGHTS",
            help="What to begin with: a model file, a run, an ONNX file, weights (.pth, .safetensors, .keras), a "
            "network of `fovea models`, or NETWORK:WEIGHTS.",
            show_default=False,
        ),
    ],
    plan: Annotated[
        str | None,
        typer.Option(help="probe, finetune, probe-earlier or scratch (default: what was measured decides)."),
    ] = None,
    advise: Annotated[bool, typer.Option(help="Measure the data first, say what was found, and follow it.")] = True,
    layer: Annotated[str | None, typer.Option(metavar="NODE", help="Of probe-earlier: the layer to probe.")] = None,
    out: training.Out = None,
    epochs: training.Epochs = None,
    lr: training.Lr = None,
    lr_depth: Annotated[
        float | None,
        typer.Option(help="Factor of the learning rate at the first block, 1 at the last (by the data)."),
    ] = None,
    freeze: training.Freeze = None,
    freeze_depth: Annotated[
        str | None, typer.Option(metavar="N|SHARE", help="Blocks from the input on that stay: 5, or 0.5 for half.")
    ] = None,
    gradual: Annotated[
        bool, typer.Option("--gradual", help="Blocks begin to train one after the other, from the head to the input.")
    ] = False,
    anchor: Annotated[
        float | None, typer.Option(help="Strength of a pull of all weights to where they began (L2-SP), such as 1.")
    ] = None,
    batch_norm: training.BatchNorm = None,
    shots: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Also measure accuracy by images a class: 1,5,20,all; or standard."),
    ] = None,
    shot_seeds: Annotated[int, typer.Option(help="Draws of the images for each of --shots.")] = 3,
    shot_budget: Annotated[float, typer.Option(help="Seconds that training for --shots may take.")] = 600.0,
    network: foreign.Network = None,
    option: foreign.Option = None,
    input_shape: foreign.InputShape = None,
    preprocess: foreign.Preprocess = None,
    size: foreign.Size = None,
    resize: foreign.Resize = None,
    mean: foreign.Mean = None,
    std: foreign.Std = None,
    scale: foreign.Scale = None,
    bgr: foreign.Bgr = False,
    labels: foreign.Labels = None,
    batch_size: training.BatchSize = None,
    optimizer: training.Optimizer = None,
    schedule: training.Schedule = None,
    warmup_epochs: training.WarmupEpochs = None,
    weight_decay: training.WeightDecay = None,
    augment: training.Augment = None,
    mix: training.Mix = None,
    label_smoothing: training.LabelSmoothing = None,
    class_weights: training.ClassWeights = None,
    ema: training.Ema = None,
    clip_norm: training.ClipNorm = None,
    accumulate: training.Accumulate = None,
    patience: training.Patience = None,
    precision: training.Precision = None,
    seed: training.Seed = None,
    label_pattern: source.LabelPattern = None,
    test_where: source.TestWhere = None,
    val_fraction: Annotated[
        float, typer.Option(help="Share of train that becomes validation where there is none.")
    ] = 0.2,
    max_bad: source.MaxBad = None,
    threads: training.Threads = None,
    workers: training.Workers = None,
    engine: training.Engine = None,
    device: training.Device = None,
    compiled: training.Compiled = None,
) -> None:
    """Make a classifier of your own classes from a network that was trained on others.

    Measures what your images are like, says which plan follows (a linear probe, fine-tuning, a probe on an earlier
    layer), runs it, and says honestly how good the result is. The network's own preprocessing is kept. Only
    `fovea evaluate` reads the test split.
    """
    import fovea
    from fovea.report.transfer import verdict
    from fovea.training.recorder import new_folder
    from fovea.training.transfer.plan import checked_plan
    from fovea.training.transfer.recipe import checked_options
    from fovea.training.transfer.source import open_source, reading_options

    recipe = given(
        epochs=epochs, lr=lr, batch_size=batch_size, optimizer=optimizer, schedule=schedule, weight_decay=weight_decay,
        warmup_epochs=warmup_epochs, augment=augment, mix=mix, label_smoothing=label_smoothing,
        class_weights=class_weights_of(class_weights), ema=ema, clip_norm=clip_norm, accumulate=accumulate,
        patience=patience, precision=precision, batch_norm=batch_norm, anchor=anchor, threads=threads,
        workers=workers, engine=engine, device=device, compiled=compiled,
    )  # fmt: skip
    depth, counts = _depth(freeze_depth), _shots(shots)
    transfer = given(
        plan=plan, layer=layer, freeze=freeze, lr_depth=lr_depth, gradual=gradual or None, shot_seeds=shot_seeds,
        shot_budget=shot_budget, val_fraction=val_fraction, seed=seed,
    )  # fmt: skip
    said = given(
        network=network, option=option, input_shape=input_shape, preprocess=preprocess, size=size, resize=resize,
        mean=mean, std=std, scale=scale, bgr=bgr or None, labels=labels,
    )  # fmt: skip
    checked_plan(plan)
    checked_options(recipe, seed or 0)
    model = _model(weights, network, option or [], input_shape)
    model.preprocessing = foreign.with_preprocessing(model, preprocess, size, resize, mean, std, scale, bgr)
    model.classes = foreign.named(model, labels)
    open_source(model)  # refuses what it cannot take before the data are read
    reading = {
        **data_options(label_pattern=label_pattern, test_where=test_where, max_bad=max_bad),
        **reading_options(model, val_fraction),
    }
    opened = open_data(data, reading)
    describe(opened)
    words = {"from": weights, **said, **transfer, **recipe, "freeze_depth": freeze_depth, "shots": shots}
    words |= given(label_pattern=label_pattern, test_where=test_where, max_bad=max_bad)
    command = command_line("finetune", data, {**words, "out": out, "no_advise": not advise})
    folder = new_folder(out, opened.name)
    with interruptible(folder):
        run = fovea.finetune(
            opened, model, advise=advise, freeze_depth=depth, shots=counts, out=folder,
            record={**source.record(data, reading), "command": command}, **transfer, **recipe,
        )  # fmt: skip
    for sentence in verdict(run):
        print(sentence)
    finish(run, opened)
    if not (run.metrics or {}).get("epochs"):
        print("  the same with --plan finetune: trains the network too, with this result as its start")


def _model(weights: str, network: str | None, options: list[str], input_shape: str | None) -> Model:
    """The pretrained network, whatever it says about its input."""
    from fovea.models.published import PUBLISHED
    from fovea.training.transfer.source import named_source

    if network is None and not options and input_shape is None and weights not in PUBLISHED:
        return named_source(weights)[0]
    model, notes = foreign.imported(weights, network, options, shape(input_shape))
    for note in notes:
        say(f"weights     {note}")
    return model


def _depth(text: str | None) -> float | None:
    """``5`` blocks or the share ``0.5``: an int or a float."""
    if text is None:
        return None
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    raise ConfigError("--freeze-depth", f"expected a number of blocks or a share such as 0.5, got {text!r}; give one")


def _shots(text: str | None) -> list[int | None] | bool:
    """``1,5,all`` as numbers, None for all; ``standard`` for the usual ones."""
    if text is None or text == "standard":
        return text is not None
    try:
        return [None if part.strip() == "all" else int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError("--shots", f"expected numbers such as 1,5,20,all, got {text!r}; or standard") from None
