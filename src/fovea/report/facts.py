"""What a report is made of, gathered once: the run's records, its model, and its answers on validation samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea.errors import FoveaError
from fovea.report.source import reopen

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset, Split
    from fovea.model import Model
    from fovea.run import Run

__all__ = ["Facts", "gather"]

Array = npt.NDArray[Any]
_MOST = 10_000  # samples that are run through the model for the report
_CHUNK = 64


@dataclass
class Facts:
    """One run. ``data`` is decoded as the model wants it; None, with a reason in ``absent``, if it is not here."""

    run: Run
    model: Model
    data: Dataset | None
    absent: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def is_classification(self) -> bool:
        """Whether there are classes (else values)."""
        return self.model.task.kind == "classification"

    @property
    def is_detection(self) -> bool:
        """Whether boxes are found."""
        return self.model.task.kind == "detection"

    @property
    def split(self) -> Split | None:
        """The samples that the report looks at: validation, or train where there is none. Never the test."""
        return None if self.data is None else self.data.val or self.data.splits.get("train")

    @cached_property
    def inputs(self) -> Array | None:
        """The split's inputs, at most 10,000 of them; None when they cannot be read."""
        if self.split is None:
            return None
        try:
            return self.split.inputs[:_MOST]
        except FoveaError as error:
            self.absent = str(error)
            return None

    @cached_property
    def outputs(self) -> Array | None:
        """What the task keeps of the model's outputs for ``inputs``."""
        if self.inputs is None or not len(self.inputs):
            return None
        task, targets = self.model.task, self.targets
        starts = range(0, len(self.inputs), _CHUNK)  # maps of boxes of all samples at once would be gigabytes
        parts = [(self.inputs[start : start + _CHUNK], targets[start : start + _CHUNK]) for start in starts]
        return np.concatenate([task.condense(self.model.logits(inputs), truth) for inputs, truth in parts])

    @property
    def targets(self) -> Array:
        """The truth about ``inputs``."""
        return np.asarray([]) if self.split is None or self.inputs is None else self.split.targets[: len(self.inputs)]

    @cached_property
    def detail(self) -> dict[str, Any]:
        """Detailed metrics: those that training wrote, else computed here."""
        own: dict[str, Any] = self.metrics.get("val") or {}
        if own or self.outputs is None:
            return own
        return self.model.task.metrics(self.outputs, self.targets, classes=self.model.classes, detail=True)

    @property
    def looked_at(self) -> str:
        """The name of the split that the figures are about."""
        return (
            "validation" if self.metrics.get("split") == "val" or (self.data is not None and self.data.val) else "train"
        )

    def epochs(self) -> list[dict[str, Any]]:
        """The log line of every epoch; as epoch 0 that of the starting weights, where these were evaluated."""
        return [line for line in self.run.log if line.get("event") in ("start", "epoch")]


def gather(run: Run, data: Dataset | None) -> Facts:
    """The facts of a run. Raises FoveaError only when the run itself is damaged."""
    absent = ""
    model = run.model
    if data is None:
        try:
            data = reopen(run)
        except FoveaError as error:
            absent = error.message
    if data is not None:
        try:
            if model.classes is not None:
                data = data.with_classes(model.classes)
            if model.preprocessing is not None:
                data = data.prepared(model.preprocessing)
        except FoveaError as error:
            data, absent = None, error.message
    return Facts(run, model, data, absent, run.metrics or {})
