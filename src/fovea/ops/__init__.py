"""What a layer is: declarations, shape rules, parameters. No arithmetic on tensors."""

from fovea.ops.activation import (
    GELU,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from fovea.ops.base import OPS, Op, ParamSpec, Shape
from fovea.ops.conv import Conv, ConvTranspose
from fovea.ops.dense import Dense, MatMul
from fovea.ops.dropout import Dropout, LayerScale, StochasticDepth, StopGradient
from fovea.ops.join import Add, Concat, Div, Multiply, Sub
from fovea.ops.loss import BinaryCrossEntropy, FocalLoss, MeanSquaredError, SmoothL1, SoftmaxCrossEntropy
from fovea.ops.norm import LRN, BatchNorm, GroupNorm, LayerNorm, Normalize
from fovea.ops.optimizer import SGD, AdamW, Optimizer
from fovea.ops.pool import AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from fovea.ops.reshape import ChannelShuffle, Constant, Flatten, Input, Pad, Reduce, Reshape, Slice, Split, Transpose
from fovea.ops.resize import Resize
from fovea.ops.value import Value, scope

__all__ = [
    "GELU",
    "LRN",
    "OPS",
    "SGD",
    "AdamW",
    "AdaptiveAvgPool",
    "Add",
    "AvgPool",
    "BatchNorm",
    "BinaryCrossEntropy",
    "ChannelShuffle",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Div",
    "Dropout",
    "Flatten",
    "FocalLoss",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Input",
    "LayerNorm",
    "LayerScale",
    "LeakyReLU",
    "MatMul",
    "MaxPool",
    "MeanSquaredError",
    "Multiply",
    "Normalize",
    "Op",
    "Optimizer",
    "PReLU",
    "Pad",
    "ParamSpec",
    "ReLU",
    "ReLU6",
    "Reduce",
    "Reshape",
    "Resize",
    "Shape",
    "SiLU",
    "Sigmoid",
    "Slice",
    "SmoothL1",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Split",
    "StochasticDepth",
    "StopGradient",
    "Sub",
    "Tanh",
    "Transpose",
    "Value",
    "scope",
]
