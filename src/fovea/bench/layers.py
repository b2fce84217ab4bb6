"""What each instruction of a plan makes of the machine, beside PyTorch's same convolution alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fovea.bench.rows import work_of
from fovea.bench.timing import Step
from fovea.engines.base import Plan
from fovea.engines.native.peak import Peak
from fovea.engines.native.plan import NativePlan
from fovea.engines.native.profile import profile

__all__ = ["PASSES", "layer_table", "layers", "totals"]

PASSES = ("forward", "backward data", "backward weight")
"""Of convolutions and dense layers, which PyTorch can run alone."""
SECTIONS = {"train": ("forward", "loss", "loss_backward", "update"), "inference": ("forward",)}
"""Of a plan, that one step runs."""


def layers(
    plan: Plan, step: Step, runs: int, precision: str, peak: Peak, peers: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One entry for each instruction that a step runs: what, how long, which rates; ``torch_ms`` where it can tell.

    PyTorch runs the same convolution alone and again and again, so its data may still be in a cache: a little in its
    favour.
    """
    assert isinstance(plan, NativePlan)
    found = []
    for row in profile(plan, step, runs):
        work = work_of(row["operations"], row["bytes"], row["ms"], peak.of(precision), peak.gbytes)
        kept = {key: row[key] for key in ("pass", "node", "kernel", "algorithm", "shape", "operations", "bytes", "ms")}
        found.append({**kept, **work, "sizes": row["sizes"]})
    if "torch" in peers:
        _beside_torch(found, plan.spec.batch_size, precision)
    return found


def _beside_torch(found: Sequence[dict[str, Any]], n: int, precision: str) -> None:
    from fovea.bench.torch_side import product_seconds, product_step

    known: dict[tuple[Any, ...], float | None] = {}
    for entry in found:
        sizes = tuple(entry["sizes"][:21])
        key = (entry["pass"], sizes)
        if not entry["kernel"].startswith("conv_") or entry["pass"] not in PASSES:
            continue
        if key not in known:
            step = product_step(sizes, entry["pass"], n, precision)
            known[key] = None if step is None else 1e3 * product_seconds(step)
        if known[key] is not None:
            entry["torch_ms"] = known[key]


def totals(plan: Plan, mode: str) -> tuple[int, int]:
    """Operations and bytes of one step; call it after one, when the update is there."""
    rows = [row for row in plan.describe() if row["section"] in SECTIONS[mode]]
    return sum(row["operations"] for row in rows), sum(row["bytes"] for row in rows)


def layer_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The entries as text, in the order in which they run."""
    whole = sum(entry["ms"] for entry in entries)
    compared = any("torch_ms" in entry for entry in entries)
    lines = [
        f"{'layer':34} {'pass':15} {'kernel':24} {'algorithm':11} {'shape':>13} {'ms':>8} {'share':>6} {'GFLOP/s':>8} "
        f"{'% peak':>6} {'MB':>8} {'% mem':>6}" + (f" {'torch':>6}" if compared else "")
    ]
    for entry in entries:
        product = entry["operations"] > 0
        shape = "x".join(map(str, entry["shape"]))
        rate = f"{entry['gflops']:8.1f} {100 * entry['peak_share']:6.0f}" if product else f"{'':15}"
        ratio = f" {entry['torch_ms'] / entry['ms']:6.2f}" if "torch_ms" in entry else ""
        lines.append(
            f"{entry['node']:34} {entry['pass']:15} {entry['kernel']:24} {entry['algorithm']:11} {shape:>13} "
            f"{entry['ms']:8.4f} {entry['ms'] / whole:6.1%} {rate} {entry['bytes'] / 1e6:8.3f} "
            f"{100 * entry['bandwidth_share']:6.0f}{ratio}".rstrip()
        )
    return "\n".join([*lines, f"{whole:.3f} ms in {len(entries)} instructions"])
