"""Run a model over a split: outputs in the split's order, and the task's metrics of them."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import progress
from fovea.data.dataset import Dataset, Split
from fovea.data.loader import Loader
from fovea.detection.detect import Detector
from fovea.engines.base import Engine, Plan
from fovea.engines.world import World
from fovea.errors import ConfigError, DataError, NonFiniteError
from fovea.graph.store import ParameterStore
from fovea.loading import load
from fovea.model import Model
from fovea.run import EVALUATION_FILE, Run
from fovea.tasks.base import Task
from fovea.tasks.detect.task import JUDGED_SCORE
from fovea.tasks.views import averaged, enlarged
from fovea.training.prepare import check_shapes, open_data
from fovea.training.recorder import write_json

__all__ = ["evaluate", "evaluation_plan", "outputs_of", "own_share", "with_weights"]

Array = npt.NDArray[Any]


def evaluate(
    model: Model | Run | str | os.PathLike[str],
    data: Dataset | str | os.PathLike[str],
    split: str = "test",
    *,
    engine: str | Engine | None = None,
    batch_size: int = 256,
    device: str | None = None,
    precision: str | None = None,
    tta: str | None = None,
    min_confidence: float | None = None,
) -> dict[str, Any]:
    """Metrics of a model on one split of a data set, read with the model's own preprocessing and class order.

    Keys: ``split``, ``n``, ``seconds``, ``images_per_second``, ``quarantined`` (unreadable samples left out) and the
    task's metrics: for classification ``loss``, ``accuracy``, ``top5``, ``per_class``, ``confusion``, ``ece``,
    ``reliability``, ``temperature``, ``selective``, ``classes``; for regression ``loss``, ``mae``, ``rmse``, ``r2``.
    Given a Run or a run folder, the result is also kept in its ``evaluation.json`` under the split's name (under
    torchrun every process measures everything, and the first alone writes).
    ``device``: "cuda" computes on a GPU, with PyTorch. ``precision``: "fp32" or "bf16"; None is the model's own.
    ``tta``: the mean over several views of each sample, as in ``Model.predict``; of a detector "looks", those of
    ``fovea.detect(tta=True)``, at the network's size. ``min_confidence``: of a classifier that abstains; the
    key ``answered`` then says how many samples it answers and how many of these rightly (``accuracy`` stays that of
    all).

    Raises DataError or ShapeError when data and model do not belong together, NonFiniteError for broken outputs.

    >>> fovea.evaluate("runs/digits", "digits")["accuracy"]  # doctest: +SKIP
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(
            "evaluate", f"expected batch_size as an integer of at least 1, got {batch_size!r}; 256 is usual"
        )
    run = model if isinstance(model, Run) else None
    if not isinstance(model, (Model, Run)):
        run = Run(model) if Run.is_run(model) else None
    used = run.model if run else model if isinstance(model, Model) else load(model)  # type: ignore[arg-type]  # no Run here
    task = used.task if min_confidence is None else used.task.abstaining(min_confidence)
    opened = _as_trained(used, open_data(data))
    chosen = opened.split(split)
    precision, device = precision or used.precision, device or used.device
    plan = evaluation_plan(used, chosen, engine, batch_size, precision, device)
    looks = tta is not None and task.kind == "detection"
    if looks:
        _check_looks(tta, engine)
    forward = None if tta is None else _averaging(used, plan, tta, task)
    if tta is not None and not looks and used.preprocessing is not None:
        chosen = opened.prepared(enlarged(used.preprocessing, tta)).split(split)
    with progress.bar(len(chosen), f"evaluate {split}") as bar:
        begin = time.perf_counter()
        if looks:
            outputs = _looked(used, chosen, precision, device, bar)
        else:
            outputs = outputs_of(plan, chosen, task, bar, finite=True, forward=forward)
        outputs = used.as_logits(outputs) if tta is None else outputs
        seconds = time.perf_counter() - begin
        metrics = task.metrics(outputs, chosen.targets, classes=used.classes, detail=True)
        bar.update(0, **{name: value for name, value in metrics.items() if isinstance(value, float)})
    result = {
        "split": split, "n": len(chosen), **({} if tta is None else {"tta": tta}), **metrics,
        "classes": list(used.classes or ()), "seconds": seconds,
        "images_per_second": len(chosen) / max(seconds, 1e-9), "quarantined": len(chosen.quarantined),
    }  # fmt: skip
    if run and progress.speaks():
        key = split if tta is None else f"{split}, {tta}"
        try:
            write_json(run.path / EVALUATION_FILE, {**run.evaluation, key: result})
        except ConfigError as error:  # a run that someone else keeps, or a full disk: the result is there all the same
            progress.say(f"note: the result is not kept: {error}")
    return result


