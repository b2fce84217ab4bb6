"""``fovea train``: from data to a run folder with a model, its results and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fovea.cli import source, training
from fovea.cli.detectors import detector_for, detector_options
from fovea.cli.finish import finish
from fovea.cli.running import class_weights_of, command_line, computes, describe, given, interruptible
from fovea.cli.source import data_options, open_data
from fovea.errors import ConfigError
from fovea.progress import say

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.model import Model
    from fovea.run import Run
    from fovea.tasks import Task

__all__ = ["train"]


def train(
    data: Annotated[str | None, source.DataName] = None,
    model: training.ModelName = None,
    backbone: training.Backbone = None,
    epochs: training.Epochs = None,
    out: training.Out = None,
    lr: training.Lr = None,
    batch_size: training.BatchSize = None,
    optimizer: training.Optimizer = None,
    schedule: training.Schedule = None,
    warmup_epochs: training.WarmupEpochs = None,
    weight_decay: training.WeightDecay = None,
    augment: training.Augment = None,
    mix: training.Mix = None,
    loss: training.Loss = None,
    label_smoothing: training.LabelSmoothing = None,
    class_weights: training.ClassWeights = None,
    ema: training.Ema = None,
    clip_norm: training.ClipNorm = None,
    accumulate: training.Accumulate = None,
    patience: training.Patience = None,
    precision: training.Precision = None,
    seed: training.Seed = None,
    freeze: training.Freeze = None,
    batch_norm: training.BatchNorm = None,
    find_lr: training.FindLr = False,
    size: source.Size = None,
    length: source.Length = None,
    label_pattern: source.LabelPattern = None,
    test_where: source.TestWhere = None,
    val_fraction: training.ValFraction = None,
    kind: source.Kind = None,
    task: source.TaskName = None,
    max_bad: source.MaxBad = None,
    threads: training.Threads = None,
    workers: training.Workers = None,
    engine: training.Engine = None,
    device: training.Device = None,
    compiled: training.Compiled = None,
    sync_batchnorm: training.SyncBatchnorm = None,
    checkpoint_every: training.CheckpointEvery = None,
    log_to: training.LogTo = None,
    config: training.Config = None,
    resume: training.Resume = None,
) -> None:
    """Train a network on DATA: writes a run folder with the model file, the log, checkpoints and report.html.

    Every choice that is left out is made by the data and printed. Only `fovea evaluate` reads the test split.
    """
    recipe = given(
        epochs=epochs, lr=lr, batch_size=batch_size, optimizer=optimizer, schedule=schedule, weight_decay=weight_decay,
        augment=augment, mix=mix, label_smoothing=label_smoothing, ema=ema,
        class_weights=class_weights_of(class_weights), clip_norm=clip_norm, accumulate=accumulate, patience=patience,
        precision=precision, seed=seed, warmup_epochs=warmup_epochs, batch_norm=batch_norm,
        compiled=compiled, sync_batchnorm=sync_batchnorm, checkpoint_every=checkpoint_every, log_to=log_to,
    )  # fmt: skip
    machine = given(threads=threads, workers=workers, engine=engine, device=device)
    reading = data_options(
        size=size, length=length, label_pattern=label_pattern, test_where=test_where, val_fraction=val_fraction,
        kind=kind, task=task, max_bad=max_bad,
    )  # fmt: skip
    if resume is not None:
        fresh = {
            **recipe,
            **given(
                model=model,
                backbone=backbone,
                out=out,
                freeze=freeze,
                loss=loss,
                config=config,
                find_lr=find_lr or None,
            ),
        }
        _resume(resume, data, reading, machine, fresh)
        return
    if data is None:
        raise ConfigError(
            "train", "expected DATA, got none; name a folder, a file or a known set such as digits, or --resume RUN"
        )
    from fovea.training.config import TrainConfig, read_options

    words = {
        "model": model,
        "backbone": backbone,
        "out": out,
        "config": config,
        **recipe,
        **reading,
        **machine,
        "find_lr": find_lr,
        "freeze": freeze,
        "loss": loss,
    }
    options = {**(read_options(config) if config else {}), **recipe, **machine}
    TrainConfig(**options)  # refuses what it cannot do before the data are read
    _train(data, reading, (model, backbone), freeze, loss, find_lr, out, options, command_line("train", data, words))


def _train(
    path: str, reading: dict[str, Any], network: tuple[str | None, str | None], freeze: list[str] | None,
    loss: str | None, find_lr: bool, out: Path | None, options: dict[str, Any], command: str,
) -> None:  # fmt: skip
    import fovea
    from fovea.training.config import TrainConfig
    from fovea.training.place import engine_and_world, folder_for

    engine, world = engine_and_world(None, TrainConfig(**options))  # refuses what is not here before the data are read
    data = open_data(path, reading, stream=True)
    describe(data)
    computes(engine, world, options.get("device"))
    name, backbone = network
    made = _model(name, backbone, data, options.get("seed", 0))
    if data.task == "detection":
        options = detector_options(options, made, backbone)
    if loss is not None:
        made.task = _regression(loss, data)
    if freeze:
        made.freeze(*freeze)
        options["trainable"] = made.trainable
        say(f"frozen      {', '.join(freeze)}: {len(made.trainable)} of {len(made.parameters())} arrays train")
    record = {**source.record(path, reading), "command": command}
    folder = folder_for(out, data.name, world)
    with interruptible(folder):
        if find_lr and not fovea.Run.is_run(folder):
            record["find_lr"], options["lr"] = _find_lr(made, data, options)
        run = fovea.train(made, data, out=folder, record=record, **options)
    finish(run, data)


def _model(name: str | None, backbone: str | None, data: Dataset, seed: int) -> Model:
    """A network from the zoo, or a trained model to continue from."""
    import fovea
    from fovea import models
    from fovea.loading import is_zoo_name
    from fovea.models.registry import MODELS
    from fovea.tasks.base import task_for

    if name is not None and name not in MODELS and Path(name).exists():
        loaded: Model = fovea.load(name)
        if loaded.classes is not None and data.task == "classification" and len(loaded.classes) != data.num_classes:
            raise ConfigError(
                "--model",
                f"expected a model with {data.num_classes} classes as the data has, got {len(loaded.classes)}; "
                "name a network of the zoo",
            )
        say(f"model       {name}: continues from its weights")
        return loaded
    if data.task == "detection":
        return detector_for(name, backbone, data, seed)
    if backbone is not None:
        raise ConfigError("--backbone", f"expected data with boxes for a detector, got {data.task}; leave it out")
    if name is not None and is_zoo_name(name):
        network, _, weights = name.partition(":")
        names = list(data.classes) or None
        made = models.create(network, None if names else 1, data.input_shape, weights=weights, classes=names, seed=seed)
        made.task = task_for(data.task)
        head = made.provenance["weights"].get("fresh")
        say(f"model       {network}: continues from the weights {weights}" + (f"; fresh: {head}" if head else ""))
        return made
    chosen = name or models.default_for(data.kind, data.input_shape, data.train.listed)
    made = models.create(chosen, data.num_classes, data.input_shape, seed=seed)
    count = sum(array.size for array in made.parameters().values())
    say(f"model       {chosen}{'' if name else ' (chosen by the data; another: --model)'}: {count:,} parameters")
    return made


def _regression(loss: str, data: Dataset) -> Task:
    from fovea.tasks import Regression

    if data.task != "regression":
        raise ConfigError("--loss", f"expected data with values to regress, got {data.task}; leave --loss out")
    return Regression(loss_kind=loss)


def _find_lr(model: Model, data: Dataset, options: dict[str, Any]) -> tuple[dict[str, Any], float]:
    import fovea

    say("lr          raising it step by step to see where the loss falls fastest")
    found = fovea.find_lr(
        model, data, **{name: value for name, value in options.items() if name not in ("lr", "threads")}
    )
    say(f"lr          {found.suggestion:.4g}")
    return {"lrs": list(found.lrs), "losses": list(found.smoothed), "suggestion": found.suggestion}, found.suggestion


def _resume(
    folder: Path, path: str | None, reading: dict[str, Any], machine: dict[str, Any], fresh: dict[str, Any]
) -> None:
    import fovea
    from fovea.report.source import reopen

    if fresh:
        words = ", ".join("--" + name.replace("_", "-") for name in fresh)
        raise ConfigError("--resume", f"expected no other recipe than the run's own, got {words}; leave them out")
    run: Run = fovea.Run(folder)
    if run.finished:
        say(f"{folder} is finished already")
    data = open_data(path, reading, stream=True) if path is not None else reopen(run)
    with interruptible(folder):
        run = fovea.resume(run, data, **machine)
    finish(run, data)
