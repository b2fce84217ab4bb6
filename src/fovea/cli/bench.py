"""``fovea bench``: how fast this machine trains and infers, beside what else is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.bench.rows import Row

__all__ = ["bench"]


def bench(
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="[NETWORKS]...", help="Default: all five.", show_default=False)
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="train|inference", help="Default: both.")] = None,
    precision: Annotated[str | None, typer.Option(metavar="fp32|bf16|int8", help="Default: all there are.")] = None,
    batch: Annotated[int | None, typer.Option(help="Default: 128 or 16 in training, 1 and 32 in inference.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of every side (default: every core).")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Each layer and pass beside the machine's limits.")] = False,
    rounds: Annotated[int | None, typer.Option(help="Turns of each side (default: 10).", show_default=False)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first impression: two short turns.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows there, too.")] = None,
    roofline: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the layers of one network, mode and precision.")
    ] = None,
) -> None:
    """Time whole training steps and inferences beside PyTorch, ONNX Runtime and OpenVINO, where they are installed.

    It first verifies that all sides compute the same, then they take turns; times are medians, ratios the fastest
    peer's time divided by ours. All of it takes up to 20 minutes. The peers: pip install 'fovea[bench]'.
    """
    from dataclasses import replace

    from fovea.bench.layers import layer_table
    from fovea.bench.rows import table, write_rows
    from fovea.bench.run import Bench, Settings, measurements
    from fovea.progress import say

    wanted = measurements(networks or (), mode, precision, batch)
    if roofline is not None and len(wanted) != 1:
        raise ConfigError(
            "--roofline",
            f"expected one measurement, got {len(wanted)}; name a network, and give --mode, --precision and --batch",
        )
    if rounds is not None and rounds < 1:
        raise ConfigError("--rounds", f"expected at least 1, got {rounds}; more take longer and vary less")
    if threads is not None and threads < 1:
        raise ConfigError("--threads", f"expected at least 1, got {threads}; leave it out to use every core")
    for path in (json, roofline):
        if path is not None and not path.resolve().parent.is_dir():
            raise ConfigError(str(path), "expected a file in a folder that exists, found none; create the folder")
    settings = Settings.quick() if quick else Settings()
    session = Bench(replace(settings, rounds=rounds or settings.rounds), threads, say)
    for line in session.introduction():
        say(line)
    rows, failures = session.run(wanted, with_layers=layers or roofline is not None)
    if rows:
        print(table(rows))
    if layers:
        for row in rows:
            print(f"\n{row.network}, batch {row.batch}, {row.mode}, {row.precision}\n{layer_table(row.layers)}")
    for warning in session.watch.warnings():
        say(warning)
    if json is not None:
        write_rows(json, rows)
    if roofline is not None and rows:
        _draw(rows[0], session.watch.peak.of(rows[0].precision), session.watch.peak.gbytes, roofline)
    if failures:
        raise failures[0]


def _draw(row: Row, gflops: float, gbytes: float, path: Path) -> None:
    from fovea.bench.roofline import roofline_svg

    path.write_text(roofline_svg(row, gflops, gbytes), encoding="utf-8")
