"""The kernels of int8 inference against NumPy with 64-bit sums, at awkward sizes: every bit is equal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")

import fovea
from tests.native.int8_kernels import Array, conv_sums, padded, rounded, run, unpadded


def sizes(groups: int, cin: int, cout: int, size: tuple[int, ...], kernel: int, stride: int = 1, pad: int = 0,
          dilation: int = 1) -> list[int]:  # fmt: skip
    """The ints of a convolution over the last axes of three."""
    lead = 3 - len(size)
    out = [(i + 2 * pad - (kernel - 1) * dilation - 1) // stride + 1 for i in size]
    axes = [(1,) * lead + tuple(size), (1,) * lead + tuple(out), (1,) * lead + (kernel,) * len(size)]
    axes += [
        (1,) * lead + (stride,) * len(size),
        (1,) * lead + (dilation,) * len(size),
        (0,) * lead + (pad,) * len(size),
    ]
    return [groups, cin, cout, *(one for axis in axes for one in axis)]


def problem(ints: list[int], n: int, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Bytes, int8 weights with their extremes, a bias, and factors that bring the sums into 0 .. 255."""
    rng = np.random.default_rng(seed)
    groups, cin, cout = ints[:3]
    x = rng.integers(0, 256, (n, *ints[3:6], cin), np.uint8)
    weight = rng.integers(-127, 128, (*ints[9:12], cin // groups, cout)).astype(np.int8)
    terms = cin // groups * int(np.prod(ints[9:12]))
    bias = rng.integers(-9000, 9000, cout).astype(np.int32)
    factor = (rng.uniform(0.5, 2, cout) / (150 * 75 * np.sqrt(terms)) * 100).astype(np.float32)
    return x, weight, bias, factor


SHAPES = {
    "3x3": (sizes(1, 8, 16, (9, 7), 3, pad=1), 3),
    "sixteen": (sizes(1, 16, 16, (9, 22), 3, pad=1), 3),
    "sixteen_narrow": (sizes(1, 16, 16, (5, 6), 3, pad=1), 2),
    "sixteen_5x5": (sizes(1, 14, 16, (8, 35), 5, pad=2), 2),
    "sixteen_volume": (sizes(1, 16, 16, (3, 4, 17), 3, pad=1), 2),
    "ragged": (sizes(1, 5, 19, (6, 5), 3, pad=1), 2),
    "one_channel": (sizes(1, 1, 6, (8, 9), 5, pad=2), 2),
    "stem": (sizes(1, 3, 33, (17, 15), 7, stride=2, pad=3), 2),
    "batch_tiles": (sizes(1, 12, 80, (4, 4), 3, pad=1), 9),
    "strided": (sizes(1, 16, 48, (7, 9), 3, stride=2, pad=1), 3),
    "pointwise": (sizes(1, 20, 144, (5, 5), 1), 3),
    "pointwise_strided": (sizes(1, 16, 96, (6, 6), 1, stride=2), 3),
    "dilated": (sizes(1, 4, 17, (9, 9), 3, pad=2, dilation=2), 2),
    "groups": (sizes(3, 12, 21, (5, 6), 3, pad=1), 2),
    "dense": (sizes(1, 70, 130, (1,), 1), 1),
    "dense_rows": (sizes(1, 64, 10, (1,), 1), 7),
    "signal": (sizes(1, 6, 11, (31,), 5, stride=2), 3),
    "volume": (sizes(1, 2, 9, (4, 5, 6), 3, pad=1), 2),
    "one_pixel_wide": (sizes(1, 4, 7, (12, 1), 3, pad=1), 2),
}


def int8_conv(ints: list[int], x: Array, weight: Array, bias: Array, factor: Array, *, zero: int = 0, out_zero: int = 0,
              low: float = 0.0, high: float = 255.0, residual: Array | None = None, residual_zero: int = 0,
              residual_factor: float = 0.0, float_output: bool = False) -> Array:  # fmt: skip
    """Pack and run."""
    groups, cin, cout = ints[:3]
    n, taps = len(x), int(np.prod(ints[9:12]))
    packed = np.zeros(groups * -(-cout // groups // 16) * 16 * taps * -(-cin // groups // 4) * 4, np.int8)
    run("int8_pack", [packed], [weight], ints)
    own_bias = bias - zero * weight.astype(np.int64).sum((0, 1, 2, 3)).astype(np.int32)
    channels = cout if float_output else -(-cout // 4) * 4
    out = np.full((n, *ints[6:9], channels), 99, np.float32 if float_output else np.uint8)
    padding = np.full(-(-cin // 4) * 4, zero, np.uint8) if zero else None
    more = None if residual is None else padded(residual)
    run("int8_conv", [out], [padded(x), packed, own_bias.astype(np.int32), factor, more, padding],
        [*ints, float_output, out_zero, residual_zero], [low, high, residual_factor], n)  # fmt: skip
    return unpadded(out, cout)


@pytest.mark.parametrize("zero", [0, 131])
@pytest.mark.parametrize("name", SHAPES)
def test_convolution(name: str, zero: int) -> None:
    ints, n = SHAPES[name]
    x, weight, bias, factor = problem(ints, n)
    y = (conv_sums(x, weight, ints, zero) + bias).astype(np.float32) * factor
    ours = int8_conv(ints, x, weight, bias, factor, zero=zero, out_zero=3, low=-3.0, high=252.0)
    np.testing.assert_array_equal(ours, rounded(y, -3.0, 252.0, 3))
    logits = int8_conv(ints, x, weight, bias, factor, zero=zero, low=-np.inf, high=np.inf, float_output=True)
    np.testing.assert_array_equal(logits, y)


@pytest.mark.parametrize("name", ["ragged", "sixteen", "batch_tiles"])
def test_residual_is_added_before_the_clamp(name: str) -> None:
    ints, n = SHAPES[name]
    x, weight, bias, factor = problem(ints, n)
    residual = np.random.default_rng(5).integers(0, 256, (n, *ints[6:9], ints[2]), np.uint8)
    y = (conv_sums(x, weight, ints, 0) + bias).astype(np.float32) * factor
    y += (residual.astype(np.float32) - 128) * np.float32(0.37)
    ours = int8_conv(ints, x, weight, bias, factor, residual=residual, residual_zero=128, residual_factor=0.37, high=99)
    np.testing.assert_array_equal(ours, rounded(y, 0, 99, 0))


def test_extreme_values_do_not_saturate() -> None:
    """255 x 127 in every product: sums of two products leave 16 bits, which no instruction set may notice."""
    ints = sizes(1, 64, 32, (3, 3), 3, pad=1)
    x, weight = np.full((2, 1, 3, 3, 64), 255, np.uint8), np.full((1, 3, 3, 64, 32), 127, np.int8)
    weight[..., 1::2] = -127
    y = conv_sums(x, weight, ints, 0).astype(np.float32)
    ours = int8_conv(
        ints, x, weight, np.zeros(32, np.int32), np.ones(32, np.float32), low=-np.inf, high=np.inf, float_output=True
    )
    np.testing.assert_array_equal(ours, y)
    assert ours.max() == 255 * 127 * 9 * 64


DEPTHWISE = {
    "3x3": (sizes(96, 96, 96, (7, 11), 3, pad=1), 2),
    "strided": (sizes(33, 33, 33, (9, 8), 3, stride=2, pad=1), 3),
    "unpadded": (sizes(144, 144, 144, (5, 6), 3), 2),
    "5x5": (sizes(20, 20, 20, (9, 9), 5, stride=2, pad=2), 2),
    "dilated": (sizes(7, 7, 7, (8, 8), 3, pad=2, dilation=2), 2),
    "signal": (sizes(12, 12, 12, (19,), 4, pad=1), 2),
    "volume": (sizes(6, 6, 6, (4, 5, 6), 3, pad=1), 2),
    "one_output": (sizes(64, 64, 64, (3, 3), 3), 1),
    "narrow": (sizes(5, 5, 5, (6, 1), 3, pad=1), 1),
}


@pytest.mark.parametrize("zero", [0, 117])
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str, zero: int) -> None:
    ints, n = DEPTHWISE[name]
    x, weight, bias, factor = problem(ints, n)
    y = (conv_sums(x, weight, ints, zero) + bias).astype(np.float32) * factor
    channels, rows = ints[1], int(np.prod(ints[9:11]))
    packed = np.zeros(-(-channels // 64) * 64 * (ints[11] * -(-rows // 4) * 4 + 8), np.int8)
    own_bias = (bias - zero * weight.astype(np.int64).sum((0, 1, 2, 3))).astype(np.int32)
    run("int8_depthwise_pack", [packed], [weight, own_bias, factor], ints)
    pixel = -(-channels // 4) * 4
    out = np.full((n, *ints[6:9], pixel), 99, np.uint8)
    padding = np.full(ints[5] * pixel, zero, np.uint8)
    run("int8_depthwise", [out], [padded(x), packed, padding], [*ints, 9], [-9, 240], n)
    np.testing.assert_array_equal(unpadded(out, channels), rounded(y, -9, 240, 9))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16, 37])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_quantize_and_back(dtype: str, channels: int) -> None:
    rng = np.random.default_rng(channels)
    x = rng.integers(0, 256, (3, 11, channels), np.uint8)
    x = x if dtype == "uint8" else (rng.standard_normal(x.shape) * 90).astype(np.float32)
    factor = rng.uniform(0.3, 1.5, channels).astype(np.float32)
    offset = rng.uniform(-9, 9, channels).astype(np.float32)
    out = np.zeros((3, 11, -(-channels // 4) * 4), np.uint8)
    run(f"int8_quantize_{dtype}", [out], [x, factor, offset], [11, channels, 20], (), 3)
    expected = rounded(x.astype(np.float32) * factor + offset, -20, 235, 20)
    np.testing.assert_array_equal(unpadded(out, channels), expected)
    back = np.zeros(x.shape, np.float32)
    run("int8_dequantize", [back], [out], [11, channels, 20], [0.25], 3)
    np.testing.assert_array_equal(back, (expected.astype(np.float32) - 20) * np.float32(0.25))


def test_halves_are_rounded_to_even() -> None:
    x = np.array([[[0.5], [1.5], [2.5], [-0.5], [254.5], [300.0], [-7.0]]], np.float32)
    out = np.zeros((1, 7, 4), np.uint8)
    run("int8_quantize_float32", [out], [x, np.ones(1, np.float32), np.zeros(1, np.float32)], [7, 1, 0])
    assert out[0, :, 0].tolist() == [0, 2, 2, 0, 254, 255, 0]


def test_addition() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 1236), np.uint8)
    out = np.zeros_like(a)
    run("int8_add", [out], [a, b], [1236, 128, 5, 7], [0.7, 1.3, 0, 240], 3)
    y = (a.astype(np.float32) - 128) * np.float32(0.7) + (b.astype(np.float32) - 5) * np.float32(1.3)
    np.testing.assert_array_equal(out, rounded(y, 0, 240, 7))


@pytest.mark.parametrize("channels", [3, 16, 70])
def test_max_pooling(channels: int) -> None:
    ints = sizes(1, channels, channels, (9, 8), 3, stride=2, pad=1)
    x = np.random.default_rng(1).integers(0, 256, (2, 9, 8, channels), np.uint8)
    out = np.zeros((2, 5, 4, -(-channels // 4) * 4), np.uint8)
    run("int8_maxpool", [out], [padded(x)], [channels, *ints[3:]], (), 2)
    wide = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), (1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(unpadded(out, channels), windows.max((-2, -1)))


POOLED = {
    "lenet": (sizes(1, 1, 6, (28, 28), 5, pad=2), 2),
    "wide": (sizes(1, 1, 17, (9, 75), 7, pad=3), 2),
    "unpadded_odd": (sizes(1, 1, 5, (12, 9), 4), 3),
    "one_row": (sizes(1, 1, 64, (3, 70), 2), 1),
}


@pytest.mark.parametrize("zero", [0, 131])
@pytest.mark.parametrize("name", POOLED)
def test_convolution_of_one_channel_with_pooling(name: str, zero: int) -> None:
    ints, n = POOLED[name]
    x, weight, bias, factor = problem(ints, n)
    (_, height, width), outputs, rows, columns = ints[6:9], ints[2], *ints[10:12]
    y = (conv_sums(x, weight, ints, zero) + bias).astype(np.float32) * factor
    bytes_ = rounded(y, -3.0, 252.0, 3)[:, 0, : height // 2 * 2, : width // 2 * 2]
    expected = bytes_.reshape(n, height // 2, 2, width // 2, 2, outputs).max((2, 4))
    words = np.zeros((rows, outputs, 2, 8), np.int8)
    words[:, :, 0, :columns] = words[:, :, 1, 1 : columns + 1] = weight[0, :, :, 0].swapaxes(1, 2)
    own_bias = (bias - zero * weight.astype(np.int64).sum((0, 1, 2, 3))).astype(np.int32)
    out = np.full((n, height // 2, width // 2, -(-outputs // 4) * 4), 99, np.uint8)
    ins = [padded(x), words.view(np.int32), own_bias, factor]
    run("int8_convpool", [out], ins, [*ints, height // 2, width // 2, zero, 3], [-3, 252], n)
    np.testing.assert_array_equal(unpadded(out, outputs), expected)


@pytest.mark.parametrize("channels", [10, 64])
def test_mean_over_positions(channels: int) -> None:
    x = np.random.default_rng(1).integers(0, 256, (3, 49, channels), np.uint8)
    y = (x.astype(np.int64) - 12).sum(1).astype(np.float32) * np.float32(0.02)
    floats = np.zeros((3, channels), np.float32)
    run("int8_mean", [floats], [padded(x)], [49, channels, 12, 1, 0], [0.02, -np.inf, np.inf], 3)
    np.testing.assert_array_equal(floats, y)
    out = np.zeros((3, -(-channels // 4) * 4), np.uint8)
    run("int8_mean", [out], [padded(x)], [49, channels, 12, 0, 4], [0.02, -4, 251], 3)
    np.testing.assert_array_equal(unpadded(out, channels), rounded(y, -4, 251, 4))


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(threads: int) -> None:
    ints, n = SHAPES["3x3"][0], 9
    x, weight, bias, factor = problem(ints, n)
    before = int8_conv(ints, x, weight, bias, factor)
    usual = fovea.get_threads()
    fovea.set_threads(threads)
    try:
        np.testing.assert_array_equal(int8_conv(ints, x, weight, bias, factor), before)
    finally:
        fovea.set_threads(usual)


@pytest.mark.parametrize("isa", ["v2", "v3", "v4"])
def test_lower_instruction_sets(isa: str) -> None:
    """The same tests once more: what they compare with is the same for every set."""
    if "FOVEA_ISA" in os.environ:
        pytest.skip("runs inside of itself")
    environment: dict[str, Any] = {**os.environ, "FOVEA_ISA": isa}
    probe = "from fovea.engines.native import _core; print(_core.isa())"
    asked = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment)
    if asked.returncode or asked.stdout.strip() != isa:
        pytest.skip(f"this machine or build has no {isa}")
    files = [str(Path(__file__).with_name(f"test_int8{name}.py")) for name in ("", "_winograd", "_inverted")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", "not lower"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stdout[-2000:]
