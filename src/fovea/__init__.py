"""fovea: convolutional networks, complete.

Define, train, look inside, quantize, import and export, fast on the CPU that you have. Every public
name lives here::

    import fovea

    net = fovea.Sequential(fovea.Conv(32, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(10))

Names load on first use (PEP 562): ``import fovea`` costs NumPy and little more, whatever the package grows to.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it. A name that is not here is not public.
_OPS = [
    "Abs",
    "AdaptiveAvgPool",
    "Add",
    "AvgPool",
    "BatchNorm",
    "BinaryCrossEntropy",
    "ChannelShuffle",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Div",
    "Dropout",
    "ELU",
    "Exp",
    "Flatten",
    "FocalLoss",
    "GELU",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Input",
    "IoULoss",
    "LRN",
    "LayerNorm",
    "LayerScale",
    "LeakyReLU",
    "Log",
    "MatMul",
    "MaxPool",
    "MeanSquaredError",
    "Mish",
    "Multiply",
    "Normalize",
    "PReLU",
    "Pad",
    "QualityFocalLoss",
    "ReLU",
    "ReLU6",
    "Reduce",
    "Reshape",
    "Resize",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Slice",
    "SmoothL1",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Split",
    "Sqrt",
    "StochasticDepth",
    "StopGradient",
    "Sub",
    "Tanh",
    "Transpose",
    "AdamW",
    "SGD",
    "scope",
]
_PUBLIC: dict[str, str] = {
    **dict.fromkeys(_OPS, "fovea.ops"),
    "Augment": "fovea.data.augment",
    "Scene": "fovea.data.augment.scene",
    "FoveaError": "fovea.errors",
    "Graph": "fovea.graph.graph",
    "Initializer": "fovea.graph.initialize",
    "Model": "fovea.model",
    "Parallel": "fovea.graph.compose",
    "Preprocessing": "fovea.data.preprocess",
    "Residual": "fovea.graph.compose",
    "Run": "fovea.run",
    "Sequential": "fovea.graph.compose",
    "class_map": "fovea.explain.class_maps",
    "codes": "fovea.features.extract",
    "dataset": "fovea.data.load",
    "detect": "fovea.detection.detect",
    "evaluate": "fovea.training",
    "find_lr": "fovea.training",
    "finetune": "fovea.training.transfer.finetune",
    "from_arrays": "fovea.data.load",
    "fully_convolutional": "fovea.explain.class_maps",
    "get_threads": "fovea.engines.native.threads",
    "load": "fovea.loading",
    "predict_files": "fovea.bulk.predict",
    "quantize": "fovea.training",
    "replace_head": "fovea.training.transfer.head",
    "resume": "fovea.training",
    "set_threads": "fovea.engines.native.threads",
    "train": "fovea.training",
    "verify": "fovea.interop.verify",
    "whitening_weight": "fovea.graph.whiten",
    "write_shards": "fovea.data.shards.write",
}

# Sub-packages that users reach as attributes: fovea.models.lenet5(...).
_SUBPACKAGES: tuple[str, ...] = (
    "data",
    "engines",
    "errors",
    "explain",
    "features",
    "graph",
    "models",
    "ops",
    "random",
    "tasks",
    "training",
)

__all__ = [*_PUBLIC, *_SUBPACKAGES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _SUBPACKAGES:
        value = importlib.import_module(f"fovea.{name}")
    else:
        raise AttributeError(f"module 'fovea' has no attribute {name!r}")
    globals()[name] = value  # found once, then an ordinary attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
