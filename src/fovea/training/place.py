"""Where a training runs: its engine, its device, the processes that share it, the folder that it leaves."""

from __future__ import annotations

import os
from pathlib import Path

from fovea import progress
from fovea.data.dataset import Dataset
from fovea.engines.base import Engine
from fovea.engines.registry import get_engine
from fovea.engines.world import World, launch, launched_processes, may_restart, restarts
from fovea.errors import ConfigError, DataError, FoveaError
from fovea.model import Model
from fovea.run import Run
from fovea.training.checkpoint import graph_digest
from fovea.training.config import TrainConfig
from fovea.training.prepare import data_identity
from fovea.training.recorder import new_folder

__all__ = ["check_same", "engine_and_world", "folder_for", "goes_on", "note_other_world"]


def engine_and_world(engine: str | Engine | None, config: TrainConfig) -> tuple[Engine, World]:
    """The engine of a training, and the processes that train together.

    Where none is named: PyTorch's for several processes and for devices other than the CPU, else the fastest here.
    Raises EngineError for a device that is not here, and for several processes on an engine that knows of one;
    MissingExtra without PyTorch.
    """
    asked = engine if engine is not None else config.engine
    if asked is None and launched_processes() > 1:
        asked = "torch"
    chosen = get_engine(asked, config.device)
    world = chosen.join(config.device)
    options = {"compiled": config.compiled, "sync_batchnorm": config.sync_batchnorm and world.size > 1}
    used = {name: True for name, value in options.items() if value}
    return (chosen.configured(**used) if used else chosen), world


def goes_on(out: str | os.PathLike[str] | None, world: World) -> bool:
    """Whether ``out`` holds a run that this launch of torchrun began: its processes were started again."""
    return world.first(lambda: out is not None and _began(out))


def folder_for(out: str | os.PathLike[str] | None, name: str, world: World) -> Path:
    """The run folder, made by the first process, or one with a run that goes on.

    Raises ConfigError as ``new_folder`` does, and for no ``out`` where torchrun may start the processes again.
    """
    if out is None and may_restart():
        fix = "name it with out (--out), so that restarted processes find it"
        raise ConfigError("out", f"expected a run folder where torchrun may start processes again, got none; {fix}")
    return world.first(lambda: Path(out) if out is not None and _began(out) else new_folder(out, name))


def _began(folder: str | os.PathLike[str]) -> bool:
    if launch() is None or not Run.is_run(folder):
        return False
    run = Run(folder)
    return run.config.get("launch") == launch() and (restarts() > 0 or not run.finished)


def check_same(model: Model, data: Dataset, config: TrainConfig, world: World) -> None:
    """Raise, in every process, what differs between one of them and the first: a rank would train something else."""
    if world.size == 1:
        return
    own = {"data": data_identity(data), "network": graph_digest(model.graph), "options": config.recipe()}
    first = world.first(lambda: own)
    differing = [name for name in own if own[name] != first[name]]
    error: FoveaError | None = None
    if differing:
        what = " and ".join(differing)
        text = f"expected the same data, network and options in all {world.size} processes, got other {what}"
        where = f"process {world.rank}"
        fix = "start all of them with the same command, and the same files on every machine"
        error = (DataError if "data" in differing else ConfigError)(where, f"{text} than process 0; {fix}")
    world.agree(error)


def note_other_world(began: int, model: Model, config: TrainConfig, world: World) -> None:
    """Say that another number of processes continues a run, and what that changes."""
    if began == world.size:
        return
    statistics = any(node.op.kind == "batchnorm" for node in model.graph.nodes.values()) and not config.sync_batchnorm
    change = "batch norm sees other shares of each batch" if statistics else "the same up to rounding"
    now = "1 process continues" if world.size == 1 else f"{world.size} processes continue"
    before = "1 process" if began == 1 else f"{began} processes"
    progress.say(f"note: {before} began this run, {now} it: {change}")
