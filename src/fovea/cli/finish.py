"""What a training says at its end: the result, where everything lies, what to try next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from fovea.cli.output import duration
from fovea.progress import speaks

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.run import Run

__all__ = ["finish", "result"]


def finish(run: Run, data: Dataset) -> None:
    """Print the result, write the report when it is not there yet, and name the next steps."""
    from fovea import report

    if not speaks():
        return
    path = run.report_path if run.report_path.exists() else report.write(run, data)
    print(result(run))
    print(f"run     {run.path}")
    print(f"report  {path}")
    where = shlex.quote(str(run.path))
    source = shlex.quote(run.config.get("record", {}).get("data") or "DATA")
    print("next:")
    if data.test is not None:
        print(f"  fovea evaluate {where} {source}     the test split, read for the first time")
    print(f"  fovea {'detect' if data.task == 'detection' else 'predict'} {where} FILE...")
    print(f"  fovea summary {where}")


def result(run: Run) -> str:
    """One line: how good the saved model is, and on what."""
    metrics = run.metrics or {}
    found = metrics.get(metrics.get("split") or "val") or {}
    names = {
        "accuracy": "accuracy", "map": "mAP@[.50:.95]", "map50": "mAP@.50", "rmse": "RMSE", "mae": "MAE", "r2": "R^2",
        "loss": "loss",
    }  # fmt: skip
    numbers = [
        f"{text} {found[name]:.2%}" if name == "accuracy" else f"{text} {found[name]:.4g}"
        for name, text in names.items()
        if name in found
    ]
    said = f"validation: {', '.join(numbers)}" if numbers else "no validation split: the last weights were kept"
    best = f", best epoch {metrics['best_epoch']} of {metrics['epochs']}" if metrics.get("epochs") else ""
    took = f", {duration(float(metrics.get('seconds') or 0.0))}" if metrics.get("steps") else ""
    return f"{said}{best}{took}"
