"""Training: schedules, the loop, checkpoints, evaluation, the learning rate finder. ``fovea.train`` is the door."""

from __future__ import annotations

from fovea.training.config import TrainConfig, read_options
from fovea.training.evaluation import evaluate
from fovea.training.finder import LRFinding, find_lr
from fovea.training.quantization import quantize
from fovea.training.schedule import Constant, Cosine, OneCycle, Schedule, Step
from fovea.training.start import resume, train
from fovea.training.transfer.finetune import finetune
from fovea.training.transfer.shots import shot_curves

__all__ = [
    "Constant",
    "Cosine",
    "LRFinding",
    "OneCycle",
    "Schedule",
    "Step",
    "TrainConfig",
    "evaluate",
    "find_lr",
    "finetune",
    "quantize",
    "read_options",
    "resume",
    "shot_curves",
    "train",
]
