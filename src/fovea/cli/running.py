"""What the commands that train share: which options were given, what was found, how an interruption ends."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.errors import ConfigError
from fovea.progress import say

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.engines.base import Engine
    from fovea.engines.world import World

__all__ = ["class_weights_of", "command_line", "computes", "describe", "given", "interruptible"]


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def command_line(command: str, data: str, words: dict[str, Any]) -> str:
    """The command line that gives this run again, for the report."""
    parts = ["fovea", command, data]
    for name, value in words.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            parts.append(option)
        elif isinstance(value, list):
            parts += [part for item in value for part in (option, item)]
        elif value is not None and value is not False:
            parts += [option, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(parts)


def class_weights_of(text: str | None) -> Any:
    """``balanced``, or numbers such as ``1,1,4``. Raises ConfigError."""
    if text is None or text == "balanced":
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            "--class-weights", f"expected balanced or numbers such as 1,1,4, got {text!r}; give one a class"
        ) from None


def describe(data: Dataset) -> None:
    """Say what was found, so that a wrong guess is seen before the training and not after it."""
    sizes = ", ".join(f"{name} {split.listed}" for name, split in data.splits.items())
    shape = "x".join(map(str, data.input_shape))
    what = {"classification": "{} classes", "detection": "boxes of {} classes"}.get(data.task, "values")
    what = what.format(len(data.classes))
    say(f"data        {data.name}: {data.kind}s {shape}, {what}; {sizes}")
    say(f"validation  {data.validation}")
    from fovea.data.check import class_doubts

    for note in (*data.notes, *class_doubts(data)):
        say(f"note        {note}")


def computes(engine: Engine, world: World, device: str | None) -> None:
    """Say where PyTorch trains, where that is another place than the machine's CPU or one of several."""
    if engine.name != "torch":
        return
    several = f", {world.size} processes share every batch" if world.size > 1 else ""
    say(f"computes    PyTorch on {device or 'the CPU'}{several}")
    gpus = [] if device is not None else engine.devices()
    if gpus:
        say(f"note        {gpus[0]['name']} is here: --device cuda trains on it")


class interruptible:
    """Ctrl-c during a training says how to go on; options that were refused leave no empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            with contextlib.suppress(OSError):  # not empty: something was saved
                self.folder.rmdir()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            from fovea.run import CHECKPOINTS, LAST_FILE

            saved = (self.folder / CHECKPOINTS / LAST_FILE).exists() or (self.folder / LAST_FILE).exists()
            advice = f"continue with: fovea train --resume {self.folder}" if saved else "nothing was saved yet"
            say(f"[train] stopped; {advice}")
