"""``fovea explain MODEL [IMAGE...] --report PAGE.html``: everything about a network on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fovea.cli.arguments import load_model
from fovea.cli.explain.asked import Asked
from fovea.cli.explain.learned import open_data_for
from fovea.cli.output import duration, print_json
from fovea.errors import ConfigError

__all__ = ["ReportOption", "SecondsOption", "run"]

ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="PAGE.html", help="Write a tour of the network: one page, with IMAGES and --data."
    ),
]
SecondsOption = Annotated[float | None, typer.Option("--seconds", help="With --report: how long it may take (300).")]


def run(asked: Asked, page: Path, data: str | None, seconds: float | None, seed: int) -> None:
    """Write the tour."""
    import time

    from fovea.report.tour import write

    if page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError("--report", f"expected a file that ends in .html, got {page}; name one")
    model = load_model(asked.model)
    opened, labelled = (None, False) if data is None else open_data_for(model, data)
    begun = time.monotonic()
    limit = 300.0 if seconds is None else seconds
    written = write(model, page, asked.images, opened, labelled=labelled, seconds=limit, seed=seed, engine=asked.engine)
    size = written.stat().st_size
    if asked.as_json:
        print_json({"files": [str(written)], "bytes": size})
    else:
        print(f"wrote {written} ({size / 1e6:.1f} MB) in {duration(time.monotonic() - begun)}")
