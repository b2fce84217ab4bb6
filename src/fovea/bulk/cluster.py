"""Bulk prediction on a Ray cluster: Ray Data reads and spreads the work, each worker has the model."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fovea
from fovea.bulk.items import Item, places
from fovea.bulk.predict import Predictor
from fovea.bulk.tables import check_format, table_of
from fovea.data.new_folder import check_new, written_whole
from fovea.data.shards.places import is_url
from fovea.data.shards.tar import members
from fovea.engines.registry import available_engines
from fovea.errors import ConfigError, DataError, MissingExtra
from fovea.loading import load
from fovea.model import Model

__all__ = ["predict_on_ray"]

_AT_ONCE = 256  # names of files that one task reads
_ANSWERS, _READS, _WRITES = 0.8, 0.1, 0.1
"""Of a core. An actor holds its share for the whole job: with all of every core, none would be left to read with."""


def predict_on_ray(
    model: Model | str | os.PathLike[str],
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    top_k: int = 5,
    tta: str | None = None,
    min_confidence: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> dict[str, Any]:
    """Predict images on a Ray cluster (``ray.init`` finds it, or starts one here) into a folder of Parquet files.

    ``model``, ``inputs`` and the columns are those of ``predict_files``; rows come in any order, and a tar file that
    breaks off is a row with the reason, too. Every machine of the cluster must find the images, and the folder of
    ``out``, under the same path; the model is sent to them. ``out``: a folder called ``NAME.parquet`` that is not there
    yet and is written whole or not at all, or an address that Ray writes to. ``workers``: actors that hold the model,
    one thread each (None: as many as the cluster has cores).

    Returns ``{"out", "rows", "unreadable"}``. Raises DataError or ConfigError as ``predict_files`` does, MissingExtra
    without Ray.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtra("predict", "ray", "predicting on a Ray cluster") from None
    address = os.fspath(out)
    check_format(Path(address))
    if Path(address).suffix != ".parquet":
        fix = "choose a new results.parquet"
        raise ConfigError("--out", f"expected a name that ends in .parquet for Ray, got {address!r}; {fix}")
    folder = None if is_url(address) else Path(_everywhere(os.fspath(check_new(address))))
    predictor = Predictor(model if isinstance(model, Model) else load(model), top_k, tta, min_confidence)
    if predictor.kind != "image":
        raise DataError("predict", f"expected a model of images for Ray, got one of {predictor.kind}s; leave Ray out")
    names = [os.fspath(name) for name in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)]
    found = [
        {"name": os.fsencode(name), "path": os.fsencode(_everywhere(name)), "single": single}
        for name, single in places(names, "image")
    ]
    with _quiet():
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        untyped: Any = ray
        size = workers or max(1, int(untyped.cluster_resources().get("CPU", 1)))
        if folder is None:
            counts = _run(found, predictor, size, batch_size, address)
        else:
            with written_whole(folder) as temporary:
                counts = _run(found, predictor, size, batch_size, str(temporary))
    return {"out": address, **counts}


def _run(
    found: Sequence[Mapping[str, Any]], predictor: Predictor, size: int, batch_size: int, out: str
) -> dict[str, int]:
    """Read, answer and write, then count rows."""
    import ray.data
    from pyarrow import compute, dataset

    blocks = min(len(found), max(size, -(-len(found) // _AT_ONCE)))
    samples = ray.data.from_items(list(found), override_num_blocks=blocks)
    read = samples.flat_map(_samples, num_cpus=_READS, compute=ray.data.TaskPoolStrategy(size))
    answered = read.map_batches(
        _Answers, fn_constructor_args=(predictor,), batch_size=batch_size, batch_format="pyarrow", num_cpus=_ANSWERS,
        compute=ray.data.ActorPoolStrategy(size=size),
    )  # fmt: skip
    answered.write_parquet(out, ray_remote_args={"num_cpus": _WRITES})
    written = dataset.dataset(out, format="parquet")
    rows, least = written.count_rows(), len(found)
    if rows < least and all(place["single"] for place in found):
        fix = "give --out a folder that all machines of the cluster share"
        raise DataError("--out", f"expected {least:,} rows there, found {rows:,}; {fix}")
    return {"rows": rows, "unreadable": written.count_rows(filter=compute.field("error").is_valid())}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without its lines of what it is about to do; its bars on a terminal stay."""
    logger = logging.getLogger("ray.data")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _everywhere(name: str) -> str:
    """A path that means the same in every working folder."""
    return name if is_url(name) else os.path.abspath(name)


def _samples(place: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A file, or every image of a tar file, with its bytes; without them where it cannot be read."""
    name, path = place["name"], os.fsdecode(place["path"])
    try:
        if place["single"]:
            yield {"name": name, "bytes": Path(path).read_bytes(), "problem": ""}
        else:
            for member in members(path, labelled=False):
                yield {"name": name + b"/" + os.fsencode(member.name), "bytes": member.data, "problem": ""}
    except DataError as error:
        yield {"name": name, "bytes": b"", "problem": error.message}
    except OSError as error:
        yield {"name": name, "bytes": b"", "problem": f"cannot be read: {error.strerror or error}"}


class _Answers:
    """An actor: it keeps the model and answers batches."""

    def __init__(self, predictor: Predictor) -> None:
        if "native" in available_engines():
            fovea.set_threads(1)  # there are as many actors as cores
        self._predictor = predictor

    def __call__(self, batch: Any) -> Any:
        read = self._predictor.read
        named = ((os.fsdecode(row["name"]), row) for row in batch.to_pylist())
        rows = self._predictor.rows([(name, row["problem"] or read(Item(name, row["bytes"]))) for name, row in named])
        return table_of(rows, self._predictor.columns)
