"""``fovea quantize``: a trained model as int8, with what it costs and what it gains."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli import source
from fovea.cli.arguments import MODEL, load_model, set_threads
from fovea.cli.evaluate import recorded_data
from fovea.cli.output import columns, print_json
from fovea.cli.source import data_options, open_data
from fovea.errors import ConfigError, DataError
from fovea.progress import say

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.model import Model
    from fovea.run import Run

__all__ = ["quantize"]

_BATCH, _SECONDS = 32, 0.5


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL, show_default=False)],
    data: Annotated[str | None, source.DataName] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write (default: MODEL with .int8 before its suffix).")
    ] = None,
    images: Annotated[int, typer.Option(help="Samples that the ranges of activations are measured on.")] = 512,
    method: Annotated[str, typer.Option(help="How ranges are chosen: mse, percentile or minmax.")] = "mse",
    winograd: Annotated[
        bool, typer.Option(help="Wide 3x3 layers by Winograd's algorithm: faster, with more rounding error.")
    ] = True,
    length: source.Length = None,
    label_pattern: source.LabelPattern = None,
    test_where: source.TestWhere = None,
    kind: source.Kind = None,
    max_bad: source.MaxBad = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default: every core).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """A model that computes in int8: a quarter of the size, and faster.

    Ranges of activations are measured on training samples; both models are compared on the test split (validation where
    there is none). The new file is used like any other model, but cannot be trained.
    """
    import fovea
    from fovea.run import Run

    set_threads(threads)
    file = Path(model) / "model.safetensors" if Path(model).is_dir() else Path(model)
    run = Run(model) if Run.is_run(model) else None
    before = run.model if run else load_model(model)
    target = out or file.with_suffix(f".int8{file.suffix}")
    if target.resolve() == file.resolve():
        raise ConfigError("--out", f"expected another file than the model itself, got {target}; choose another name")
    opened, held_out = _data(run, data, before, {
        "length": length, "label_pattern": label_pattern, "test_where": test_where, "kind": kind, "max_bad": max_bad,
    })  # fmt: skip
    after = fovea.quantize(before, opened, images=images, method=method, winograd=winograd)
    assert after.quantization is not None
    after.save(target)
    result = _compare(before, after, opened, held_out)
    result |= {"file": str(target), "calibration": dict(after.quantization.about), "split": held_out}
    for side, path in zip(result["sides"], (file, target), strict=True):
        side["bytes"] = path.stat().st_size
    if as_json:
        print_json(result)
    else:
        _print(result)


def _data(run: Run | None, data: str | None, model: Model, given: dict[str, Any]) -> tuple[Dataset, str]:
    """The data, and the split that the comparison uses."""
    path, options = recorded_data("quantize", run, data, data_options(**given, size=None))
    options.setdefault("task", model.task.kind)
    opened = open_data(path, options)
    if opened.test is None and opened.val is None:
        raise DataError(path, "expected samples to compare on beside those of the calibration; give a larger data set")
    return opened, "val" if opened.test is None else "test"


def _compare(before: Model, after: Model, data: Dataset, split: str) -> dict[str, Any]:
    import fovea

    metric, _ = before.task.primary
    sides: list[dict[str, Any]] = []
    for precision, one in (("fp32", before), ("int8", after)):
        figures = fovea.evaluate(one, data, split)
        kept = {name: figures[name] for name in ("loss", metric) if name in figures}  # boxes have no loss here
        sides.append({"precision": precision, **kept})
    inputs = data.prepared(before.preprocessing).split(split).inputs[:_BATCH]  # type: ignore[arg-type]  # evaluated
    plans = [one.compile(None, len(inputs), pixels=True, input_shape=inputs.shape[1:]) for one in (before, after)]
    times: list[list[float]] = [[], []]
    for plan in plans:
        plan.forward(inputs)
    end = time.perf_counter() + 2 * _SECONDS
    while time.perf_counter() < end or len(times[1]) < 3:  # in turn: what slows the machine down slows both
        for plan, own in zip(plans, times, strict=True):
            start = time.perf_counter()
            plan.forward(inputs)
            own.append(time.perf_counter() - start)
    for side, own in zip(sides, times, strict=True):
        side["images_per_second"] = len(inputs) / sorted(own)[len(own) // 2]
    layers = after.quantization.scales if after.quantization else {}
    return {"sides": sides, "metric": metric, "batch": len(inputs), "layers": len(layers)}


def _print(result: dict[str, Any]) -> None:
    before, after = result["sides"]
    metric, about = result["metric"], result["calibration"]
    rows = [
        ("file size", f"{before['bytes'] / 1e6:.2f} MB", f"{after['bytes'] / 1e6:.2f} MB"),
        (f"{metric} ({result['split']})", f"{before[metric]:.4f}", f"{after[metric]:.4f}"),
        *([("loss", f"{before['loss']:.4f}", f"{after['loss']:.4f}")] if metric != "loss" and "loss" in before else []),
        (f"images/s (batch {result['batch']})", *(f"{one['images_per_second']:,.0f}" for one in (before, after))),
    ]
    print(columns(["", "float32", "int8"], rows))
    say(f"{result['layers']} layers in int8, calibrated on {about['samples']} training samples ({about['method']})")
    print(f"\nwrote {result['file']}")
