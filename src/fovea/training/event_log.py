"""A training's log as TensorBoard event files, written by TensorBoard's own library (extra "log")."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.errors import MissingExtra

__all__ = ["FOLDER", "EventLog", "check_log_to", "event_logs"]

FOLDER = "tensorboard"
"""In the run folder: what ``tensorboard --logdir`` is pointed at (or at the folder of all runs)."""
_PLACES = {  # where a value of the log is shown; train_ and val_ names of an epoch lie side by side
    "loss": "step/loss", "lr": "step/lr", "grad_norm": "step/grad_norm", "images_per_second": "step/images_per_second",
    "wait_share": "epoch/wait_share", "seconds": "epoch/seconds",
}  # fmt: skip


class EventLog:
    """A callback that writes every number of a line under the step that the line belongs to.

    A resumed run drops what was logged after its checkpoint: TensorBoard is told to forget those steps.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Write one line of the log."""
        if line.get("event") not in ("start", "step", "epoch"):
            return
        protocol = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        values = [
            protocol.Summary.Value(tag=tag, simple_value=float(line[name]))
            for name, tag in _tags(line).items()
            if isinstance(line[name], (int, float)) and not isinstance(line[name], bool)
        ]
        step = int(line.get("step", 0))
        if self._writer is None:
            self._open(step)
        self._write(step, summary=protocol.Summary(value=values))

    def _open(self, step: int) -> None:
        events = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._writer = events.EventFileWriter(str(self._folder), flush_secs=10)
        session = importlib.import_module("tensorboard.compat.proto.event_pb2").SessionLog
        self._write(step, session_log=session(status=session.START))

    def _write(self, step: int, **content: Any) -> None:
        event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
        self._writer.add_event(event(step=step, wall_time=time.time(), **content))

    def close(self) -> None:
        """Bring everything to the disk."""
        if self._writer is not None:
            self._writer.close()


def _tags(line: Mapping[str, Any]) -> dict[str, str]:
    """Name in the line -> tag: "loss" of a step is step/loss, "val_accuracy" of an epoch is val/accuracy."""
    if line["event"] == "step":
        return {name: _PLACES[name] for name in line if name in _PLACES}
    tags = {name: _PLACES[name] for name in ("wait_share", "seconds") if name in line}
    for group in ("train", "val"):
        start = f"{group}_"
        tags |= {name: f"{group}/{name[len(start) :]}" for name in line if name.startswith(start)}
    return tags


def check_log_to(log_to: str | None) -> None:
    """Raise MissingExtra when the library that writes such a log is not installed."""
    if log_to == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise MissingExtra("log_to", "log", "logging to TensorBoard")


@contextlib.contextmanager
def event_logs(log_to: str | None, folder: Path) -> Iterator[Sequence[EventLog]]:
    """The callbacks of a training that logs there, none for None; closed at its end."""
    if log_to is None:
        yield ()
        return
    log = EventLog(folder / FOLDER)
    try:
        yield (log,)
    finally:
        log.close()
