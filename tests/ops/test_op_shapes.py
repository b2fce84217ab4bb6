"""Shape rules as tables of numbers worked out by hand, parameter counts, and what ops say when shapes do not fit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.errors import FoveaError, ModelFileError, OpError, ShapeError
from fovea.ops import OPS, Op, Shape
from fovea.ops.base import op_from_dict
from tests.op_samples import SAMPLES, Sample

SHAPES: list[tuple[Op, tuple[Shape, ...], tuple[Shape, ...]]] = [
    # convolution: floor((i + lo + hi - (k - 1) d - 1) / s) + 1
    (ops.Conv(32, 3), ((28, 28, 1),), ((26, 26, 32),)),
    (ops.Conv(32, 3, padding="same"), ((28, 28, 1),), ((28, 28, 32),)),
    (ops.Conv(6, 5, padding=2), ((28, 28, 1),), ((28, 28, 6),)),
    (ops.Conv(96, 11, stride=4, padding=2), ((224, 224, 3),), ((55, 55, 96),)),
    (ops.Conv(64, 7, stride=2, padding=3), ((224, 224, 3),), ((112, 112, 64),)),
    (ops.Conv(8, 3, stride=2, padding="same"), ((7, 8, 3),), ((4, 4, 8),)),
    (ops.Conv(8, 3, padding="valid", dilation=2), ((7, 9, 3),), ((3, 5, 8),)),
    (ops.Conv(8, (1, 3), padding=((0, 0), (2, 1))), ((4, 5, 3),), ((4, 6, 8),)),
    (ops.Conv(8, 9), ((100, 1),), ((92, 8),)),
    (ops.Conv(8, 3, stride=(1, 2, 2), padding=1), ((5, 24, 24, 1),), ((5, 12, 12, 8),)),
    (ops.Conv(8, 3, stride=2, padding=1), ((None, None, 3),), ((None, None, 8),)),
    (ops.ConvTranspose(8, 4, stride=2, padding=1), ((7, 7, 3),), ((14, 14, 8),)),
    (ops.ConvTranspose(8, 3, stride=2, padding=1, output_padding=1), ((7, 7, 3),), ((14, 14, 8),)),
    (ops.ConvTranspose(8, 3, stride=2), ((7, 5, 3),), ((15, 11, 8),)),
    (ops.ConvTranspose(8, 5, stride=3, padding="same"), ((7, 5, 3),), ((21, 15, 8),)),
    (ops.ConvTranspose(8, 2, stride=3, padding="same"), ((7, 5, 3),), ((21, 15, 8),)),
    # pooling
    (ops.MaxPool(2), ((256, 256, 64),), ((128, 128, 64),)),
    (ops.MaxPool(2), ((4, 4, 1),), ((2, 2, 1),)),
    (ops.MaxPool(3, 2), ((55, 55, 96),), ((27, 27, 96),)),
    (ops.MaxPool(3, 2, padding=1), ((112, 112, 64),), ((56, 56, 64),)),
    (ops.MaxPool(3, 2, ceil_mode=True), ((112, 112, 64),), ((56, 56, 64),)),
    (ops.AvgPool((2, 3), ceil_mode=True), ((5, 7, 2),), ((3, 3, 2),)),
    (ops.AdaptiveAvgPool((6, 2)), ((9, 9, 4),), ((6, 2, 4),)),
    (ops.GlobalAvgPool(), ((None, 7, 512),), ((512,),)),
    (ops.GlobalMaxPool(keepdims=True), ((3, 7, 512),), ((1, 1, 512),)),
    # matrix products
    (ops.Dense(1000), ((49152,),), ((1000,),)),
    (ops.Dense(10), ((7, 7, 64),), ((7, 7, 10),)),
    (ops.MatMul(), ((2, 3, 4), (2, 4, 5)), ((2, 3, 5),)),
    # joins
    (ops.Add(), ((4, 5, 8), (8,)), ((4, 5, 8),)),
    (ops.Multiply(), ((4, 1, 8), (1, 5, 1)), ((4, 5, 8),)),
    (ops.Add(), ((None, None, 8), (1, 1, 8)), ((None, None, 8),)),
    (ops.Concat(), ((4, 5, 8), (4, 5, 1), (4, 5, 3)), ((4, 5, 12),)),
    (ops.Concat(axis=1), ((4, 5, 8), (2, 5, 8)), ((6, 5, 8),)),
    # moves
    (ops.Flatten(), ((6, 6, 256),), ((9216,),)),
    (ops.Reshape((-1, 4)), ((6, 2, 2),), ((6, 4),)),
    (ops.Transpose((0, 3, 1, 2)), ((4, 5, 8),), ((8, 4, 5),)),
    (ops.Slice((1, None), (-1, None), (1, 2), (1, 2)), ((6, 5, 3),), ((4, 3, 3),)),
    (ops.Slice(5, 0, -1, -2), ((6, 5, 8),), ((6, 5, 3),)),
    (ops.Split((2, 5, 1)), ((4, 4, 8),), ((4, 4, 2), (4, 4, 5), (4, 4, 1))),
    (ops.Pad(((1, 2), 3)), ((4, 5, 8),), ((7, 11, 8),)),
    (ops.Pad(((0, 0), (0, 0), (4, 4))), ((4, 5, 8),), ((4, 5, 16),)),
    (ops.Reduce((1, 2)), ((4, 5, 8),), ((8,),)),
    (ops.Reduce(-1, "max", keepdims=True), ((4, 5, 8),), ((4, 5, 1),)),
    (ops.Resize(scale=(2, 3)), ((4, 5, 8),), ((8, 15, 8),)),
    (ops.Resize(size=7), ((None, 5, 8),), ((7, 7, 8),)),
    (ops.Constant([[1, 2, 3]]), (), ((1, 3),)),
    # losses
    (ops.SoftmaxCrossEntropy(), ((4, 5, 10), (4, 5)), ((),)),
    (ops.SoftmaxCrossEntropy(soft_targets=True), ((10,), (10,)), ((),)),
    (ops.SmoothL1(), ((4,), (4,)), ((),)),
]


@pytest.mark.parametrize(("op", "inputs", "outputs"), SHAPES, ids=lambda value: str(value)[:60])
def test_output_shapes(op: Op, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> None:
    assert op.output_shapes(*inputs) == outputs


COUNTS: list[tuple[Op, Shape, dict[str, tuple[int, ...]]]] = [
    (ops.Dense(1000), (128 * 128 * 3,), {"weight": (49152, 1000), "bias": (1000,)}),  # 49,152,000 weights
    (ops.Conv(6, 5), (28, 28, 1), {"weight": (5, 5, 1, 6), "bias": (6,)}),
    (ops.Conv(8, (3, 1), groups=4, use_bias=False), (9, 9, 12), {"weight": (3, 1, 3, 8)}),
    (ops.ConvTranspose(8, 3, groups=2), (9, 9, 12), {"weight": (3, 3, 4, 12), "bias": (8,)}),
    (ops.BatchNorm(), (9, 9, 12), {"weight": (12,), "bias": (12,)}),
    (ops.PReLU(), (9, 9, 12), {"weight": (12,)}),
    (ops.MaxPool(2), (9, 9, 12), {}),
]


@pytest.mark.parametrize(("op", "shape", "expected"), COUNTS, ids=lambda value: str(value)[:60])
def test_parameter_shapes(op: Op, shape: Shape, expected: dict[str, tuple[int, ...]]) -> None:
    assert {name: spec.shape for name, spec in op.parameters(shape).items()} == expected


def test_fans_and_macs() -> None:
    """A 3x3 convolution of 16 channels in 4 groups sees 3 * 3 * 4 numbers per output; 100 positions, 8 outputs each."""
    op = ops.Conv(8, 3, padding=1, groups=4)
    spec = op.parameters((10, 10, 16))["weight"]
    assert (spec.fan_in, spec.fan_out) == (36, 18)
    assert op.macs((10, 10, 16)) == 100 * 8 * 36
    assert ops.Dense(10).macs((84,)) == 840
    assert ops.ConvTranspose(8, 2, stride=2).macs((3, 3, 5)) == 9 * 4 * 5 * 8
    assert ops.MatMul().macs((3, 4), (4, 5)) == 60


def test_decay_is_for_weights_alone() -> None:
    for sample in SAMPLES:
        for name, spec in sample.op.parameters(*sample.input_shapes).items():
            matrix = sample.op.kind in ("conv", "convtranspose", "dense") and name == "weight"
            assert spec.decay == matrix, f"{sample.id}: {name}"


REFUSED: list[tuple[Any, type[FoveaError], str]] = [
    (lambda: ops.Conv(0, 3), OpError, r"\[conv\] expected out_channels to be an integer of at least 1, got 0"),
    (lambda: ops.Conv(8, 3, groups=3), OpError, r"out_channels=8 is not divisible by groups=3; .* from 1, 2, 4, 8"),
    (lambda: ops.Conv(8, 3, padding="half"), OpError, r'\[conv\] expected padding as "same", "valid", .* got .half.'),
    (lambda: ops.Conv(8, 3, padding=-1), OpError, "expected padding"),
    (lambda: ops.Conv(8, 3.0), OpError, "expected kernel_size to be integers of at least 1, got 3.0"),
    (lambda: ops.Conv(8, 3, stride=0), OpError, "expected stride to be integers of at least 1, got 0"),
    (lambda: ops.Conv(10**12, 3, groups=7), OpError, "choose groups from 1, 2, 4, 5"),  # at once, not after an hour
    (lambda: ops.Softmax("c").output_shapes((4, 4, 3)), OpError, "expected an axis as an integer, got 'c'"),
    (lambda: ops.Split((1, 2), axis=None).output_shapes((4, 4, 3)), OpError, "expected an axis as an integer"),  # type: ignore[arg-type]
    (lambda: ops.Slice((0.5,), (3,), (1,)), OpError, "as integers of one length"),  # type: ignore[arg-type]
    (lambda: ops.Transpose(3), OpError, "expected a permutation that begins with 0"),  # type: ignore[arg-type]
    (lambda: ops.SGD(lr_scales=5), OpError, "expected lr_scales as pairs"),  # type: ignore[arg-type]
    (
        lambda: ops.AvgPool(2, 1, padding=1, dilation=2, count_include_pad=False).output_shapes((1, 1, 1)),
        ShapeError,
        "expected dilation of at most the input 1, got 2; a window steps over it",
    ),
    (lambda: ops.Reduce(()), OpError, "expected one axis or more, got none"),
    (lambda: ops.Conv(8, 3, stride=10**30), OpError, r"expected stride to be .* give one below 2\^31"),
    (lambda: ops.Conv(8, 3, padding=10**30), OpError, "expected padding as"),
    (lambda: ops.Dropout(1.0), OpError, r"\[dropout\] expected rate to be a number from 0 to 0.999999, got 1.0"),
    (lambda: ops.ReLU("backward"), OpError, "expected backward_rule to be one of standard, guided, deconv"),
    (lambda: ops.Resize(), OpError, "expected either size or scale"),
    (lambda: ops.Transpose((1, 0)), OpError, "expected a permutation that begins with 0"),
    (lambda: ops.Slice(0, 1, 1, 0), OpError, "steps, not 0"),
    (lambda: ops.Split(()), OpError, "expected sizes as a tuple"),
    (lambda: ops.Pad("same"), OpError, "expected numbers"),
    (lambda: ops.Constant("text"), OpError, "expected an array of numbers"),
    (lambda: ops.Constant([float("nan")]), OpError, "expected finite numbers"),
    (lambda: ops.Normalize(std=0.0), OpError, "expected std as positive numbers"),
    (lambda: ops.SoftmaxCrossEntropy(class_weights=(0.0, 0.0)), OpError, "expected class_weights"),
    (lambda: ops.SGD(momentum=2.0), OpError, r"\[sgd\] expected momentum to be a number from 0 to 1, got 2.0"),
    (lambda: ops.Input((0, 3)), OpError, "expected the shape of one sample"),
    (
        lambda: ops.Conv(8, 3).output_shapes((2, 5, 3)),
        ShapeError,
        r"expected a padded input of at least 3 .* got 2 \+ 0",
    ),
    (lambda: ops.Conv(8, 3).output_shapes((5,)), ShapeError, "at least one spatial axis"),
    (lambda: ops.Conv(8, 3).output_shapes((5, 5, None)), ShapeError, "expected a known number of channels"),
    (lambda: ops.Conv(8, (3, 3)).output_shapes((9, 3)), ShapeError, "expected kernel_size with 1 entries"),
    (
        lambda: ops.Conv(8, 3, groups=4).output_shapes((5, 5, 6)),
        ShapeError,
        r"\[conv\] in_channels=6 is not divisible by groups=4; choose groups from 1, 2, 3, 6",
    ),
    (lambda: ops.ConvTranspose(8, 3, output_padding=1).output_shapes((5, 5, 6)), ShapeError, "expected output_padding"),
    (
        lambda: ops.ConvTranspose(8, 1, padding=3).output_shapes((5, 5, 6)),
        ShapeError,
        "expected an output of at least 1",
    ),
    (lambda: ops.MaxPool(2, padding=2).output_shapes((5, 5, 6)), ShapeError, "must not lie in the padding alone"),
    (lambda: ops.GroupNorm(4).output_shapes((5, 5, 6)), ShapeError, "choose groups from 1, 2, 3, 6"),
    (
        lambda: ops.Normalize((1.0, 2.0)).output_shapes((5, 5, 3)),
        ShapeError,
        "expected mean with 1 or 3 entries, got 2",
    ),
    (lambda: ops.Flatten().output_shapes((None, 5, 3)), ShapeError, "use GlobalAvgPool"),
    (lambda: ops.Reshape((4, 4)).output_shapes((5, 3)), ShapeError, "expected 15 elements"),
    (lambda: ops.Add().output_shapes((5, 3), (4, 3)), ShapeError, "expected shapes that broadcast"),
    (lambda: ops.Concat().output_shapes((5, 3), (4, 3)), ShapeError, "expected equal sizes but for axis -1"),
    (lambda: ops.Softmax(axis=0).output_shapes((5, 3)), ShapeError, "got the batch axis 0"),
    (lambda: ops.Softmax(axis=3).output_shapes((5, 3)), ShapeError, "expected an axis from -3 to 2"),
    (lambda: ops.Split((1, 1)).output_shapes((5, 3)), ShapeError, "expected sizes that add up to 3"),
    (lambda: ops.Slice(4, 2, 1).output_shapes((5, 3)), ShapeError, "expected at least one element"),
    (lambda: ops.Pad(5, "reflect").output_shapes((5, 3)), ShapeError, "expected reflect padding of at most 4"),
    (lambda: ops.MatMul().output_shapes((5, 3), (4, 3)), ShapeError, "transpose or reshape one of them"),
    (lambda: ops.SoftmaxCrossEntropy().output_shapes((5,), (5,)), ShapeError, r"expected targets \('N',\) for logits"),
    (lambda: ops.MeanSquaredError().output_shapes((5,), ()), ShapeError, "expected targets of the values' shape"),
]


@pytest.mark.parametrize(("act", "error", "text"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_is_refused_in_one_line(act: Any, error: type[FoveaError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert type(caught.value) is error


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
def test_an_op_survives_its_own_dictionary(sample: Sample) -> None:
    fields = sample.op.to_dict()
    assert op_from_dict("test", fields) == sample.op
    assert fields["kind"] == sample.op.kind
    assert OPS[sample.op.kind] is type(sample.op)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "konv"}, "expected a known kind of op, got 'konv'"),
        ({"kind": "conv", "filters": 3}, r"unknown field\(s\) filters"),
        ({"kind": "conv"}, "expected valid fields for op 'conv'"),
        ({"kind": ["conv"]}, "expected a known kind of op"),
    ],
)
def test_a_dictionary_that_describes_no_op(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelFileError, match=text):
        op_from_dict("test", fields)


def test_one_op_makes_one_node_with_its_inputs() -> None:
    x = ops.Input((4, 4, 3))
    with pytest.raises(OpError, match=r"\[conv\] expected 1 input value\(s\), got 2"):
        ops.Conv(8, 3)(x, x)
    with pytest.raises(OpError, match=r"\[add\] expected two or more input values, got 1"):
        ops.Add()(x)
    with pytest.raises(FoveaError, match="to compute on arrays build a "):
        ops.Conv(8, 3)(1.0)
    assert len(ops.Split((1, 2))(x)) == 2


def test_class_weights_may_be_an_array() -> None:
    assert ops.SoftmaxCrossEntropy(class_weights=np.array([1.0, 2.0])).class_weights == (1.0, 2.0)


def test_numbers_of_numpy_become_pythons() -> None:
    """An 8-bit class count must not make 8-bit products, and what a file holds is JSON."""
    dense = ops.Dense(np.uint8(200))  # type: ignore[arg-type]
    assert type(dense.out_channels) is int
    assert dense.parameters((300,))["weight"].size == 60_000
    conv = ops.Conv(np.int64(8), (np.int32(3), 3), padding=((np.int64(1), 0), 1))  # type: ignore[arg-type]
    dropout, sgd = ops.Dropout(np.float32(0.5)), ops.SGD(momentum=np.float64(0.9))  # type: ignore[arg-type]
    for declared in (dense, conv, dropout, sgd):
        assert json.loads(json.dumps(declared.to_dict())) is not None
    assert op_from_dict("file", json.loads(json.dumps(conv.to_dict()))) == ops.Conv(8, (3, 3), padding=((1, 0), 1))
