"""Progress for people: a live bar on a terminal, plain lines where the output is piped.

Everything goes to stderr, so that what a command prints as its result can be piped on. On a terminal a bar moves while
work goes on, with speed, time left and the current metrics; when it ends, one line stays::

    epoch 3/10   50000 images   12.3 s   4065 images/s   loss 0.3214   accuracy 0.8912

Piped output (a log file, a CI job) gets that line alone. Text is drawn at most ten times a second, whatever the number
of updates: an update between two drawings costs about a microsecond.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_REDRAW_SECONDS = 0.1
_BAR_WIDTH = 20

# The one live drawing of this process. A bar that opens inside another joins it, since a terminal has one last line.
_screen: Progress | None = None


def bar(total: int, description: str, *, unit: str = "images", bars_to_come: int = 0) -> Bar:
    """A bar over `total` units of work, to be used as a context manager.

    `bars_to_come` says how many bars of the same size follow (the remaining epochs): the time left
    then covers them too.

    >>> with bar(100, "epoch 1/1") as epoch:
    ...     epoch.update(64, loss=0.71)
    ...     epoch.update(36, loss=0.65)
    """
    return Bar(total, description, unit=unit, bars_to_come=bars_to_come)


def speaks() -> bool:
    """Whether this process talks to people: of those that torchrun has started, the first alone does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print one message for the person at the terminal; a live bar stays below it."""
    if not speaks():
        return
    if _screen is not None:
        _screen.console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        print(text, file=sys.stderr, flush=True)


def is_live() -> bool:
    """Whether bars move: stderr is a terminal that can redraw a line."""
    return speaks() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def seconds_as_text(seconds: float) -> str:
    """A duration as a person says it: `8.2 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Bar:
    """The progress of one piece of work; made by `bar`."""

    def __init__(self, total: int, description: str, *, unit: str, bars_to_come: int) -> None:
        self.total = total
        self.description = description
        self.unit = unit
        self.bars_to_come = bars_to_come
        self.done = 0
        self.metrics: dict[str, float | str] = {}
        self._start = self._drawn = time.perf_counter()
        self._task: TaskID | None = None
        self._owns_screen = False

    def update(self, count: int = 1, **metrics: float | str) -> None:
        """Count `count` more units as done and remember the latest value of each metric."""
        self.done += count
        self.metrics.update(metrics)
        if self._task is not None:
            now = time.perf_counter()
            if now - self._drawn >= _REDRAW_SECONDS:
                self._drawn = now
                self._draw()

    @property
    def seconds(self) -> float:
        """Seconds since the bar opened."""
        return time.perf_counter() - self._start

    def line(self) -> str:
        """What stays when the bar ends: work done, time, speed and the latest metrics."""
        seconds = self.seconds
        parts = [f"{self.description}", f"{self.done} {self.unit}", seconds_as_text(seconds), self._speed(seconds)]
        return "   ".join(parts + self._metric_texts())

    def __enter__(self) -> Bar:
        global _screen
        self._start = self._drawn = time.perf_counter()
        if is_live():
            if _screen is None:
                _screen, self._owns_screen = _new_screen(), True
                _screen.start()
            self._task = _screen.add_task(self.description, total=self.total, percent="", speed="", left="", metrics="")
            _screen.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _screen
        if self._task is not None and _screen is not None:
            _screen.remove_task(self._task)
            self._task = None
            if self._owns_screen:
                _screen.stop()
                _screen = None
        if error is None:  # work that failed or was interrupted has no result to report
            say(self.line())

    def _draw(self) -> None:
        if _screen is None or self._task is None:
            return
        seconds = self.seconds
        share = self.done / self.total if self.total else 1.0
        left = seconds / share * (1 + self.bars_to_come) - seconds if share > 0 else None
        percent, speed = f"{share:.0%}", self._speed(seconds)
        time_left = "" if left is None else f"{seconds_as_text(max(left, 0.0))} left"
        # What does not fit on one line is cut from the metrics, never from the speed or the time left.
        taken = len(self.description) + _BAR_WIDTH + len(percent) + len(speed) + len(time_left) + 6
        metrics = "  ".join(self._metric_texts())[: max(_screen.console.width - taken, 0)]
        _screen.update(self._task, completed=self.done, percent=percent, speed=speed, left=time_left, metrics=metrics)
        _screen.refresh()

    def _speed(self, seconds: float) -> str:
        speed = self.done / max(seconds, 1e-9)
        return f"{speed:.0f} {self.unit}/s" if speed >= 100 else f"{speed:.3g} {self.unit}/s"

    def _metric_texts(self) -> list[str]:
        return [f"{name} {_value_as_text(value)}" for name, value in self.metrics.items()]


def _value_as_text(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value == 0 or not 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{value:.4f}"


def _new_screen() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    def text(field: str, style: str = "none") -> TextColumn:
        return TextColumn(field, style=style, markup=False, table_column=Column(no_wrap=True))

    # No refresh thread of rich's own: it would wake up inside the training step. Bar.update draws.
    return Progress(
        text("{task.description}"),
        BarColumn(bar_width=_BAR_WIDTH),
        text("{task.fields[percent]}"),
        text("{task.fields[speed]}", "cyan"),
        text("{task.fields[left]}", "magenta"),
        text("{task.fields[metrics]}", "green"),
        console=Console(file=sys.stderr, force_terminal=True),
        auto_refresh=False,
        transient=True,
    )
