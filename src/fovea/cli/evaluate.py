"""``fovea evaluate``: how good a model is on data that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli import source
from fovea.cli.arguments import MODEL, Device, MinConfidence, Precision, load_model, set_threads
from fovea.cli.output import columns, print_json
from fovea.cli.source import data_options, open_data
from fovea.errors import ConfigError
from fovea.progress import say, speaks

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.run import Run

__all__ = ["evaluate", "recorded_data"]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL, show_default=False)],
    data: Annotated[str | None, source.DataName] = None,
    split: Annotated[str | None, typer.Option(help="test, val or train (default: test).")] = None,
    size: source.Size = None,
    length: source.Length = None,
    label_pattern: source.LabelPattern = None,
    test_where: source.TestWhere = None,
    kind: source.Kind = None,
    max_bad: source.MaxBad = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default: every core).")] = None,
    engine: Annotated[str | None, typer.Option(help="native, reference or torch (default: the fastest here).")] = None,
    device: Device = None,
    precision: Precision = None,
    tta: Annotated[
        str | None,
        typer.Option(
            metavar="flip|five-crop|ten-crop|looks",
            help="Average over 2, 5 or 10 views; of a detector looks: several, whose boxes are fused.",
        ),
    ] = None,
    min_confidence: MinConfidence = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Accuracy, loss and per-class results on the test split of DATA (of a run: by default the data it was trained on);
    of a detector COCO's mean average precision.

    DATA without a test split is evaluated whole when it is not what the model was trained on.
    """
    import fovea
    from fovea import report
    from fovea.run import Run

    set_threads(threads)
    subject: Any = Run(model) if Path(model).is_dir() else load_model(model)
    run = subject if isinstance(subject, Run) else None
    given = data_options(
        size=size, length=length, label_pattern=label_pattern, test_where=test_where, kind=kind, max_bad=max_bad
    )
    path, options = recorded_data("evaluate", run, data, given)
    used = run.model if run else subject
    options.setdefault("task", used.task.kind)  # whole numbers may be classes or values: the model knows
    fingerprint = used.provenance.get("fingerprint")
    chosen, found = _choose(path, options, split, fingerprint)
    result = fovea.evaluate(
        subject,
        chosen,
        found,
        engine=engine,
        device=device,
        precision=precision,
        tta=tta,
        min_confidence=min_confidence,
    )
    if not speaks():  # of several processes the first says and writes what all have found
        return
    if run and chosen.fingerprint == fingerprint:
        report.write(run, chosen)  # it shows the test result beside the validation result
    if as_json:
        print_json(result)
    else:
        _print(result)


def recorded_data(command: str, run: Run | None, data: str | None, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """DATA and how to read it: as given, and as the run recorded it when it is the same data."""
    kept = (run.config.get("record") or {}) if run else {}
    own = kept.get("data")
    path = data or own
    if path is None:
        raise ConfigError(
            command, "expected DATA, got none and the model names none; name a folder, a file or a known set"
        )
    same = own is not None and (path == own or str(Path(path).resolve()) == own)
    return path, {**((kept.get("options") or {}) if same else {}), **given}


def _choose(path: str, options: dict[str, Any], split: str | None, fingerprint: str | None) -> tuple[Dataset, str]:
    """The data and the split to evaluate on."""
    data = open_data(path, options, stream=split != "train")  # what is evaluated is decoded whole
    if split is not None or data.test is not None:
        return data, split or "test"
    if data.fingerprint == fingerprint and data.val is not None:
        say(f"note: {data.name} has no test split; val was used to choose the epoch, so its figures are a little kind")
        return data, "val"
    if set(data.splits) == {"train"} or data.validation != "its own split":
        say(f"note: {data.name} has no splits of its own; all of its samples are used")
        return open_data(path, {**options, "val_fraction": 0.0}), "train"
    return data, "val"


def _print(result: dict[str, Any]) -> None:
    names = ("accuracy", "top5", "loss", "ece", "mae", "rmse", "r2", "map", "map50", "map75", "voc_map50")
    numbers = [(name, result[name]) for name in names if isinstance(result.get(name), float)]
    print(
        f"{result['n']} samples of {result['split']}: " + "   ".join(f"{name} {value:.4f}" for name, value in numbers)
    )
    if result.get("quarantined"):
        print(f"{result['quarantined']} more left out, since they cannot be read; fovea data check names them")
    if result.get("tta"):
        print(
            "boxes of several looks, fused" if result["tta"] == "looks" else f"mean over the views of {result['tta']}"
        )
    if result.get("answered"):
        print(_answered(result["answered"]))
    if "ar100" in result:
        print(_by_size(result))
    if result.get("per_class"):
        kept = (
            ("ap", "ap50", "precision", "recall", "f1", "score") if "map" in result else ("precision", "recall", "f1")
        )
        rows = [(name, *(one[key] for key in kept), int(one["support"])) for name, one in result["per_class"].items()]
        print()
        print(columns(["class", *kept, "objects" if "map" in result else "samples"], rows))
    if result.get("images_per_second"):
        print(f"\n{result['images_per_second']:.0f} images/s")


def _by_size(result: dict[str, Any]) -> str:
    """A detector's precision by the size of objects, and its recall by the number of boxes an image."""
    sizes = [(name, result.get(f"map_{name}")) for name in ("small", "medium", "large")]
    known = [f"map_{name} {value:.4f}" for name, value in sizes if value is not None]
    return "   ".join([*known, *(f"{name} {result[name]:.4f}" for name in ("ar1", "ar10", "ar100"))])


def _answered(found: dict[str, Any]) -> str:
    """How many samples an abstaining model answers, and how many of these rightly."""
    said = f"answered from {found['min_confidence']:.4g} on: {found['n']} samples, coverage {found['coverage']:.4f}"
    return said + ("" if found["accuracy"] is None else f", accuracy of these {found['accuracy']:.4f}")
