"""Bulk prediction on a Ray cluster: Ray Data reads and spreads the work, each worker has the model of one file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fovea.bulk.items import Item, places
from fovea.bulk.predict import Predictor
from fovea.bulk.tables import check_format, table_of
from fovea.data.shards.tar import members
from fovea.errors import ConfigError, DataError, MissingExtra
from fovea.loading import load

__all__ = ["predict_on_ray"]

_AT_ONCE = 256  # names of files that one task reads


def predict_on_ray(
    model: str | os.PathLike[str],
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    top_k: int = 5,
    tta: str | None = None,
    min_confidence: float | None = None,
    precision: str | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> dict[str, Any]:
    """Predict images on a Ray cluster (``ray.init`` finds it, or starts one here) into a folder of Parquet files.

    ``model``, ``inputs`` and the columns are those of ``predict_files``; model and files must lie where every machine
    of the cluster finds them under the same name. ``out``: a folder called ``NAME.parquet`` that is not there yet, or
    an address that Ray writes to. ``workers``: actors that hold the model, a core for each (None: as many as cores).

    Returns ``{"out", "rows", "unreadable"}``. Raises DataError or ConfigError as ``predict_files`` does, MissingExtra
    without Ray.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtra("predict", "ray", "predicting on a Ray cluster") from None
    check_format(Path(out))
    if Path(out).suffix != ".parquet" or Path(out).exists():
        fix = "choose a new results.parquet"
        raise ConfigError("--out", f"expected a new name that ends in .parquet for Ray, got {os.fspath(out)!r}; {fix}")
    options: dict[str, Any] = {"top_k": top_k, "tta": tta, "min_confidence": min_confidence}
    predictor = _predictor(os.fspath(model), precision, options)
    if predictor.kind != "image":
        raise DataError("predict", f"expected a model of images for Ray, got one of {predictor.kind}s; leave Ray out")
    names = [os.fspath(name) for name in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)]
    found = [{"place": place, "single": single} for place, single in places(names, "image")]
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    untyped: Any = ray
    size = workers or max(1, int(untyped.cluster_resources().get("CPU", 1)))
    blocks = max(size, -(-len(found) // _AT_ONCE))
    samples = ray.data.from_items(found, override_num_blocks=min(len(found), blocks)).flat_map(_samples)
    answered = samples.map_batches(
        _Answers, fn_constructor_args=(os.fspath(model), precision, options), batch_size=batch_size,
        batch_format="pyarrow", concurrency=size, num_cpus=1,
    )  # fmt: skip
    answered.write_parquet(os.fspath(out))
    errors = ray.data.read_parquet(os.fspath(out), columns=["error"])
    unreadable = errors.filter(lambda row: row["error"] is not None).count()
    return {"out": os.fspath(out), "rows": errors.count(), "unreadable": unreadable}


def _samples(place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A file, or every image of a tar file, with its bytes; without them where it cannot be read."""
    name = place["place"]
    if not place["single"]:
        for member in members(name, labelled=False):
            yield {"path": f"{name}/{member.name}", "bytes": member.data, "problem": ""}
        return
    try:
        yield {"path": name, "bytes": Path(name).read_bytes(), "problem": ""}
    except OSError as error:
        yield {"path": name, "bytes": b"", "problem": f"cannot be read: {error.strerror or error}"}


class _Answers:
    """An actor: the model is loaded once, then answers batches."""

    def __init__(self, model: str, precision: str | None, options: dict[str, Any]) -> None:
        self._predictor = _predictor(model, precision, options)

    def __call__(self, batch: Any) -> Any:
        read = self._predictor.read
        rows = self._predictor.rows(
            [(row["path"], row["problem"] or read(Item(row["path"], row["bytes"]))) for row in batch.to_pylist()]
        )
        return table_of(rows, self._predictor.columns)


def _predictor(model: str, precision: str | None, options: dict[str, Any]) -> Predictor:
    loaded = load(model)
    loaded.precision = precision or loaded.precision
    return Predictor(loaded, **options)
