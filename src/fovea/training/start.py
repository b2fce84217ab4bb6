"""The doors of training: start a run, continue one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fovea
from fovea import progress
from fovea.data.dataset import Dataset
from fovea.engines.base import Engine
from fovea.engines.registry import available_engines, default_engine
from fovea.engines.world import World, launch, launched_processes
from fovea.errors import ConfigError, DataError, FoveaError, ModelFileError
from fovea.graph.serialize import read_tensors
from fovea.loading import load
from fovea.model import Model
from fovea.ops.optimizer import Optimizer
from fovea.report import write as write_report
from fovea.run import CHECKPOINTS, CONFIG_FILE, LAST_FILE, Run
from fovea.training.checkpoint import difference, graph_digest
from fovea.training.config import TrainConfig
from fovea.training.event_log import check_log_to, event_logs
from fovea.training.loop import Callback, Loop
from fovea.training.place import check_same, engine_and_world, folder_for, goes_on, note_other_world
from fovea.training.prepare import data_identity, fit_model, open_data, resolved
from fovea.training.recorder import as_json, write_json
from fovea.training.schedule import Schedule

__all__ = ["resume", "train"]


def train(
    model: Model,
    data: Dataset | str | os.PathLike[str],
    *,
    config: TrainConfig | None = None,
    epochs: int = 10,
    batch_size: int | None = None,
    lr: float | None = None,
    optimizer: str | Optimizer = "sgd",
    schedule: str | Schedule = "onecycle",
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    label_smoothing: float = 0.0,
    class_weights: str | Sequence[float] | None = None,
    augment: Any = "standard",
    mix: Any = None,
    ema: float | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    patience: int | None = None,
    keep_start: bool = False,
    trainable: Sequence[str] | None = None,
    unfreeze: Sequence[tuple[int, Sequence[str]]] = (),
    anchor: float = 0.0,
    batch_norm: str = "frozen",
    precision: str = "fp32",
    engine: str | Engine | None = None,
    device: str | None = None,
    compiled: bool = False,
    sync_batchnorm: bool = False,
    seed: int = 0,
    workers: int = 1,
    threads: int | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 50,
    log_to: str | None = None,
    out: str | os.PathLike[str] | None = None,
    record: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    report: bool = True,
) -> Run:
    """Train a model in place and leave a run folder with its log, checkpoints, model file and report.

    ``data``: a Dataset, or a path or name for ``fovea.dataset``. The validation split chooses the best epoch, stops
    early (``patience`` epochs without improvement) and fits the temperature; the test split is never touched.
    ``config`` takes the place of the options from ``epochs`` to ``log_to``.

    * ``batch_size`` samples make one update (None: 128, or less for small data, so that an epoch has some 30 updates);
      ``accumulate`` computes them in that many pieces (less memory; batch statistics are then those of a piece).
    * ``lr`` None goes by optimiser, network and batch size. ``optimizer``: "sgd" (Nesterov momentum 0.9), "adamw", an
      Optimizer. ``schedule``: "onecycle", "cosine", "step", "constant", a Schedule; ``warmup_epochs`` sets its warm-up.
    * ``class_weights``: "balanced" (each class weighs the same in total) or one number a class. ``augment``:
      "standard", "none", names joined by commas, or an Augment (boxes: settings such as "mosaic=1,scale=0.5:2", or a
      Scene). ``mix``: "mixup", "cutmix", MixUp(...) or CutMix(...).
    * ``precision``: "fp32", or "bf16": activations are stored as bfloat16, weights stay float32; validation is in
      float32, as predictions are. "tf32" of the torch engine: products on GPUs with 10-bit mantissas.
    * ``device``: "cuda" trains on a GPU, with PyTorch (``engine="torch"``). Under torchrun its processes share every
      batch; ``sync_batchnorm`` normalises over all of them. ``compiled``: the network goes through torch.compile.
    * ``ema``: decay of averaged weights, which are then evaluated and kept. ``trainable``: paths or patterns; all else
      is frozen. ``keep_start``: the weights that training starts with are evaluated too, as epoch 0, and kept where no
      epoch is better on validation. ``checkpoint_every`` steps, besides every epoch. ``threads`` of the native engine.
    * ``unfreeze``: pairs (epochs, paths or patterns): what is frozen until so many epochs are done; when it joins, the
      optimiser begins anew. ``anchor``: strength of a pull of all weights towards where they began (L2-SP), for
      fine-tuning.
    * ``batch_norm`` of layers whose weight and bias are frozen: "frozen" uses the running statistics and leaves them
      alone, "update" uses the batch's and renews them: for data that look unlike those of the first training.
    * ``out``: the run folder (None: ``runs/NAME-date``); ``record``: JSON-able, kept in its config.json. ``callbacks``
      are called with each line of the log; True ends training with the epoch. ``report``: write report.html at the end.
      ``log_to="tensorboard"``: also event files, in the run folder's ``tensorboard/``.

    Raises a FoveaError, in one line, for options, data or a model that do not go together; NonFiniteError, naming the
    layer, when numbers leave the range of floats.

    >>> run = fovea.train(model, "fashion-mnist", epochs=10)  # doctest: +SKIP
    >>> run.metrics["val"]["accuracy"], run.model  # doctest: +SKIP
    """
    arguments = dict(locals())
    if config is None:
        arguments["engine"] = engine.name if isinstance(engine, Engine) else engine
        config = TrainConfig(**{field.name: arguments[field.name] for field in dataclasses.fields(TrainConfig)})
    _check_callbacks(callbacks)
    check_log_to(config.log_to)
    chosen, world = engine_and_world(engine, config)
    _use_threads(config, chosen)
    ready = fit_model(model, open_data(data))
    config = resolved(config, model, len(ready.train))
    if config.patience is not None and ready.val is None:
        raise ConfigError("patience", "expected a validation split for early stopping, got none; set val_fraction")
    if config.keep_start and ready.val is None:
        raise ConfigError("keep_start", "expected a validation split to compare with, got none; set val_fraction")
    if out is not None and goes_on(out, world):
        return resume(out, ready, engine=chosen, callbacks=callbacks, report=report)
    check_same(model, ready, config, world)
    loop = Loop(model, ready, config, chosen, world)
    loop.begin()  # an option that is refused leaves nothing behind
    about = _config_file(model, ready, config, chosen, world, record)  # now all is decoded: what was left out is known
    as_json("record", about)
    _note_unreadable(ready)
    progress.say(f"training    {_in_words(config)}")
    folder = folder_for(out, model.name or ready.name, world)
    with event_logs(config.log_to, folder) as logs, contextlib.closing(loop):
        loop.open(folder, (*callbacks, *logs))
        world.first(lambda: write_json(folder / CONFIG_FILE, about))
        loop.run()
    return _finished(folder, ready, report and world.is_first)


def resume(
    run: Run | str | os.PathLike[str],
    data: Dataset | str | os.PathLike[str],
    *,
    engine: str | Engine | None = None,
    device: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    callbacks: Sequence[Callback] = (),
    report: bool = True,
) -> Run:
    """Continue a run from its last checkpoint, to the same bits as if it had never stopped.

    Options come from the run; ``engine``, ``device``, ``workers``, ``threads`` and the number of processes under
    torchrun may differ (they continue, but round differently). A finished run is returned as it is. Raises DataError
    when the data are not those it began with.
    """
    opened = run if isinstance(run, Run) else Run(run)
    _check_callbacks(callbacks)
    if opened.finished:
        return opened
    config = TrainConfig.from_dict(opened.config.get("train", {}))
    config = _elsewhere(config, opened.config.get("engine"), engine, device, workers, threads)
    chosen, world = engine_and_world(engine, config)
    _use_threads(config, chosen)
    model = load(opened.path)
    tensors, identity = read_tensors(opened.path / CHECKPOINTS / LAST_FILE)
    if identity.get("graph") != graph_digest(model.graph):
        held = {key.partition(":")[2]: array for key, array in tensors.items() if key.startswith("parameter:")}
        differs = difference(model.store.parameters, held)
        raise ModelFileError(
            str(opened.path),
            f"expected the checkpoint of this run's model, got one of another network ({differs}); restore the folder",
        )
    del tensors
    began = _recipe(TrainConfig.from_dict(identity.get("train", {})))
    edited = [name for name, value in _recipe(config).items() if value != began[name]]
    if edited:
        fix = f"put the old value back into {CONFIG_FILE}, or begin a new run"
        raise ConfigError(
            str(opened.path), f"expected the options this run began with, got another {', '.join(edited)}; {fix}"
        )
    ready = fit_model(model, open_data(data))
    if identity.get("data") != data_identity(ready):
        fix = "open the same data with the same options"
        raise DataError(
            str(opened.path),
            f"expected the data this run began with, got other contents or splits of {ready.name}; {fix}",
        )
    note_other_world(opened.config.get("processes", 1), model, config, world)
    check_same(model, ready, config, world)
    check_log_to(config.log_to)
    loop = Loop(model, ready, config, chosen, world)
    with event_logs(config.log_to, opened.path) as logs, contextlib.closing(loop):
        loop.restore(opened.path, (*callbacks, *logs))
        loop.run()
    return _finished(opened.path, ready, report and world.is_first)


def _elsewhere(
    config: TrainConfig, used: str | None, engine: str | Engine | None, device: str | None, workers: int | None,
    threads: int | None,
) -> TrainConfig:  # fmt: skip
    """The options of a run that continues here: on its own engine, where none is named and it can run."""
    name = engine.name if isinstance(engine, Engine) else engine
    if name is None:
        if device not in (None, "cpu") or launched_processes() > 1:
            name = "torch"
        elif used in available_engines():
            name = used
        else:
            name = default_engine()
            progress.say(f"note: the {used} engine is not here; {name} continues, with other rounding")
    if device is None and name != used:
        device = "cpu"  # the GPU of one engine is not another's
    options: dict[str, Any] = {"engine": name, "device": device, "workers": workers, "threads": threads}
    options = {option: value for option, value in options.items() if value is not None}
    if name != "native":
        options.setdefault("threads", None)
    if name != "torch":
        options["compiled"] = False
    if config.precision == "tf32" and name != "torch":
        progress.say(f"note: tf32 is the torch engine's; {name} continues in fp32, with other rounding")
        options["precision"] = "fp32"
    return dataclasses.replace(config, **options)


def _recipe(config: TrainConfig) -> dict[str, Any]:
    """The options that a run must be resumed with; tf32 is a rounding of fp32 that some machines have."""
    recipe = config.recipe()
    return {**recipe, "precision": "fp32"} if recipe["precision"] == "tf32" else recipe


def _finished(folder: Path, data: Dataset, report: bool) -> Run:
    run = Run(folder)
    if report:
        try:
            write_report(run, data)
        except (FoveaError, OSError) as error:  # the training itself is done and safe
            progress.say(f"no report: {error}")
    return run


def _in_words(config: TrainConfig) -> str:
    """What was chosen, by the caller or for them."""
    many = f"{config.epochs} epoch{'s' * (config.epochs != 1)}, batches of {config.batch_size}"
    how = f"{config.optimizer.kind} at lr {config.lr:.3g}, {config.schedule.kind}"
    decay = f"weight decay {config.optimizer.weight_decay:g}"
    augment = config.augment if isinstance(config.augment, str) else "augmentation of its own"
    more = [augment if augment != "standard" else "standard augmentation"]
    more += [f"mix {config.mix['kind']}"] if isinstance(config.mix, dict) and "kind" in config.mix else []
    more += [config.precision] if config.precision != "fp32" else []
    return ", ".join([many, how, decay, *more])


def _note_unreadable(data: Dataset) -> None:
    """Say which files are left out: what is decoded by now are all samples that training uses."""
    bad = data.quarantined
    if bad:
        of = "file was" if len(bad) == 1 else "files were"
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        progress.say(f"note: {len(bad)} {of} left out as unreadable: {bad[0].path} {bad[0].reason}{more}")


def _check_callbacks(callbacks: Sequence[Callback]) -> None:
    if not isinstance(callbacks, (list, tuple)) or not all(map(callable, callbacks)):
        raise ConfigError("callbacks", f"expected a list of functions, got {callbacks!r}; give [function]")


def _use_threads(config: TrainConfig, engine: Engine) -> None:
    if config.threads is None:
        return
    if engine.name != "native":
        raise ConfigError("threads", f"expected the native engine with threads, got {engine.name}; leave threads out")
    fovea.set_threads(config.threads)


def _config_file(
    model: Model, data: Dataset, config: TrainConfig, engine: Engine, world: World, record: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "format": 1,
        "fovea": fovea.__version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "engine": engine.name,
        "processes": world.size,
        "launch": launch(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "train": config.to_dict(),
        "data": data.summary(),
        "model": {
            "name": model.name,
            "parameters": sum(array.size for array in model.store.parameters.values()),
            "input_shape": list(model.graph.input_shapes[0]),
            "task": model.task.to_dict(),
        },
        "record": dict(record or {}),
    }
