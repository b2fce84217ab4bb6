"""The options of `fovea train`, each None when it is not given: then the --config file or fovea's default decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Accumulate",
    "Augment",
    "Backbone",
    "BatchNorm",
    "BatchSize",
    "CheckpointEvery",
    "ClassWeights",
    "ClipNorm",
    "Compiled",
    "Config",
    "Device",
    "Ema",
    "Engine",
    "Epochs",
    "FindLr",
    "Freeze",
    "LabelSmoothing",
    "LogTo",
    "Loss",
    "Lr",
    "Mix",
    "ModelName",
    "Optimizer",
    "Out",
    "Patience",
    "Precision",
    "Resume",
    "Schedule",
    "Seed",
    "SyncBatchnorm",
    "Threads",
    "ValFraction",
    "WarmupEpochs",
    "WeightDecay",
    "Workers",
]  # fmt: skip

_RECIPE, _MACHINE = "Recipe", "Machine"
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A name from `fovea models`; or a file, run or NETWORK:WEIGHTS to continue from (default: by the data).",
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Of a detector: another network of the zoo, or a trained model whose weights it begins with.",
    ),
]
Epochs = Annotated[int | None, typer.Option(help="How often every training sample is seen (10; detectors 100).")]
Out = Annotated[Path | None, typer.Option(metavar="RUN", help="New run folder (default: runs/NAME-DATE-TIME).")]
Lr = Annotated[float | None, typer.Option("--lr", help="Highest learning rate (default: by optimizer and network).")]
BatchSize = Annotated[int | None, typer.Option(help="Samples per update (128, or less for few samples; detectors 16).")]
Optimizer = Annotated[
    str | None, typer.Option(help="sgd (Nesterov momentum; usual) or adamw (usual for detectors and finetune).")
]
Schedule = Annotated[str | None, typer.Option(help="onecycle (default), cosine, step or constant.")]
WarmupEpochs = Annotated[
    float | None,
    typer.Option(help="Epochs in which the learning rate rises to --lr (by the schedule: onecycle a quarter of all)."),
]
Loss = Annotated[
    str | None, typer.Option(help="Of a regression: mse (default) or smooth_l1, which outliers move less.")
]
WeightDecay = Annotated[
    float | None,
    typer.Option(help="Weight decay of weights, not of biases and norms (sgd 0.0005, adamw 0.01; detectors 0.05)."),
]
Augment = Annotated[
    str | None,
    typer.Option(help="standard (default), none, or names such as flip,shift_crop; for boxes mosaic=1,scale=0.5:2."),
]
Mix = Annotated[
    str | None, typer.Option(help="Blend pairs of samples and their targets: mixup or cutmix (default: neither).")
]
Ema = Annotated[
    float | None,
    typer.Option(help="Decay of a moving average of the weights, such as 0.999 (default: none; detectors 0.998)."),
]
LabelSmoothing = Annotated[
    float | None, typer.Option(help="Share of the target spread over all classes, such as 0.1 (0).")
]
ClassWeights = Annotated[str | None, typer.Option(help="balanced, or one number a class: 1,1,4 (default: all 1).")]
ClipNorm = Annotated[
    float | None, typer.Option(help="Largest norm of the whole gradient (default: none; detectors 10, finetune 1).")
]
Accumulate = Annotated[int | None, typer.Option(help="Pieces in which a batch is computed: less memory (1).")]
Patience = Annotated[
    int | None,
    typer.Option(
        help="Stop after so many epochs without a better validation result (default: never; finetune 5 or a quarter)."
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="fp32 (default); bf16: activations as bfloat16, less memory and faster where products are; tf32 on GPUs."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of weights, order and augmentation (0).")]
Freeze = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="Parameters that stay as they are: stage1, '*.bias' (repeatable)."),
]
BatchNorm = Annotated[
    str | None,
    typer.Option(
        help="Of frozen layers: frozen (default) uses the running statistics and leaves them, update renews them."
    ),
]
FindLr = Annotated[bool, typer.Option("--find-lr", help="Measure a learning rate first and train with it.")]
ValFraction = Annotated[
    float | None, typer.Option(help="Share of train that becomes validation where there is none (0.1).")
]
Threads = Annotated[int | None, typer.Option(help="Threads (default: every core).")]
Workers = Annotated[int | None, typer.Option(help="Threads that load and augment (1).")]
Engine = Annotated[str | None, typer.Option(help="native, reference or torch (default: the fastest here).")]
Device = Annotated[str | None, typer.Option(help="cuda or cuda:1: train on that GPU, with PyTorch (default: the CPU).")]
Compiled = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="With PyTorch: the network goes through torch.compile.")
]
SyncBatchnorm = Annotated[
    bool | None,
    typer.Option(
        "--sync-batchnorm/--no-sync-batchnorm", help="Under torchrun: batch statistics are those of all processes."
    ),
]
CheckpointEvery = Annotated[int | None, typer.Option(help="Steps between checkpoints, besides one every epoch.")]
LogTo = Annotated[
    str | None, typer.Option(metavar="tensorboard", help="Also write event files for TensorBoard into the run folder.")
]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="Continue an interrupted run, to the same bits.")]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Recipe as TOML or JSON; options given here override it.")
]
