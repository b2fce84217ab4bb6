"""``fovea predict``: what a model says about files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli.arguments import MODEL, Device, MinConfidence, Precision, Tta, load_model, sample_files, set_threads
from fovea.cli.output import print_json
from fovea.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fovea.model import Model

__all__ = ["predict"]

_CHUNK = 64  # files decoded at a time: a folder of any length needs the memory of these


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    samples: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Images, wav, npy or GIF files as the model needs, or folders of them; with --out tar shards too.",
        ),
    ],
    top_k: Annotated[int, typer.Option(help="How many classes to name, the most probable first.")] = 5,
    threads: Annotated[int | None, typer.Option(help="Threads (default: every core).")] = None,
    device: Device = None,
    precision: Precision = None,
    tta: Tta = None,
    min_confidence: MinConfidence = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A table for any number of files: .parquet (extra bulk), .csv or .jsonl. Continues when stopped."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="With --out: part I of N (torchrun's RANK and WORLD_SIZE say it too)."),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="With --out NAME.parquet, a new folder: on a Ray cluster (extra ray).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Classes with their probabilities (or values) for files.

    A file that cannot be read is named on stderr, the others are predicted, and the exit code is 2. With --out it is a
    row with the reason, and is counted.
    """
    if top_k < 1:
        raise ConfigError("--top-k", f"expected at least 1, got {top_k}; 5 is usual")
    from fovea.data.shards.places import TAR, is_shards
    from fovea.tasks.views import enlarged

    set_threads(threads)
    loaded = load_model(model)
    loaded.precision, loaded.device = precision or loaded.precision, device
    if loaded.preprocessing is None:
        raise DataError(
            model,
            "expected a model that knows its preprocessing, got one without; import it with --preprocess, or --size, "
            "--mean and --std, or call it from Python",
        )
    if min_confidence is not None:
        loaded.task = loaded.task.abstaining(min_confidence)
    if tta is not None:
        enlarged(loaded.preprocessing, tta)  # a wrong word is told before any file is read
    if out is not None:
        options = {"top_k": top_k, "tta": tta}
        if ray:
            _on_ray(
                loaded, samples, out, as_json, {"--shard": shard, "--threads": threads, "--device": device}, **options
            )
        else:
            _write_table(loaded, samples, out, shard, as_json, **options)
        return
    if ray:
        raise ConfigError("--ray", "expected --out with it, got none; name a table: --out results.parquet")
    if shard is not None:
        raise ConfigError("--shard", "expected --out with it, got none; name a table: --out results.parquet")
    shards = next((name for name in samples if is_shards(name) or name.endswith(TAR)), None)
    if shards is not None:
        raise ConfigError(
            "--out", f"expected it with shards such as {shards}, got none; name a table: --out results.csv"
        )
    files = sample_files(samples, loaded.preprocessing.kind)
    answers: list[dict[str, Any]] = []
    bad = 0
    width = max(len(str(file)) for file in files)
    for start in range(0, len(files), _CHUNK):
        for file, answer in _predict(loaded, files[start : start + _CHUNK], top_k, tta):
            if isinstance(answer, DataError):
                bad += 1
                print(answer, file=sys.stderr)
            elif as_json:
                answers.append({"path": str(file), **answer.to_dict()})
            else:
                print(f"{str(file).ljust(width)}  {answer}")
    if as_json:
        print_json(answers)
    if bad:
        raise typer.Exit(2)


def _write_table(model: Model, samples: list[str], out: Path, shard: str | None, as_json: bool, **options: Any) -> None:
    """Predictions of any number of files, in a file."""
    from fovea.bulk.predict import predict_files

    share = None
    if shard is not None:
        parts = shard.split("/")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ConfigError("--shard", f"expected I/N such as 0/4, got {shard!r}; count parts from 0")
        share = int(parts[0]), int(parts[1])
    found = predict_files(model, samples, out, share=share, **options)
    if as_json:
        print_json(found)
        return
    rate = f"{found['new'] / found['seconds']:.0f} a second" if found["new"] else "nothing was left to do"
    print(f"{_rows(found)} in {found['out']} ({rate})")


def _on_ray(model: Model, samples: list[str], out: Path, as_json: bool, others: dict[str, Any], **options: Any) -> None:
    """The same by Ray Data, whose cluster shares the work by itself. ``others``: options that then have no meaning."""
    from fovea.bulk.cluster import predict_on_ray

    for name, value in others.items():
        if value is not None:
            raise ConfigError(
                name, f"expected none with --ray, which gives each core its work, got {value!r}; leave it out"
            )
    found = predict_on_ray(model, samples, out, **options)
    if as_json:
        print_json(found)
        return
    print(f"{_rows(found)} in {found['out']}")


def _rows(found: dict[str, Any]) -> str:
    unreadable = f", {found['unreadable']:,} of them unreadable" if found["unreadable"] else ""
    return f"{found['rows']:,} rows{unreadable}"


def _predict(model: Model, files: list[Path], top_k: int, tta: str | None) -> list[tuple[Path, Any]]:
    """A prediction, or the DataError that says why there is none, for each file."""
    try:
        return list(zip(files, model.predict(files, top_k=top_k, tta=tta), strict=True))
    except DataError as error:
        if len(files) == 1:
            return [(files[0], error)]
        return [
            pair for file in files for pair in _predict(model, [file], top_k, tta)
        ]  # one bad file costs nobody else
