"""The entries of the sample table, one generator per family: (id, op, input shapes, draws, n)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fovea.ops as ops
from fovea.ops import Op, Shape

Case = tuple[str, Op, tuple[Shape, ...], tuple[str, ...], int]

AROUND_V = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33)
"""Channels around the widths of vector registers."""


def case(note: str, op: Op, *shapes: Shape, draws: tuple[str, ...] = (), n: int = 2) -> Case:
    """One entry; the id is the op's kind and the note."""
    return (f"{op.kind}-{note}" if note else op.kind, op, shapes, draws, n)


def cases() -> Iterator[Case]:
    """All entries."""
    for family in (convs, transposed_convs, matrix_products, pools, norms, activations, masks, joins, moves, losses):
        yield from family()


def convs() -> Iterator[Case]:
    """Conv: channels, geometry, groups, 1-D to 3-D."""
    for ins, outs in [(1, 1), (1, 16), (3, 17), (4, 5), (7, 9), (8, 8), (15, 16), (16, 15), (16, 16), (17, 33)]:
        yield case(f"{ins}to{outs}", ops.Conv(outs, 3, padding=1), (5, 6, ins))
    geometry: dict[str, tuple[dict[str, Any], Shape]] = {
        "1xN": ({"kernel_size": (1, 3), "padding": (0, 1)}, (1, 9, 3)),
        "Nx1": ({"kernel_size": (3, 1)}, (9, 1, 3)),
        "1x1": ({"kernel_size": 1}, (5, 6, 3)),
        "1x1-stride2": ({"kernel_size": 1, "stride": 2}, (5, 6, 3)),
        "1x1-padded": ({"kernel_size": 1, "padding": 1}, (3, 4, 3)),
        "same5": ({"kernel_size": 5, "padding": "same"}, (6, 7, 3)),
        "same-even": ({"kernel_size": 4, "padding": "same"}, (5, 6, 3)),
        "same-stride2": ({"kernel_size": 3, "stride": 2, "padding": "same"}, (7, 8, 3)),
        "same-stride3-kernel2": ({"kernel_size": 2, "stride": 3, "padding": "same"}, (10, 11, 3)),
        "rest-unread": ({"kernel_size": 3, "stride": 2}, (6, 8, 3)),
        "stride-over-kernel": ({"kernel_size": 2, "stride": 4}, (11, 9, 3)),
        "1x1-strides-of-a-thin-volume": ({"kernel_size": 1, "stride": (2, 1, 2)}, (2, 2, 1, 4)),
        "narrower-than-stride": ({"kernel_size": 3, "stride": 3, "padding": 1}, (1, 2, 3)),
        "kernel-over-input": ({"kernel_size": 5, "padding": 2}, (3, 4, 3)),
        "whole-input": ({"kernel_size": (4, 5)}, (4, 5, 3)),
        "asymmetric": ({"kernel_size": 3, "padding": ((0, 2), (1, 0))}, (5, 6, 3)),
        "asymmetric-stride": ({"kernel_size": (3, 2), "stride": (2, 3), "padding": ((2, 0), (0, 1))}, (6, 8, 3)),
        "dilation2": ({"kernel_size": 3, "dilation": 2, "padding": 2}, (7, 6, 3)),
        "dilation-stride": ({"kernel_size": (3, 2), "dilation": (2, 3), "stride": (2, 1), "padding": 1}, (9, 8, 3)),
        "same-dilation": ({"kernel_size": 3, "dilation": 2, "stride": 2, "padding": "same"}, (7, 8, 3)),
        "no-bias": ({"kernel_size": 3, "use_bias": False}, (5, 6, 3)),
        "1d": ({"kernel_size": 3}, (11, 3)),
        "1d-length1": ({"kernel_size": 3, "padding": "same"}, (1, 3)),
        "1d-stride-dilation": ({"kernel_size": 4, "stride": 3, "dilation": 2, "padding": 3}, (17, 3)),
        "3d": ({"kernel_size": 3, "padding": 1}, (3, 4, 5, 2)),
        "3d-mixed": (
            {"kernel_size": (1, 2, 3), "stride": (2, 1, 2), "padding": ((0, 1), (1, 0), (1, 1))},
            (4, 3, 5, 2),
        ),
        "3d-same-stride2": ({"kernel_size": 2, "stride": 2, "padding": "same"}, (3, 4, 5, 2)),
    }
    for note, (fields, shape) in geometry.items():
        yield case(note, ops.Conv(5, **fields), shape)
    grouped = [(4, 6, 2), (6, 9, 3), (5, 5, 5), (16, 16, 16), (17, 17, 17), (5, 10, 5), (32, 32, 2), (34, 18, 2)]
    for ins, outs, groups in grouped:
        yield case(f"groups{groups}-{ins}to{outs}", ops.Conv(outs, 3, padding=1, groups=groups), (5, 6, ins))
    yield case("depthwise-stride2", ops.Conv(9, 3, stride=2, padding="same", groups=9), (8, 7, 9))
    yield case("depthwise-1d", ops.Conv(8, 5, padding=2, groups=8), (9, 8))
    yield case("tiles", ops.Conv(40, 3, padding="same", use_bias=False), (13, 15, 24), n=3)
    yield case("wide-1x1", ops.Conv(72, 1), (9, 7, 65), n=1)
    yield case("stem7", ops.Conv(17, 7, stride=2, padding=3), (15, 17, 3))
    yield case("stem11", ops.Conv(8, 11, stride=4, padding=2), (23, 27, 3), n=1)


