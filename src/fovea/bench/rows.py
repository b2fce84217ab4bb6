"""The figures as rows: JSON, a table for the terminal, Markdown for the documentation."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fovea.errors import ConfigError

__all__ = ["Row", "markdown", "read_rows", "table", "work_of", "write_rows"]


@dataclass(frozen=True)
class Row:
    """One network at one batch, mode and precision: medians over at least ``runs`` steps of each side.

    ``peer``: the fastest of ``peers`` (milliseconds by name) at this precision, None when none is installed; ``ratio``
    is peer_ms / ours_ms. ``errors``: what the verification found. ``work``: see ``work_of``; ``speed``: the machine
    after the measurement; ``layers``: one entry for each instruction, when asked for.
    """

    network: str
    batch: int
    mode: str
    precision: str
    ours_ms: float
    peer: str | None
    peer_ms: float | None
    ratio: float | None
    runs: int
    peers: dict[str, float]
    errors: dict[str, float]
    work: dict[str, float]
    speed: dict[str, float] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)


def work_of(operations: float, moved: float, ms: float, peak: float, gbytes: float) -> dict[str, float]:
    """GFLOP/s, their share of the measured peak, GB/s, their share of the measured bandwidth.

    Both may exceed 1: Winograd's algorithm multiplies less than the formula that is counted, caches are faster than
    memory.
    """
    rate, flow = operations / ms * 1e-6, moved / ms * 1e-6
    return {"gflops": rate, "peak_share": rate / peak, "gbytes_per_s": flow, "bandwidth_share": flow / gbytes}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """A list of objects."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """What ``write_rows`` wrote. Raises ConfigError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names = {one.name for one in fields(Row)}
        return [Row(**{key: value for key, value in row.items() if key in names}) for row in found]
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(str(path), f"expected rows that `fovea bench --json` wrote, got: {error}") from None


def table(rows: Sequence[Row]) -> str:
    """All rows, and the geometric mean of each mode and precision that has ratios."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row.peers))
    head = (
        f"{'network':12} {'batch':>5} {'mode':9} {'prec.':5} {'ours ms':>9} {'GFLOP/s':>8} {'% peak':>6} {'% mem':>6} "
        + " ".join(f"{peer:>13}" for peer in peers)
        + f" {'ratio':>6} {'runs':>5}"
    )
    lines = [head]
    for row in rows:
        columns = " ".join(f"{row.peers[peer]:13.3f}" if peer in row.peers else f"{'-':>13}" for peer in peers)
        lines.append(
            f"{row.network:12} {row.batch:5d} {row.mode:9} {row.precision:5} {row.ours_ms:9.3f} "
            f"{row.work['gflops']:8.1f} {100 * row.work['peak_share']:6.0f} {100 * row.work['bandwidth_share']:6.0f} "
            f"{columns}{' ' if peers else ''}{_number(row.ratio):>6} {row.runs:5d}"
        )
    return "\n".join([*lines, *(f"geometric mean of the ratios, {name}: {mean:.2f}" for name, mean in means(rows))])


def means(rows: Sequence[Row]) -> list[tuple[str, float]]:
    """(mode and precision, geometric mean of its ratios) in the order of the rows."""
    kinds: dict[str, list[float]] = {}
    for row in rows:
        if row.ratio is not None:
            kinds.setdefault(f"{row.mode} {row.precision}", []).append(row.ratio)
    return [(kind, statistics.geometric_mean(ratios)) for kind, ratios in kinds.items()]


def markdown(rows: Sequence[Row]) -> str:
    """The machine in a sentence, one table for each mode and precision, for docs/performance.md."""
    lines = [_machine(rows)] if rows else []
    kinds = dict.fromkeys((row.mode, row.precision) for row in rows)
    averages = dict(means(rows))
    for mode, precision in kinds:
        own = [row for row in rows if (row.mode, row.precision) == (mode, precision)]
        peers = list(dict.fromkeys(peer for row in own for peer in row.peers))
        what = {"train": "Training step", "inference": "Inference"}[mode]
        lines += ["", f"{what}, {precision}", ""]
        lines.append(
            f"| network | batch | fovea ms | {''.join(f'{peer} ms | ' for peer in peers)}ratio | % of peak | runs |"
        )
        lines.append("|---|" + "---:|" * (5 + len(peers)))
        for row in own:
            columns = "".join(f"{_ms(row.peers[peer]) if peer in row.peers else '-'} | " for peer in peers)
            share = f"{100 * row.work['peak_share']:.0f}"
            lines.append(
                f"| {row.network} | {row.batch} | {_ms(row.ours_ms)} | {columns}{_number(row.ratio)} | {share} | "
                f"{row.runs} |"
            )
        if f"{mode} {precision}" in averages:
            lines += ["", f"Geometric mean of the ratios: {averages[f'{mode} {precision}']:.2f}."]
    return "\n".join(lines)


def _machine(rows: Sequence[Row]) -> str:
    setting = dict(rows[0].machine)
    peaks = [f"{value:.0f} {key.removeprefix('peak_')}" for key, value in setting.items() if key.startswith("peak_")]
    versions = [f"{key} {setting[key]}" for key in ("fovea", "torch", "onnxruntime", "openvino") if key in setting]
    return (
        f"{setting.get('cpu', 'CPU')}, {setting.get('threads', '?')} threads, {setting.get('date', '')}. Measured "
        f"peak, GFLOP/s: {', '.join(peaks)}; memory {setting.get('gbytes', 0):.0f} GB/s. "
        f"Versions: {', '.join(versions)}. Medians; ratio = the fastest peer's time / fovea's: above 1 fovea is faster."
    )


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
