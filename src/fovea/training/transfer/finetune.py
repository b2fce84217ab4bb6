"""``fovea.finetune``: the best classifier that a pretrained network gives for a small data set, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.data.dataset import Dataset
from fovea.data.load import dataset
from fovea.engines.registry import get_engine
from fovea.engines.world import launched_processes
from fovea.errors import ConfigError
from fovea.features import DepthProbes, Probe, codes, linear_probe
from fovea.graph.depth import prefixes
from fovea.graph.head import find_head
from fovea.model import Model
from fovea.progress import say
from fovea.report import write as write_report
from fovea.run import SHOTS_FILE, Run
from fovea.training.loop import Callback
from fovea.training.recorder import write_json
from fovea.training.start import train
from fovea.training.transfer.head import (
    fresh,
    head_accuracy,
    headed_at,
    kept_classes,
    put_into_head,
    replace_head,
)
from fovea.training.transfer.measure import measure
from fovea.training.transfer.plan import Plan, checked_plan, choose, describe
from fovea.training.transfer.recipe import checked_options, config_for, frozen_paths
from fovea.training.transfer.shots import BUDGET, SHOTS, shot_curves
from fovea.training.transfer.source import VAL_FRACTION, data_notes, fitting_data, open_source, reading_options

__all__ = ["finetune"]


def finetune(
    data: Dataset | str | os.PathLike[str],
    source: Model | Run | str | os.PathLike[str],
    *,
    plan: str | None = None,
    advise: bool = True,
    layer: str | None = None,
    freeze: Sequence[str] | None = None,
    freeze_depth: float | None = None,
    lr_depth: float | None = None,
    gradual: bool = False,
    val_fraction: float = VAL_FRACTION,
    shots: Sequence[int | None] | bool = False,
    shot_seeds: int = 3,
    shot_budget: float = BUDGET,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    record: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    report: bool = True,
    **options: Any,
) -> Run:
    """Make a classifier of the classes of ``data`` from a network that was trained on others; leaves a run folder.

    ``source``: a Model, a run, any file that ``fovea.load`` reads, ``NETWORK:WEIGHTS``, or a network of the zoo with
    known weights. It stays as it is. Its preprocessing is kept: in training, evaluation, serving and export alike.

    * ``advise`` measures what the data are like (``fovea.training.transfer.plan``), says so, and follows the plan that
      fits. ``plan`` decides instead: "probe", "finetune", "probe-earlier" (``layer`` says where), "scratch". Without
      either it is "finetune": a linear probe becomes the head, then everything is trained from there (Kumar et al.
      2022, "Fine-tuning can distort pretrained features"). So it is where an option asks for training (``epochs``,
      ``lr``, ``freeze``, ...). Where the network knows all classes by name, its own head stays if it is right more
      often on train than the probe is on held-out folds.
    * The probe counts as epoch 0: the model file holds what was best on the validation split, never less than it.
      Without a validation split ``val_fraction`` of each class of train becomes one, and the run records it.
    * ``freeze``: paths, prefixes or patterns that stay as they are; ``freeze_depth``: so many blocks from the input on,
      or a share of them (0.5). ``lr_depth``: factor of the learning rate at the first block, 1 at the last, in equal
      ratios between (0.1, or 1 for different data). ``gradual``: blocks join from the head to the input over the first
      half of the epochs. ``anchor`` (an option of training): strength of a pull of all weights to where they began
      (L2-SP), in place of weight decay.
    * ``shots``: also measure accuracy over the number of images a class (True: 1, 2, 5, 10, 20, all; see
      ``shot_curves``), with ``shot_seeds`` draws of each, within ``shot_budget`` seconds.
    * ``options``: those of ``fovea.train``. Fine-tuning begins with AdamW, gradients clipped to norm 1, a patience of 5
      epochs or a quarter of them, and batch norm on the statistics that it has: 10 epochs at 1e-4, on data that were
      found to be different 30 at 1e-3; more epochs where they make fewer than 40 updates.

    Raises a FoveaError, in one line, for a source, data or options that do not go together.

    >>> run = fovea.finetune("photos/", "mobilenetv2")  # doctest: +SKIP
    >>> run.metrics["val"]["accuracy"], run.config["record"]["transfer"]["plan"]["why"]  # doctest: +SKIP
    """
    if launched_processes() > 1:
        fix = "start it without torchrun, or train with several processes"
        raise ConfigError("finetune", f"expected one process, got {launched_processes()}; {fix}")
    wanted = checked_plan(plan)
    checked_options(options, seed)
    get_engine(options.get("engine"), options.get("device")).join(options.get("device"))  # refuses one that is not here
    model = open_source(source)
    reading = reading_options(model, val_fraction)
    opened = data if isinstance(data, Dataset) else dataset(data, **reading)
    ready = fitting_data(opened, model, val_fraction=val_fraction)
    notes = data_notes(opened, ready, model)
    measured, probes = measure(model, ready, seed=seed, engine=options.get("engine")) if advise else (None, None)
    asked = {"lr": options.get("lr"), "epochs": options.get("epochs"), "freeze": freeze or None}
    asked |= {"freeze_depth": freeze_depth, "lr_depth": lr_depth, "gradual": gradual or None}
    asked["anchor"] = options.get("anchor")
    trains = next((name for name, value in asked.items() if value is not None), None)
    decided = choose(measured, wanted, layer, trains)
    describe(measured, decided)
    for note in notes:
        say(f"note        {note}")
    start, about = _start(model, ready, decided, probes, seed, options.get("engine"))
    frozen = frozen_paths(start, freeze, freeze_depth)
    config = config_for(decided, start, len(ready.train), frozen, lr_depth, {**options, "seed": seed}, gradual)
    about |= {
        "source": _described(source, model), "measured": None if measured is None else measured.to_dict(),
        "plan": decided.to_dict(), "notes": notes, "frozen": list(_short(start, frozen)),
        "batch_norm": options.get("batch_norm", "frozen") if decided.name == "finetune" else None,
    }  # fmt: skip
    start.provenance["pretrained"] = about["source"]
    kept = {**_where(data, reading), **dict(record or {}), "transfer": about}
    run = train(start, ready, config=config, out=out, record=kept, callbacks=callbacks, report=False)
    if shots is not False:
        counts = SHOTS if shots is True else shots
        study = {**options, "shots": counts, "seeds": shot_seeds, "budget": shot_budget, "seed": seed}
        write_json(run.path / SHOTS_FILE, shot_curves(ready, model, **study))
    if report:
        write_report(run, ready)
    return run


def _start(
    model: Model, data: Dataset, plan: Plan, probes: DepthProbes | None, seed: int, engine: Any
) -> tuple[Model, dict[str, Any]]:
    """The network that training begins with (of a probe: the result), and how its head came to be."""
    head = find_head(model.graph)
    about: dict[str, Any] = {"left_out": list(head.notes)}
    start = replace_head(model, data.classes, seed=seed)
    if plan.name == "scratch":
        return fresh(start, seed), about
    found = codes(model, data.train, plan.layer, engine=engine)
    node, targets = next(iter(found.nodes.values())), data.train.targets
    known = next((one.probe for one in probes.probes if one.node == node), None) if probes is not None else None
    probe: Probe = known or linear_probe(found.array, targets, data.classes, seed=seed)
    if plan.layer is not None:
        start = headed_at(model, node, data.classes, seed)
    elif len(kept_classes(model, data.classes)) == len(data.classes):
        own = head_accuracy(start, found.array, targets)
        about["own_head"] = own
        if own >= probe.accuracy:
            say(f"head        its own: it knows all classes by name, and is right on {own:.1%} of training images")
            return start, about
    put_into_head(start, probe.weight, probe.bias)
    say(f"head        {find_head(start.graph).node}: a linear probe of {len(probe.weight)} numbers, C {probe.c:g}")
    for note in head.notes:
        say(f"note        left out: {note}")
    finite = probe.accuracy == probe.accuracy  # nan where nothing could be held out
    about["probe"] = {
        "layer": node, "size": len(probe.weight), "c": probe.c, "folds": probe.folds,
        "accuracy": probe.accuracy if finite else None, "spread": probe.spread if finite else None,
    }  # fmt: skip
    return start, about


def _described(source: Any, model: Model) -> dict[str, Any]:
    """What a run keeps about where it came from."""
    where = source.path if isinstance(source, Run) else source
    weights = model.provenance.get("weights") or {}
    known = len(model.classes) if model.classes is not None else find_head(model.graph).outputs
    name = weights.get("file") or model.provenance.get("dataset") or "a model in memory"
    name = Path(where).name if isinstance(where, (str, os.PathLike)) else name
    return {"from": name, "network": model.name, "classes": known, **({"weights": weights} if weights else {})}


def _short(model: Model, frozen: Sequence[str]) -> Sequence[str]:
    """Frozen paths as few prefixes, where whole nodes are frozen."""
    nodes = [node for node in model.graph.nodes.values() if node.parameters]
    whole = [node.name for node in nodes if set(node.parameters) <= set(frozen)]
    rest = [path for path in frozen if path.rpartition(".")[0] not in whole]
    return (*prefixes((tuple(node.name for node in nodes),), whole), *rest)


def _where(data: Any, reading: Mapping[str, Any]) -> dict[str, Any]:
    """How the data are opened again; nothing for a data set in memory."""
    if isinstance(data, Dataset):
        return {}
    path = os.fspath(data)
    return {
        "data": str(Path(path).resolve()) if Path(path).exists() else path,
        "options": dict(reading),
    }