def transposed_convs() -> Iterator[Case]:
    """ConvTranspose: strides that leave gaps, output padding, groups."""
    for ins, outs in [(1, 1), (3, 17), (16, 15), (17, 16)]:
        yield case(f"{ins}to{outs}", ops.ConvTranspose(outs, 3, stride=2, padding=1), (3, 4, ins))
    geometry: dict[str, tuple[dict[str, Any], Shape]] = {
        "plain": ({"kernel_size": 3}, (3, 4, 3)),
        "kernel-is-stride": ({"kernel_size": 2, "stride": 2}, (3, 4, 3)),
        "stride-over-kernel": ({"kernel_size": 2, "stride": 3}, (3, 2, 3)),
        "output-padding": ({"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}, (3, 4, 3)),
        "same-stride2": ({"kernel_size": 3, "stride": 2, "padding": "same"}, (3, 4, 3)),
        "same-stride-over-kernel": ({"kernel_size": 1, "stride": 2, "padding": "same"}, (3, 4, 3)),
        "asymmetric": ({"kernel_size": 4, "stride": 2, "padding": ((1, 2), (0, 1))}, (3, 4, 3)),
        "dilation": ({"kernel_size": 2, "dilation": 2, "stride": 2, "padding": 1}, (3, 4, 3)),
        "output-padding-of-the-stride": ({"kernel_size": 2, "dilation": 2, "output_padding": 1}, (3, 4, 3)),
        "no-bias": ({"kernel_size": 3, "use_bias": False}, (3, 4, 3)),
        "1d": ({"kernel_size": 4, "stride": 2, "padding": 1}, (5, 3)),
        "3d": ({"kernel_size": 2, "stride": 2}, (2, 3, 2, 2)),
    }
    for note, (fields, shape) in geometry.items():
        yield case(note, ops.ConvTranspose(5, **fields), shape)
    yield case("groups2", ops.ConvTranspose(6, 3, stride=2, groups=2), (3, 4, 4))
    yield case("depthwise", ops.ConvTranspose(7, 3, groups=7), (3, 4, 7))


def matrix_products() -> Iterator[Case]:
    """Dense and MatMul."""
    for ins, outs in [(1, 1), (3, 10), (15, 17), (16, 16), (17, 33), (100, 7)]:
        yield case(f"{ins}to{outs}", ops.Dense(outs), (ins,), n=3)
    yield case("one-sample", ops.Dense(10), (40,), n=1)
    yield case("no-bias", ops.Dense(5, use_bias=False), (9,))
    yield case("on-a-map", ops.Dense(6), (3, 4, 5))
    yield case("", ops.MatMul(), (3, 5), (5, 4))
    yield case("batched", ops.MatMul(), (2, 3, 17), (2, 17, 4))
    yield case("row-column", ops.MatMul(), (1, 9), (9, 1), n=1)


def pools() -> Iterator[Case]:
    """Windows, bins, whole maps; ties."""
    geometry: dict[str, tuple[dict[str, Any], Shape]] = {
        "2": ({"kernel_size": 2}, (4, 6, 3)),
        "rest-unread": ({"kernel_size": 2}, (5, 7, 3)),
        "overlap": ({"kernel_size": 3, "stride": 2}, (7, 9, 3)),
        "overlap-padded": ({"kernel_size": 3, "stride": 2, "padding": 1}, (7, 8, 3)),
        "stride-over-kernel": ({"kernel_size": 2, "stride": 3}, (8, 7, 3)),
        "same": ({"kernel_size": 3, "stride": 2, "padding": "same"}, (6, 7, 3)),
        "same-stride1": ({"kernel_size": 2, "stride": 1, "padding": "same"}, (4, 5, 3)),
        "asymmetric": ({"kernel_size": 3, "stride": 2, "padding": ((0, 1), (2, 0))}, (6, 7, 3)),
        "ceil": ({"kernel_size": 3, "stride": 2, "ceil_mode": True}, (6, 8, 3)),
        "ceil-padded": ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, (6, 8, 3)),
        "ceil-drops-last": ({"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}, (5, 6, 3)),
        "dilation": ({"kernel_size": 2, "stride": 1, "dilation": 2}, (5, 6, 3)),
        "1xN": ({"kernel_size": (1, 3), "stride": (1, 2)}, (1, 9, 3)),
        "1d": ({"kernel_size": 3, "padding": 1}, (10, 3)),
        "3d": ({"kernel_size": (1, 2, 2)}, (3, 4, 4, 2)),
    }
    yield case("dilation-padded", ops.MaxPool(2, 1, padding=2, dilation=3), (5, 6, 3))
    for note, (fields, shape) in geometry.items():
        yield case(note, ops.MaxPool(**fields), shape)
        yield case(note, ops.AvgPool(**fields), shape)
        if "padding" in fields:
            yield case(f"{note}-without-pad", ops.AvgPool(**fields, count_include_pad=False), shape)
    for channels in AROUND_V:
        yield case(f"c{channels}", ops.MaxPool(3, 2, padding=1), (5, 6, channels))
        yield case(f"c{channels}", ops.AvgPool(3, 2, padding=1), (5, 6, channels))
        yield case(f"c{channels}", ops.GlobalAvgPool(), (3, 5, channels))
        yield case(f"c{channels}", ops.GlobalMaxPool(), (3, 5, channels))
    yield case("ties", ops.MaxPool(3, 2, padding=1), (7, 9, 17), draws=("ties",))
    yield case("ties-overlap", ops.MaxPool(2, 1), (4, 5, 3), draws=("ties",))
    yield case("ties", ops.GlobalMaxPool(), (3, 4, 17), draws=("ties",))
    for pool in (ops.GlobalAvgPool, ops.GlobalMaxPool):
        yield case("keepdims", pool(keepdims=True), (3, 4, 5))
        yield case("1d", pool(), (7, 3))
        yield case("3d", pool(), (2, 3, 4, 3))
        yield case("one-position", pool(), (1, 1, 5), n=1)
    yield case("divides", ops.AdaptiveAvgPool(2), (4, 6, 3))
    yield case("overlaps", ops.AdaptiveAvgPool((3, 2)), (7, 5, 17))
    yield case("grows", ops.AdaptiveAvgPool((5, 3)), (2, 3, 3))
    yield case("1d", ops.AdaptiveAvgPool(4), (7, 3))


def norms() -> Iterator[Case]:
    """Statistics over the batch, over channels, over groups."""
    for channels in AROUND_V:
        yield case(f"c{channels}", ops.BatchNorm(), (3, 4, channels), n=3)
        yield case(f"c{channels}", ops.LayerNorm(), (3, 4, channels))
        yield case(f"c{channels}", ops.LRN(), (2, 3, channels))
    yield case("vector", ops.BatchNorm(eps=1e-3, momentum=0.3), (9,), n=5)
    yield case("1d", ops.BatchNorm(), (7, 5))
    yield case("3d", ops.BatchNorm(), (2, 3, 4, 5))
    yield case("large-mean", ops.BatchNorm(), (4, 5, 3), draws=("large",))
    yield case("vector", ops.LayerNorm(eps=1e-6), (12,))
    for groups, channels in [(1, 5), (2, 6), (4, 16), (3, 51), (5, 5)]:
        yield case(f"{groups}of{channels}", ops.GroupNorm(groups), (3, 4, channels))
    yield case("1d", ops.GroupNorm(2), (6, 4))
    yield case("even-strong", ops.LRN(size=4, alpha=0.5, beta=0.6, k=2.0), (2, 3, 9))
    yield case("1d", ops.LRN(size=3, alpha=0.1), (4, 7))
    yield case("on-a-vector", ops.LRN(size=3, alpha=0.1), (7,))
    yield case("wider-than-c", ops.LRN(size=9, alpha=1.0), (4, 3))
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    yield case("float", ops.Normalize(**imagenet), (4, 5, 3))
    yield case("bgr", ops.Normalize(**imagenet, order="bgr"), (4, 5, 3))
    yield case("bytes", ops.Normalize(**imagenet, scale=1 / 255), (4, 5, 3), draws=("bytes",))
    yield case("bytes-bgr", ops.Normalize((104.0, 117.0, 123.0), order="bgr"), (4, 5, 3), draws=("bytes",))
    yield case("one-number", ops.Normalize(0.13, 0.31, scale=1 / 255), (7, 17), draws=("bytes",))


def activations() -> Iterator[Case]:
    """Smooth inputs, large ones that would overflow a careless exp, and the kinks themselves."""
    made: list[tuple[str, Op]] = [
        ("", ops.ReLU()),
        ("guided-", ops.ReLU("guided")),
        ("deconv-", ops.ReLU("deconv")),
        ("", ops.ReLU6()),
        ("guided-", ops.ReLU6("guided")),
        ("deconv-", ops.ReLU6("deconv")),
        ("", ops.LeakyReLU()),
        ("steep-", ops.LeakyReLU(0.2)),
        ("", ops.PReLU()),
        ("", ops.Sigmoid()),
        ("", ops.Tanh()),
        ("", ops.SiLU()),
        ("", ops.GELU()),
        ("tanh-", ops.GELU("tanh")),
        ("", ops.HardSigmoid()),
        ("steep-", ops.HardSigmoid(alpha=0.2)),
        ("", ops.HardSwish()),
        ("", ops.ELU()),
        ("steep-", ops.ELU(2.0)),
        ("", ops.SELU()),
        ("", ops.Softplus()),
        ("", ops.Mish()),
        ("", ops.Clip(-1.5, 2.5)),
        ("", ops.Abs()),
        ("", ops.Softmax()),
    ]
    for note, op in made:
        yield case(f"{note}large", op, (3, 5, 7), draws=("large",))
        yield case(f"{note}kinks", op, (3, 7, 5), draws=("kinks",))
        for channels in (1, 8, 17):
            yield case(f"{note}c{channels}", op, (3, 5, channels))
    for op in (ops.Log(), ops.Sqrt(), ops.Exp()):
        for channels in (1, 8, 17):
            yield case(f"c{channels}", op, (3, 5, channels), draws=("unit",))
    yield case("axis1", ops.Softmax(axis=1), (4, 5, 3))
    yield case("vector", ops.Softmax(), (10,), n=5)


def masks() -> Iterator[Case]:
    """Dropout, StochasticDepth, LayerScale, StopGradient."""
    for rate in (0.0, 0.5, 0.9):
        yield case(f"{rate}", ops.Dropout(rate), (3, 5, 17), n=3)
        yield case(f"{rate}", ops.StochasticDepth(rate), (3, 5, 3), n=9)
    yield case("vector", ops.Dropout(0.3), (33,), n=5)
    for channels in (1, 8, 17):
        yield case(f"c{channels}", ops.LayerScale(0.1), (3, 5, channels))
    yield case("", ops.StopGradient(), (3, 5, 3))


def joins() -> Iterator[Case]:
    """Equal shapes, and every way of broadcasting."""
    pairs: dict[str, tuple[Shape, Shape]] = {
        "equal": ((3, 4, 17), (3, 4, 17)),
        "vector": ((9,), (9,)),
        "per-channel": ((3, 4, 5), (5,)),
        "per-channel-kept": ((3, 4, 5), (1, 1, 5)),
        "per-channel-first": ((17,), (3, 4, 17)),
        "per-position": ((3, 4, 5), (3, 4, 1)),
        "both-ways": ((3, 1, 5), (1, 4, 5)),
        "per-sample": ((3, 4, 5), (1,)),
    }
    for note, shapes in pairs.items():
        for op in (ops.Add(), ops.Sub(), ops.Multiply()):
            yield case(note, op, *shapes)
        yield case(note, ops.Div(), *shapes, draws=("normal", "nonzero"))
    yield case("three", ops.Add(), (3, 4, 5), (5,), (3, 4, 5))
    yield case("channels", ops.Concat(), (3, 4, 5), (3, 4, 16), (3, 4, 1))
    yield case("rows", ops.Concat(axis=1), (3, 4, 5), (1, 4, 5))
    yield case("vectors", ops.Concat(), (7,), (9,))


def moves() -> Iterator[Case]:
    """Ops that move or pick elements, Reduce and Resize."""
    yield case("", ops.Flatten(), (3, 4, 5))
    yield case("vector", ops.Flatten(), (7,))
    yield case("", ops.Reshape((6, -1)), (3, 4, 5))
    yield case("to-map", ops.Reshape((2, 3, 4)), (24,))
    yield case("first", ops.Transpose((0, 3, 1, 2)), (3, 4, 5))
    yield case("swap", ops.Transpose((0, 2, 1)), (17, 3))
    yield case("crop", ops.Slice((1, 0), (-1, 3), (1, 2)), (5, 6, 3))
    yield case("strided", ops.Slice(None, None, 1, 2), (7, 6, 3))
    yield case("reversed", ops.Slice((None, 4), (None, None), (-1, 1), (-1, -2)), (6, 5, 3))
    yield case("channels", ops.Split((1, 16, 3)), (3, 4, 20))
    yield case("rows", ops.Split((2, 3), axis=1), (5, 4, 3))
    yield case("2of6", ops.ChannelShuffle(2), (3, 4, 6))
    yield case("3of51", ops.ChannelShuffle(3), (3, 4, 51))
    yield case("map", ops.Constant([[[1.0, 2.0]], [[-3.0, 0.5]]]))
    for mode in ("zero", "reflect", "replicate", "circular"):
        yield case(mode, ops.Pad(2, mode=mode), (4, 5, 3))
        yield case(f"{mode}-asymmetric", ops.Pad(((0, 2), (3, 1), (1, 2)), mode=mode), (4, 5, 4))
    yield case("value", ops.Pad(((1, 0),), value=-1.5), (4, 3))
    for reduction in ("mean", "sum", "max"):
        yield case(f"{reduction}-positions", ops.Reduce((1, 2), reduction), (3, 4, 17))
        yield case(f"{reduction}-channels", ops.Reduce(-1, reduction, keepdims=True), (3, 4, 5))
        yield case(f"{reduction}-all", ops.Reduce((1, 2, 3), reduction), (3, 4, 5))
        yield case(f"{reduction}-outer", ops.Reduce((1, 3), reduction), (3, 4, 5))
    yield case("max-ties", ops.Reduce((1, 3), "max"), (3, 4, 5), draws=("ties",))
    for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        yield case(f"{coordinates}-up", ops.Resize(scale=2, mode="bilinear", coordinates=coordinates), (3, 4, 3))
        yield case(f"{coordinates}-odd", ops.Resize(size=(5, 3), mode="bilinear", coordinates=coordinates), (3, 7, 17))
        yield case(f"{coordinates}-cubic", ops.Resize(size=(5, 1), mode="bicubic", coordinates=coordinates), (3, 7, 17))
        for rounding in ("floor", "ceil", "half_down", "half_up"):
            nearest = ops.Resize(size=(7, 3), coordinates=coordinates, rounding=rounding)
            yield case(f"{coordinates}-{rounding}", nearest, (3, 6, 3))
    yield case("cubic-softer", ops.Resize(scale=(2, 1.6), mode="bicubic", cubic=-0.5), (3, 4, 3))
    yield case("fraction", ops.Resize(scale=(1.5, 0.7), mode="bilinear"), (3, 5, 3))
    yield case("nearest-fraction", ops.Resize(scale=(0.6, 2.4)), (5, 3, 4))
    yield case("nearest-up", ops.Resize(scale=2), (3, 4, 17))
    yield case("nearest-odd", ops.Resize(size=(5, 3)), (3, 7, 3))
    yield case("to-one", ops.Resize(size=1, mode="bilinear", coordinates="align_corners"), (3, 4, 3))
    yield case("from-one", ops.Resize(size=3, mode="bilinear"), (1, 1, 3))
    yield case("1d", ops.Resize(size=7, mode="bilinear"), (4, 3))
    yield case("3d", ops.Resize(scale=2, mode="bilinear"), (2, 3, 2, 2))


def losses() -> Iterator[Case]:
    """Integer, soft and ignored targets, smoothing, class weights; maps of targets."""
    weights = (0.5, 2.0, 0.0, 1.0, 0.7)
    for classes in (2, 10, 16, 17, 1000):
        op = ops.SoftmaxCrossEntropy()
        yield case(f"c{classes}", op, (classes,), (), draws=("normal", "classes"), n=5)
    made: dict[str, dict[str, Any]] = {
        "plain": {},
        "smoothed": {"label_smoothing": 0.1},
        "weighted": {"class_weights": weights},
        "both": {"label_smoothing": 0.1, "class_weights": weights},
    }
    for note, fields in made.items():
        whole, soft = ops.SoftmaxCrossEntropy(**fields), ops.SoftmaxCrossEntropy(**fields, soft_targets=True)
        yield case(f"{note}-map", whole, (3, 4, 5), (3, 4), draws=("normal", "some ignored"))
        yield case(f"{note}-soft", soft, (5,), (5,), draws=("normal", "probabilities"), n=4)
        yield case(f"{note}-soft-map", soft, (2, 3, 5), (2, 3, 5), draws=("normal", "probabilities"))
    yield case("large", ops.SoftmaxCrossEntropy(), (7,), (), draws=("large", "classes"), n=6)
    yield case("all-ignored", ops.SoftmaxCrossEntropy(), (7,), (), draws=("normal", "all ignored"))
    nothing = ops.SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=(0.0, 1.0, 2.0))
    yield case("nothing-weighs", nothing, (3,), (), draws=("normal", "first class"))
    others = (
        ops.BinaryCrossEntropy(),
        ops.FocalLoss(),
        ops.FocalLoss(gamma=1.5, alpha=-1.0),
        ops.FocalLoss(gamma=0.0, alpha=0.4),
        ops.QualityFocalLoss(),
        ops.QualityFocalLoss(beta=1.5),
    )
    for number, op in enumerate(others):
        yield case(f"{number}-unit", op, (3, 17), (3, 17), draws=("normal", "unit"))
        yield case(f"{number}-bits", op, (9,), (9,), draws=("normal", "bits"), n=3)
        yield case(f"{number}-large", op, (9,), (9,), draws=("large", "bits"), n=3)
    for variant in ("iou", "giou", "diou"):
        overlap = ops.IoULoss(variant)
        yield case(f"{variant}-map", overlap, (3, 7, 4), (3, 7, 5), draws=("unit", "unit"))
        yield case(f"{variant}-one", overlap, (4,), (5,), draws=("unit", "unit"), n=3)
    for op in (ops.MeanSquaredError(), ops.SmoothL1(), ops.SmoothL1(beta=0.3)):
        beta = f"-beta{op.beta:g}" if isinstance(op, ops.SmoothL1) else ""
        yield case(f"vector{beta}", op, (1,), (1,), n=7)
        yield case(f"map{beta}", op, (3, 4, 17), (3, 4, 17))
