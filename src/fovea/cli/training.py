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
Epochs = Annotated[int | None, typer.Option(help="How often every training sample is seen (10).")]
Out = Annotated[Path | None, typer.Option(metavar="RUN", help="New run folder (default: runs/NAME-DATE-TIME).")]
Lr = Annotated[float | None, typer.Option("--lr", help="Highest learning rate (default: by optimizer and network).")]
BatchSize = Annotated[int | None, typer.Option(help="Samples per update (128).")]
Optimizer = Annotated[str | None, typer.Option(help="sgd (Nesterov momentum) or adamw.")]
Schedule = Annotated[str | None, typer.Option(help="onecycle, cosine, step or constant.")]
WarmupEpochs = Annotated[float | None, typer.Option(help="Epochs in which the learning rate rises to --lr.")]
Loss = Annotated[str | None, typer.Option(help="Of a regression: mse or smooth_l1, which outliers move less.")]
WeightDecay = Annotated[float | None, typer.Option(help="Weight decay of weights, not of biases and norms.")]
Augment = Annotated[
    str | None, typer.Option(help="standard, none, or names such as flip,shift_crop; for boxes mosaic=1,scale=0.5:2.")
]
Mix = Annotated[str | None, typer.Option(help="mixup or cutmix.")]
Ema = Annotated[float | None, typer.Option(help="Decay of a moving average of the weights, such as 0.999.")]
LabelSmoothing = Annotated[float | None, typer.Option(help="Share of the target spread over all classes.")]
ClassWeights = Annotated[str | None, typer.Option(help="balanced, or one number a class: 1,1,4.")]
ClipNorm = Annotated[float | None, typer.Option(help="Largest norm of the whole gradient.")]
Accumulate = Annotated[int | None, typer.Option(help="Pieces in which a batch is computed: less memory.")]
Patience = Annotated[int | None, typer.Option(help="Stop after so many epochs without a better validation result.")]
Precision = Annotated[
    str | None,
    typer.Option(
        help="fp32, or bf16: activations as bfloat16, less memory and faster where products are; tf32 on GPUs."
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
        help="Of frozen layers: frozen uses the running statistics and leaves them, update renews them by the batches."
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
