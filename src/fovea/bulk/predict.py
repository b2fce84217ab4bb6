"""The loop of bulk prediction: threads read ahead, the model answers in batches, parts go to disk."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import progress
from fovea.bulk.items import Item, check_inputs, items
from fovea.bulk.job import Job, share_name
from fovea.bulk.tables import check_format, columns_of, row_of
from fovea.data.decode import read_image
from fovea.data.samples import read_samples
from fovea.errors import ConfigError, DataError
from fovea.graph.serialize import graph_to_dict
from fovea.loading import load
from fovea.model import Model
from fovea.tasks.base import Task
from fovea.tasks.views import averaged, enlarged

__all__ = ["Predictor", "predict_files", "share_from"]

Array = npt.NDArray[Any]
_BATCH = 64
_PART_ROWS = 10_000
_PART_SECONDS = 60.0  # a slow model does not lose more than that to a kill


def predict_files(
    model: Model | str | os.PathLike[str],
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    top_k: int = 5,
    tta: str | None = None,
    min_confidence: float | None = None,
    share: tuple[int, int] | None = None,
    batch_size: int = _BATCH,
    workers: int | None = None,
) -> dict[str, Any]:
    """Predict files, folders and shards into one table; memory does not grow with their number.

    ``inputs``: paths of files and folders, tar shards, patterns ``x-{0000..0099}.tar``, addresses. ``out`` ends in
    ``.parquet``, ``.csv`` or ``.jsonl``; its rows have ``path``, the columns of the task (of a classifier ``label``,
    ``probability``, ``abstained`` and ``top``, of a regression ``value``) and ``error``: a sample that cannot be read
    is a row with the reason. While it runs, parts of up to 10,000 rows or a minute lie in ``out.parts``; the same call
    goes on after them when it was stopped, and returns at once when all is done. ``share`` (i, n): the i-th of n parts
    of the work, written to ``NAME-0000i-of-0000n``; None: as torchrun's RANK and WORLD_SIZE say, else all of it.

    Returns ``{"out", "rows", "unreadable", "new", "seconds"}``; ``new`` are the rows of this call. Raises DataError for
    inputs that are not there, that changed since it began, or an ``out`` of another job; ConfigError for options.

    >>> predict_files("runs/photos", "archive/", "results.parquet")["rows"]  # doctest: +SKIP
    """
    for option, value in (("batch_size", batch_size), ("workers", 1 if workers is None else workers)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            fix = "leave it out"
            raise ConfigError("predict", f"expected {option} as an integer of at least 1, got {value!r}; {fix}")
    check_format(Path(out))
    own = share_from(os.environ) if share is None else checked_share(share)
    predictor = Predictor(model if isinstance(model, Model) else load(model), top_k, tta, min_confidence)
    names = [os.fspath(name) for name in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)]
    check_inputs(names, predictor.kind)
    facts = {"inputs": names, "share": list(own), **predictor.facts()}
    job = Job(share_name(Path(out).expanduser(), own), facts, predictor.columns)
    begin, before = time.perf_counter(), job.counts.rows
    if not job.done:
        counts = job.counts
        if counts.rows:
            progress.say(f"going on after {counts.rows:,} rows that are there")
        source = items(names, predictor.kind, share=own, skip=counts.rows, last=counts.last)
        _run(job, predictor, source, batch_size, workers or os.cpu_count() or 1)
        job.finish()
    return {
        "out": str(job.out), "rows": job.counts.rows, "unreadable": job.counts.unreadable,
        "new": job.counts.rows - before, "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def _run(job: Job, predictor: Predictor, source: Iterator[Item], batch_size: int, workers: int) -> None:
    rows: list[dict[str, Any]] = []
    begin = time.monotonic()
    for named in _read_ahead(predictor, source, batch_size, workers):
        rows += predictor.rows(named)
        seconds = time.monotonic() - begin
        if len(rows) >= _PART_ROWS or seconds > _PART_SECONDS:
            rate = len(rows) / seconds
            job.add(rows)
            counts = job.counts
            progress.say(f"{counts.rows:,} rows, {counts.unreadable:,} of them unreadable, {rate:.0f} a second")
            rows, begin = [], time.monotonic()
    if rows:
        job.add(rows)


def _read_ahead(
    predictor: Predictor, source: Iterator[Item], batch_size: int, workers: int
) -> Iterator[list[tuple[str, Array | str]]]:
    """Batches in order, each sample read by a thread; at most three batches wait."""
    waiting: deque[list[tuple[str, Future[Array | str]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="fovea-bulk") as pool:
        try:
            while True:
                batch = [(item.name, pool.submit(predictor.read, item)) for item in islice(source, batch_size)]
                if batch:
                    waiting.append(batch)
                if not waiting:
                    return
                if len(waiting) == 3 or not batch:
                    yield [(name, future.result()) for name, future in waiting.popleft()]
        finally:  # also when the model fails
            for batch in waiting:
                for _, future in batch:
                    future.cancel()


class Predictor:
    """A model with the options of a prediction: an item becomes an array, arrays become rows."""

    def __init__(self, model: Model, top_k: int, tta: str | None, min_confidence: float | None) -> None:
        if model.preprocessing is None:
            fix = "import it with --preprocess, or set model.preprocessing"
            raise DataError("predict", f"expected a model that knows its preprocessing, got one without; {fix}")
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ConfigError("predict", f"expected top_k as an integer of at least 1, got {top_k!r}; 5 is usual")
        self.model, self.top_k, self.tta = model, top_k, tta
        self.task: Task = model.task if min_confidence is None else model.task.abstaining(min_confidence)
        self.how = model.preprocessing if tta is None else enlarged(model.preprocessing, tta)
        self.kind, self._size = self.how.kind, model.preprocessing.size
        self.columns = columns_of(self.task.kind, model.graph.output_shapes[0][-1] or 1)

    def read(self, item: Item) -> Array | str:
        """A sample through the spatial half, or the reason why it cannot be read."""
        if item.error is not None:
            return item.error
        try:
            if item.data is not None:
                sample = read_image(item.data, self.how.channels, item.name)
            else:
                sample = read_samples([Path(item.name)], self.how)[0]
            return self.how.apply_to_sample(sample)
        except DataError as error:
            return error.message
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"

    def rows(self, named: Sequence[tuple[str, Array | str]]) -> list[dict[str, Any]]:
        """A row for each sample. Samples of one shape are answered together."""
        found: list[dict[str, Any] | str] = [value if isinstance(value, str) else {} for _, value in named]
        shapes: dict[tuple[int, ...], list[int]] = {}
        for place, (_, value) in enumerate(named):
            if not isinstance(value, str):
                shapes.setdefault(value.shape, []).append(place)
        for places in shapes.values():
            answers = self._answers(np.stack([named[place][1] for place in places]))
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer.to_dict()
        return [row_of(name, value, self.columns) for (name, _), value in zip(named, found, strict=True)]

    def _answers(self, inputs: Array) -> list[Any]:
        model = self.model
        if self.tta is None:
            outputs = model.logits(inputs)
        else:
            outputs = averaged(model.logits, inputs, self.tta, self._size, self.task)
        return list(self.task.decode(outputs, classes=model.classes, top_k=self.top_k))

    def facts(self) -> dict[str, Any]:
        """What decides the rows: weights, network, preprocessing, options."""
        model = self.model
        digest = hashlib.sha256(json.dumps(graph_to_dict(model.graph), sort_keys=True).encode())
        for path, array in sorted(model.store.tensors().items()):
            digest.update(path.encode() + np.ascontiguousarray(array).tobytes())
        return {
            "model": digest.hexdigest(), "task": self.task.to_dict(), "classes": list(model.classes or ()),
            "preprocessing": self.how.to_dict(), "top_k": self.top_k, "tta": self.tta, "precision": model.precision,
        }  # fmt: skip


def share_from(environment: Any) -> tuple[int, int]:
    """The share that torchrun's RANK and WORLD_SIZE name; all of it without them."""
    rank, size = environment.get("RANK", ""), environment.get("WORLD_SIZE", "")
    return checked_share((int(rank), int(size))) if rank.isdigit() and size.isdigit() else (0, 1)


def checked_share(share: Any) -> tuple[int, int]:
    """Raise ConfigError unless it is (i, n) with i from 0 to n - 1."""
    try:
        own, size = share
        good = all(isinstance(one, int) and not isinstance(one, bool) for one in (own, size)) and 0 <= own < size
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ConfigError("--shard", f"expected i/n with i from 0 to n-1, such as 0/4, got {share!r}; correct it")
    return own, size