def _averaging(model: Model, plan: Plan, tta: str, task: Task) -> Callable[[Array], Array]:
    """A batch as ``enlarged`` prepares it -> the task's mean over its views."""
    size = None if model.preprocessing is None else model.preprocessing.size
    return lambda inputs: averaged(lambda view: model.as_logits(plan.forward(view)), inputs, tta, size, task)


def _check_looks(tta: str | None, engine: str | Engine | None) -> None:
    """Raise ConfigError for other views than a detector has, and for an engine that its looks cannot be given."""
    if tta != "looks":
        fix = "give looks, or leave tta out"
        raise ConfigError("tta", f"expected looks for a detector, whose boxes move with the view, got {tta!r}; {fix}")
    if engine is not None:
        raise ConfigError("engine", f"expected none with looks, got {engine!r}; leave it out, or give a device")


def _looked(model: Model, split: Split, precision: str, device: str | None, bar: progress.Bar) -> Array:
    """What a detector finds by several looks at each picture: rows as its task condenses them."""
    own = copy.copy(model)
    own.precision, own.device = precision, device
    detector = Detector(own, JUDGED_SCORE, tta=True)
    rows = np.zeros((len(split), detector.task.max_detections, 6), np.float32)
    rows[..., 5] = -1
    for row, image in zip(rows, split.inputs, strict=True):
        found = detector.found(image)
        row[: len(found)] = found
        bar.update(1)
    return rows


def _as_trained(model: Model, data: Dataset) -> Dataset:
    if model.task.kind != data.task:
        raise DataError(
            "evaluate", f"expected data for {model.task.kind}, got {data.task} from {data.name}; use other data"
        )
    if model.classes is not None:
        data = data.with_classes(model.classes)
    if model.preprocessing is None:
        fix = "set model.preprocessing, as training does"
        raise DataError("evaluate", f"expected a model that knows its preprocessing, got {model!r} without one; {fix}")
    data = data.prepared(model.preprocessing)
    check_shapes(model, data)
    return data


def evaluation_plan(
    model: Model, split: Split, engine: str | Engine | None, batch_size: int, precision: str = "fp32",
    device: str | None = None,
) -> Plan:  # fmt: skip
    """A plan for inference on what the split holds."""
    capacity = max(1, min(batch_size, len(split)))
    shape = split.inputs.shape[1:]
    return model.compile(engine, capacity, pixels=True, input_shape=shape, precision=precision, device=device)


def outputs_of(
    plan: Plan, split: Split, task: Task, bar: progress.Bar | None = None, *, finite: bool = False,
    forward: Callable[[Array], Any] | None = None,
) -> Array:  # fmt: skip
    """What the task keeps of the plan's outputs for every sample, in the split's order.

    ``finite``: raise NonFiniteError for outputs that are not. ``forward``: what to call instead of the plan's.
    """
    parts = []
    for batch in Loader(split, plan.spec.batch_size, shuffle=False, workers=0):
        outputs = (forward or plan.forward)(batch.inputs)
        if finite and not all(np.isfinite(array).all() for array in plan.as_list(outputs)):
            raise NonFiniteError(
                "evaluate", "expected finite outputs, got infinite ones or nan; the weights are broken"
            )
        parts.append(task.condense(outputs, batch.targets))
        if bar:
            bar.update(len(batch))
    if not parts:
        raise DataError(split.name, "expected at least one sample, got none; choose another split")
    return np.concatenate(parts)


def own_share(split: Split, world: World) -> Split:
    """The consecutive samples that this process evaluates; all of them where there are fewer than processes."""
    share = world.share(len(split))
    return split.take(np.arange(share.start, share.stop)) if 1 < world.size <= len(split) else split


@contextlib.contextmanager
def with_weights(store: ParameterStore, weights: Mapping[str, Array]) -> Iterator[None]:
    """Let the store hold other values for a while; afterwards its own are back, bit for bit."""
    own = store.tensors()
    borrowed = {path: array for path, array in weights.items() if array is not own[path]}
    kept = {path: own[path].copy() for path in borrowed}
    try:
        if borrowed:
            store.load(borrowed)
        yield
    finally:
        if kept:
            store.load(kept)
