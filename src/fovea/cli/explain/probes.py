"""``fovea explain MODEL --probes DATA``: how well a linear classifier tells the classes apart behind each block."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.cli.arguments import load_model
from fovea.cli.explain.asked import Asked
from fovea.cli.explain.learned import open_data_for
from fovea.cli.files import write
from fovea.cli.output import columns, print_json
from fovea.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.features import DepthProbes

__all__ = ["ProbesOption", "run"]

ProbesOption = Annotated[
    str | None,
    typer.Option("--probes", metavar="DATA", help="How well linear probes at each depth tell the classes of DATA."),
]


def run(asked: Asked, path: str, seed: int) -> None:
    """Make the probes, draw them, and print them as a table."""
    from fovea.features import probe_depths
    from fovea.report.depth import depth_picture

    out = asked.file(f"{Path(asked.model).stem}-probes.png")
    model = load_model(asked.model)
    if model.task.kind != "classification":
        fix = "name another, or choose layers with fovea.features.probe_depths"
        raise ConfigError("--probes", f"expected a network that classifies, got one for {model.task.kind}; {fix}")
    data, labelled = open_data_for(model, path)
    _check(data, path, labelled)
    found = probe_depths(model, data, seed=seed, engine=asked.engine)
    write(out, depth_picture(found))
    if asked.as_json:
        print_json({**found.to_dict(), "files": [str(out)]})
        return
    print(_table(found))
    print(f"wrote {out}")


def _check(data: Dataset, path: str, labelled: bool) -> None:
    """Whether a probe can be learned and judged on held-out samples. Raises DataError."""
    if not labelled or data.task != "classification":
        got = f"{data.task} from {data.name}" if labelled else f"pictures alone in {path}"
        raise DataError("--probes", f"expected data with classes, got {got}; a folder for each class makes some")
    counts = dict(zip(data.classes, map(int, data.train.class_counts()), strict=True))
    few = [f"{count} of {name}" for name, count in counts.items() if count < 2]
    if few:
        got = ", ".join(few[:3]) + (", ..." if len(few) > 3 else "")
        raise DataError("--probes", f"expected two training samples of every class or more, got {got}; add some")


def _table(found: DepthProbes) -> str:
    rows = [
        [one.layer, one.channels, f"{one.probe.accuracy:.1%}", f"{one.probe.spread:.1%}",
         "n/a" if one.accuracy is None else f"{one.accuracy:.1%}"]
        for one in found.probes
    ]  # fmt: skip
    judged = f"{found.val} validation samples" if found.val else "no validation split"
    return "\n".join(
        [
            columns(["layer", "numbers", "held out", "spread", "validation"], rows),
            f"{found.data}: {found.train} training samples, held out in {found.folds} folds; {judged}",
            f"best on held-out folds: {found.best.layer}; where the network itself was trained on these samples, "
            "validation counts",
        ]
    )
