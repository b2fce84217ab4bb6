"""Pictures with names in scripts that matplotlib's own font lacks."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font

from fovea.report.lettering import png

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def drawn(name: str) -> tuple[bytes, list[str]]:
    figure = Figure(figsize=(2, 1))
    FigureCanvasAgg(figure)
    text = figure.text(0, 0, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return png(figure), list(text.get_fontfamily())


def test_letters_come_from_another_font() -> None:
    """A letter of STIX, which matplotlib brings along, that its default font has not."""
    here = set(get_font(FONTS / "DejaVuSans.ttf").get_charmap())
    stix = get_font(FONTS / "STIXGeneral.ttf").get_charmap()
    other = next(code for code in stix if code > 0x300 and code not in here)
    assert len(drawn(chr(other))[1]) > 1
    assert len(drawn("Hündin")[1]) == 1


def test_letters_that_no_font_has_are_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fontManager, "ttflist", [])
    for _ in range(2):
        picture, _ = drawn("\u732b")
        assert picture.startswith(b"\x89PNG")
    assert capsys.readouterr().err == (
        "note: no font here has \u732b; pictures show boxes in their place until one is installed\n"
    )
