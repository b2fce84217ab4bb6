"""What a network is for: the loss it trains with, how its outputs are read, and how they are measured."""

from __future__ import annotations

from fovea.tasks.base import TASKS, Prediction, Task, task_for, task_from_dict
from fovea.tasks.classify import Classification, ClassPrediction
from fovea.tasks.detect.task import Detected, Detection, DetectionPrediction
from fovea.tasks.regress import Regression, ValuePrediction

__all__ = [
    "TASKS",
    "ClassPrediction",
    "Classification",
    "Detected",
    "Detection",
    "DetectionPrediction",
    "Prediction",
    "Regression",
    "Task",
    "ValuePrediction",
    "task_for",
    "task_from_dict",
]
