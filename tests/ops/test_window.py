"""The arithmetic of sliding windows: numbers by hand, a brute count of windows, published receptive fields."""

from __future__ import annotations

import pytest

import fovea.ops as ops
from fovea.errors import ShapeError
from fovea.ops.window import Axis, ReceptiveField, resolve


def one(
    size: int, kernel: int, stride: int = 1, padding: object = 0, dilation: int = 1, ceil_mode: bool = False
) -> Axis:
    (axis,) = resolve("test", (size,), kernel, stride, padding, dilation, ceil_mode)  # type: ignore[arg-type]
    return axis


@pytest.mark.parametrize(
    ("axis", "output", "pad_lo", "pad_hi"),
    [
        (one(5, 3), 3, 0, 0),
        (one(5, 3, padding=1), 5, 1, 1),
        (one(6, 3, stride=2), 2, 0, -1),  # the last element is not read
        (one(6, 3, stride=2, padding=1), 3, 1, 0),  # the padding at the end is not reached
        (one(9, 2, stride=4), 2, 0, -3),
        (one(7, 3, dilation=3), 1, 0, 0),
        (one(5, 3, padding=((2, 0),)), 5, 2, 0),
        (one(6, 3, stride=2, ceil_mode=True), 3, 0, 1),
        (one(5, 2, stride=3, padding=1, ceil_mode=True), 2, 1, -1),  # a third would begin in the padding at the end
    ],
)
def test_what_windows_reach(axis: Axis, output: int, pad_lo: int, pad_hi: int) -> None:
    assert (axis.output, axis.pad_lo, axis.pad_hi) == (output, pad_lo, pad_hi)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "output", "pad_lo", "pad_hi"),
    [
        (28, 3, 1, 1, 28, 1, 1),
        (28, 4, 1, 1, 28, 1, 2),  # the odd element at the end
        (28, 3, 2, 1, 14, 0, 1),
        (27, 3, 2, 1, 14, 1, 1),
        (224, 7, 2, 1, 112, 2, 3),
        (10, 2, 3, 1, 4, 0, 1),
        (9, 2, 3, 1, 3, 0, -1),  # nothing to pad, and the last element unread
        (10, 3, 1, 4, 10, 4, 4),
        (1, 3, 1, 1, 1, 1, 1),
    ],
)
def test_same_is_ceil_of_size_over_stride(
    size: int, kernel: int, stride: int, dilation: int, output: int, pad_lo: int, pad_hi: int
) -> None:
    axis = one(size, kernel, stride, "same", dilation)
    assert (axis.output, axis.pad_lo, axis.pad_hi) == (output, pad_lo, pad_hi)
    assert output == -(-size // stride)


def test_every_small_window_against_counting() -> None:
    """A window fits when its last tap lies inside the padded input.

    With ceil_mode one more may stick out, but it must begin in the input or its leading padding. (Only pools have
    ceil_mode, and they refuse padding as large as their window.)
    """
    for size in range(1, 9):
        for kernel, stride, dilation in [(k, s, d) for k in (1, 2, 3) for s in (1, 2, 3) for d in (1, 2)]:
            extent = (kernel - 1) * dilation + 1
            for lo, hi in [(0, 0), (1, 0), (0, 2), (1, 1)]:
                if size + lo + hi < extent:
                    with pytest.raises(ShapeError, match="use a larger input, more padding or a smaller kernel_size"):
                        one(size, kernel, stride, ((lo, hi),), dilation)
                    continue
                starts = range(0, size + lo + hi, stride)
                axis = one(size, kernel, stride, ((lo, hi),), dilation)
                assert axis.output == sum(start + extent <= size + lo + hi for start in starts)
                assert axis.pad_hi == (axis.output - 1) * stride + extent - size - lo
                if hi >= extent:
                    continue
                ceiled = one(size, kernel, stride, ((lo, hi),), dilation, ceil_mode=True)
                whole = [start for start in starts if start - stride + extent < size + lo + hi or start == 0]
                assert ceiled.output == sum(start < size + lo for start in whole)


def test_counts_of_a_mean() -> None:
    assert ops.AvgPool(3, 2, padding=1).counts((5, 1)) == ((3, 3, 3),)
    assert ops.AvgPool(3, 2, padding=1, count_include_pad=False).counts((5, 1)) == ((2, 3, 2),)
    assert ops.AvgPool(3, 2, ceil_mode=True).counts((6, 1)) == ((3, 3, 2),)
    assert ops.AvgPool(3, 2, padding="same", count_include_pad=False).counts((6, 1)) == ((3, 3, 2),)
    assert ops.AvgPool(3, 2, padding="same").counts((6, 1)) == ((3, 3, 3),)
    assert ops.AvgPool(2, 1, dilation=2, padding=((1, 0),), count_include_pad=False).counts((4, 1)) == ((1, 2, 2),)


def test_bins_of_adaptive_pooling() -> None:
    assert ops.AdaptiveAvgPool(3).bins((7, 1)) == (((0, 3), (2, 5), (4, 7)),)
    assert ops.AdaptiveAvgPool(4).bins((2, 1)) == (((0, 1), (0, 1), (1, 2), (1, 2)),)


def test_receptive_field_grows_by_the_jump() -> None:
    """Two 3x3 convolutions see 5, a pooling by 2 between them makes it 8; the start moves left by the padding."""
    field = ReceptiveField()
    conv, pool = one(32, 3, padding=1), one(32, 2, stride=2)
    assert field.through(conv).through(conv) == ReceptiveField(5, 1, -2)
    assert field.through(conv).through(pool).through(conv) == ReceptiveField(8, 2, -3)


def test_receptive_field_of_alexnets_last_pooling() -> None:
    """195 with stride 32 (Araujo et al. 2019, table 1)."""
    field = ReceptiveField()
    for kernel, stride, padding in [
        (11, 4, 2),
        (3, 2, 0),
        (5, 1, 2),
        (3, 2, 0),
        (3, 1, 1),
        (3, 1, 1),
        (3, 1, 1),
        (3, 2, 0),
    ]:
        field = field.through(one(224, kernel, stride, padding))
    assert (field.size, field.jump) == (195, 32)


def test_joined_fields_cover_both_branches() -> None:
    assert ReceptiveField(3, 2, -1).joined(ReceptiveField(5, 2, 0)) == ReceptiveField(6, 2, -1)
