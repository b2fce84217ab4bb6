"""Which measurements there are, and one after the other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import fovea
from fovea.bench import inference, training
from fovea.bench.layers import layers, totals
from fovea.bench.machine import LOADED, PEERS, Watch, facts, installed
from fovea.bench.networks import INFERENCE_BATCHES, NAMES, TRAIN_BATCH
from fovea.bench.rows import Row, work_of
from fovea.bench.timing import in_turn
from fovea.engines.registry import get_engine
from fovea.errors import ConfigError, FoveaError

__all__ = ["MODES", "PRECISIONS", "Bench", "Settings", "measurements"]

MODES = ("train", "inference")
PRECISIONS = ("fp32", "bf16", "int8")
MOST_STEPS = {"train": 20, "inference": 2000}
"""Steps of one turn, at most."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How long to measure: turns of each side, seconds after which no turn begins, runs of the profile of layers."""

    rounds: int = 10
    limit: float = 25.0
    profile_runs: int = 10
    peak_seconds: float = 0.2

    @classmethod
    def quick(cls) -> Settings:
        """A first impression: seconds instead of minutes."""
        return cls(rounds=2, limit=2.0, profile_runs=3, peak_seconds=0.02)


@dataclass(frozen=True)
class Measurement:
    """What one row of the table is about."""

    network: str
    mode: str
    precision: str
    batch: int


def measurements(
    names: Sequence[str] = (), mode: str | None = None, precision: str | None = None, batch: int | None = None
) -> list[Measurement]:
    """Everything that was asked for; what was left out means all of it. Raises ConfigError.

    int8 is for inference alone. A precision that the native engine lacks is left out, unless it was named.
    """
    for option, value, known in (
        *(("bench", name, NAMES) for name in names), ("--mode", mode, MODES), ("--precision", precision, PRECISIONS),
    ):  # fmt: skip
        if value is not None and value not in known:
            raise ConfigError(option, f"expected one of {', '.join(known)}, got {value!r}; choose one of them")
    if precision == "int8" and mode == "train":
        raise ConfigError("--precision", "expected fp32 or bf16 for training, got int8; it is for inference alone")
    if batch is not None and batch < 1:
        raise ConfigError("--batch", f"expected at least 1, got {batch}; leave it out for the usual sizes")
    available = get_engine("native").precisions
    precisions = [precision] if precision else [one for one in PRECISIONS if one in available]
    return [
        Measurement(name, one_mode, one_precision, size)
        for one_mode in ([mode] if mode else MODES)
        for one_precision in precisions
        if one_mode == "inference" or one_precision != "int8"
        for name in names or NAMES
        for size in ([batch] if batch else [TRAIN_BATCH[name]] if one_mode == "train" else INFERENCE_BATCHES)
    ]


class Bench:
    """One run of the bench: it measures the machine first, and looks at it again after each measurement."""

    def __init__(self, settings: Settings, threads: int | None, say: Say) -> None:
        if threads is not None:
            fovea.set_threads(threads)
        self.settings, self.say = settings, say
        self.threads = fovea.get_threads()
        self.peers = installed()
        self.machine: dict[str, Any] = facts(self.threads, self.peers)
        self.watch = Watch(settings.peak_seconds, settings.peak_seconds / 4)
        self._look()
        if "torch" in self.peers:
            import torch

            torch.set_num_threads(self.threads)

    def _look(self) -> dict[str, float]:
        """The speed now; the rows share what is known of the machine."""
        speed = self.watch.look()
        peak = self.watch.peak
        self.machine.update({f"peak_{name}": round(rate.best, 1) for name, rate in peak.operations.items()})
        self.machine["gbytes"] = round(peak.gbytes, 1)
        return speed

    def introduction(self) -> list[str]:
        """What the figures depend on, in lines."""
        known = ("cpu", "cores", "threads", "load_before", "date", "fovea", *PEERS)
        lines = [", ".join(f"{key} {self.machine[key]}" for key in known if key in self.machine)]
        if self.machine["load_before"] > LOADED:
            lines.append(f"load average {self.machine['load_before']}: other programs are running; do not trust times")
        missing = [name for name in PEERS if name not in self.peers]
        if missing:
            lines.append(f"not installed: {', '.join(missing)}; for comparison: pip install 'fovea[bench]'")
        if "torch" in missing and len(missing) < len(PEERS):
            lines.append("ONNX Runtime and OpenVINO read the networks from files that PyTorch writes: they stay out")
        return [*lines, self.watch.introduction()]

    def measure(self, one: Measurement, with_layers: bool = False) -> Row:
        """Verify, then time. Raises EngineError when the sides disagree or the engine lacks the precision."""
        if one.mode == "train":
            plan, steps, errors = training.prepare(one.network, one.batch, one.precision, self.peers)
        else:
            plan, steps, errors = inference.prepare(one.network, one.batch, one.precision, self.peers, self.threads)
        told = ", ".join(f"{key} {value:.1e}" for key, value in errors.items())
        title = f"{one.network}, batch {one.batch}, {one.mode}, {one.precision}"
        self.say(f"{title}: " + (f"verified, relative errors: {told}" if errors else "no peer to compare with"))
        settings = self.settings
        times = in_turn(list(steps.values()), settings.rounds, MOST_STEPS[one.mode], settings.limit)
        speed = self._look()
        peak = self.watch.peak
        found = {side: 1e3 * statistics.median(each) for side, each in zip(steps, times, strict=True)}
        own = found.pop("ours")
        peer = min(found, key=found.__getitem__) if found else None
        return Row(
            network=one.network, batch=one.batch, mode=one.mode, precision=one.precision, ours_ms=own, peer=peer,
            peer_ms=found[peer] if peer else None, ratio=found[peer] / own if peer else None,
            runs=min(map(len, times)), peers=found, errors=errors, speed=speed, machine=self.machine,
            work=work_of(*totals(plan, one.mode), own, peak.of(one.precision), peak.gbytes),
            layers=layers(plan, steps["ours"], settings.profile_runs, one.precision, peak, self.peers)
            if with_layers else [],
        )  # fmt: skip

    def run(self, wanted: Sequence[Measurement], with_layers: bool = False) -> tuple[list[Row], list[FoveaError]]:
        """All measurements; one that fails is told and does not end the others."""
        rows, failures = [], []
        for one in wanted:
            try:
                rows.append(self.measure(one, with_layers))
            except FoveaError as error:
                self.say(str(error))
                failures.append(error)
        return rows, failures
