"""Progress: the line that stays, the live bar, and that neither disturbs the other."""

from __future__ import annotations

import io
import re

import pytest

from fovea import progress


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """What was written, without the codes that move the cursor or colour."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until the test moves clock[0]."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called in the test itself: pytest sets its own stderr after the fixtures."""
    stream = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stream


def test_piped_output_is_one_plain_line_a_bar(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with progress.bar(300, "epoch 1/2") as bar:
        for loss in (0.9, 0.5, 0.25):
            clock[0] += 1.0
            bar.update(100, loss=loss, lr=0.0001, best="conv1", epoch=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "epoch 1/2   300 images   3.0 s   100 images/s   loss 0.2500   lr 0.0001   best conv1   epoch 3\n"
    )


def test_live_bar_shows_speed_metrics_and_time_left_of_all_bars(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal = open_terminal(monkeypatch)
    with progress.bar(1000, "epoch 1/3", bars_to_come=2) as bar:
        clock[0] += 5.0
        bar.update(500, loss=0.5)
        shown = terminal.text()
        assert "epoch 1/3" in shown
        assert "50%" in shown
        assert "100 images/s" in shown
        assert "loss 0.5000" in shown
        assert "25.0 s left" in shown  # 5 s of this bar and 2 bars of 10 s
    assert terminal.text().rstrip().endswith("epoch 1/3   500 images   5.0 s   100 images/s   loss 0.5000")


def test_live_bar_draws_at_most_ten_times_a_second(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    terminal = open_terminal(monkeypatch)
    with progress.bar(1000, "work") as bar:
        before = len(terminal.getvalue())
        for _ in range(50):
            clock[0] += 0.001
            bar.update(1)
        assert len(terminal.getvalue()) == before
        clock[0] += 0.1
        bar.update(1)
        assert len(terminal.getvalue()) > before


def test_a_narrow_terminal_cuts_metrics_before_speed(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    with progress.bar(1000, "epoch 1/3") as bar:
        clock[0] += 5.0
        bar.update(500, loss=0.5, accuracy=0.9, precision=0.75, recall=0.6)
        shown = terminal.text().split("\r")[-1]
    assert "100 images/s" in shown
    assert "5.0 s left" in shown
    assert "recall" not in shown
    assert len(shown) <= 80


def test_messages_and_inner_bars_share_the_screen(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    terminal = open_terminal(monkeypatch)
    with progress.bar(10, "outer") as outer:
        progress.say("written [last] 50%")  # no markup: brackets stay
        with progress.bar(4, "inner", unit="files") as inner:
            clock[0] += 1.0
            inner.update(4)
        outer.update(10)
    lines = [line.strip() for line in terminal.text().splitlines()]
    assert "written [last] 50%" in lines
    assert "inner   4 files   1.0 s   4 files/s" in lines
    assert lines[-1] == "outer   10 images   1.0 s   10 images/s"


def test_work_that_fails_leaves_no_result_and_frees_the_screen(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal = open_terminal(monkeypatch)
    with pytest.raises(ValueError, match="broken"), progress.bar(10, "doomed"):
        raise ValueError("broken")
    assert "0 images" not in terminal.text()
    with progress.bar(1, "next") as bar:
        clock[0] += 1.0
        bar.update(1)
    assert terminal.text().rstrip().endswith("next   1 images   1.0 s   1 images/s")


def test_a_terminal_that_cannot_redraw_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with progress.bar(2, "plain") as bar:
        clock[0] += 1.0
        bar.update(2)
    assert terminal.getvalue() == "plain   2 images   1.0 s   2 images/s\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185.2, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert progress.seconds_as_text(seconds) == text
