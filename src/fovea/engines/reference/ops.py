"""The table of this engine: kind of op -> its pair of functions. Inputs have no arithmetic; the plan fills them in."""

from __future__ import annotations

from fovea.engines.reference import (
    activation,
    conv,
    dense,
    dropout,
    function,
    join,
    loss,
    loss_overlap,
    norm,
    pool,
    reshape,
    resize,
)
from fovea.engines.reference.pair import Pair

__all__ = ["PAIRS"]

PAIRS: dict[str, Pair] = {
    # conv, dense
    "conv": Pair(conv.conv_forward, conv.conv_backward),
    "convtranspose": Pair(conv.convtranspose_forward, conv.convtranspose_backward),
    "dense": Pair(dense.dense_forward, dense.dense_backward),
    "matmul": Pair(dense.matmul_forward, dense.matmul_backward),
    # pool
    "maxpool": Pair(pool.maxpool_forward, pool.maxpool_backward),
    "avgpool": Pair(pool.avgpool_forward, pool.avgpool_backward),
    "adaptiveavgpool": Pair(pool.adaptiveavgpool_forward, pool.adaptiveavgpool_backward),
    "globalavgpool": Pair(pool.globalavgpool_forward, pool.globalavgpool_backward),
    "globalmaxpool": Pair(pool.globalmaxpool_forward, pool.globalmaxpool_backward),
    # norm
    "batchnorm": Pair(norm.batchnorm_forward, norm.batchnorm_backward),
    "layernorm": Pair(norm.layernorm_forward, norm.layernorm_backward),
    "groupnorm": Pair(norm.groupnorm_forward, norm.groupnorm_backward),
    "lrn": Pair(norm.lrn_forward, norm.lrn_backward),
    "normalize": Pair(norm.normalize_forward, norm.normalize_backward),
    # activation
    "relu": Pair(activation.relu_forward, activation.relu_backward),
    "relu6": Pair(activation.relu6_forward, activation.relu6_backward),
    "leakyrelu": Pair(activation.leakyrelu_forward, activation.leakyrelu_backward),
    "prelu": Pair(activation.prelu_forward, activation.prelu_backward),
    "sigmoid": Pair(activation.sigmoid_forward, activation.sigmoid_backward),
    "tanh": Pair(activation.tanh_forward, activation.tanh_backward),
    "silu": Pair(activation.silu_forward, activation.silu_backward),
    "gelu": Pair(activation.gelu_forward, activation.gelu_backward),
    "hardsigmoid": Pair(activation.hardsigmoid_forward, activation.hardsigmoid_backward),
    "hardswish": Pair(activation.hardswish_forward, activation.hardswish_backward),
    "softmax": Pair(activation.softmax_forward, activation.softmax_backward),
    "abs": Pair(function.abs_forward, function.abs_backward),
    "clip": Pair(function.clip_forward, function.clip_backward),
    "elu": Pair(function.elu_forward, function.elu_backward),
    "exp": Pair(function.exp_forward, function.exp_backward),
    "log": Pair(function.log_forward, function.log_backward),
    "mish": Pair(function.mish_forward, function.mish_backward),
    "selu": Pair(function.selu_forward, function.selu_backward),
    "softplus": Pair(function.softplus_forward, function.softplus_backward),
    "sqrt": Pair(function.sqrt_forward, function.sqrt_backward),
    # dropout
    "dropout": Pair(dropout.dropout_forward, dropout.dropout_backward),
    "stochasticdepth": Pair(dropout.stochasticdepth_forward, dropout.stochasticdepth_backward),
    "layerscale": Pair(dropout.layerscale_forward, dropout.layerscale_backward),
    "stopgradient": Pair(dropout.stopgradient_forward, dropout.stopgradient_backward),
    # join
    "add": Pair(join.add_forward, join.add_backward),
    "sub": Pair(join.sub_forward, join.sub_backward),
    "multiply": Pair(join.multiply_forward, join.multiply_backward),
    "div": Pair(join.div_forward, join.div_backward),
    "concat": Pair(join.concat_forward, join.concat_backward),
    # reshape, resize
    "constant": Pair(reshape.constant_forward, reshape.constant_backward),
    "flatten": Pair(reshape.flatten_forward, reshape.flatten_backward),
    "reshape": Pair(reshape.reshape_forward, reshape.reshape_backward),
    "transpose": Pair(reshape.transpose_forward, reshape.transpose_backward),
    "slice": Pair(reshape.slice_forward, reshape.slice_backward),
    "split": Pair(reshape.split_forward, reshape.split_backward),
    "channelshuffle": Pair(reshape.channelshuffle_forward, reshape.channelshuffle_backward),
    "pad": Pair(reshape.pad_forward, reshape.pad_backward),
    "reduce": Pair(reshape.reduce_forward, reshape.reduce_backward),
    "resize": Pair(resize.resize_forward, resize.resize_backward),
    # loss
    "softmaxcrossentropy": Pair(loss.softmaxcrossentropy_forward, loss.softmaxcrossentropy_backward),
    "binarycrossentropy": Pair(loss.binarycrossentropy_forward, loss.binarycrossentropy_backward),
    "focalloss": Pair(loss.focalloss_forward, loss.focalloss_backward),
    "qualityfocalloss": Pair(loss.qualityfocalloss_forward, loss.qualityfocalloss_backward),
    "iouloss": Pair(loss_overlap.iouloss_forward, loss_overlap.iouloss_backward),
    "meansquarederror": Pair(loss.meansquarederror_forward, loss.meansquarederror_backward),
    "smoothl1": Pair(loss.smoothl1_forward, loss.smoothl1_backward),
}
