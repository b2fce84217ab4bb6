"""Pictures of attributions of signals, volumes and clips."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fovea import explain
from fovea.report.attribution import picture, sheet
from fovea.report.strips import seen_of, slices_of, strongest_of, strongest_slice
from tests.explain.attribution_nets import numbers
from tests.explain.test_attribution_axes import SHAPES, known, network


def drawn(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", list(SHAPES))
def test_the_map_is_in_the_picture(kind: str) -> None:
    model, x = network(kind, preprocessing=known(kind)), numbers(*SHAPES[kind])
    found = explain.gradient_x_input(model, x, 1)
    whole = drawn(picture(found))
    assert whole.shape[1] > 900
    turned = drawn(picture(replace(found, values=-found.values)))
    red = ((whole[..., 0] - whole[..., 2]) > 90).sum(), ((turned[..., 0] - turned[..., 2]) > 90).sum()
    blue = ((whole[..., 2] - whole[..., 0]) > 90).sum(), ((turned[..., 2] - turned[..., 0]) > 90).sum()
    assert min(*red, *blue) > 100
    assert (red[0] > red[1]) == (blue[1] > blue[0]), "what was for is against"
    warned = explain.guided_backprop(model, x, 1)
    several = drawn(sheet([found, warned, explain.grad_cam(model, x, 1)]))
    assert several.shape[0] > 1.4 * whole.shape[0], "one row more for each map"


def test_seconds_where_the_rate_is_known() -> None:
    found = explain.gradient(network("signal", preprocessing=known("signal", rate=16)), numbers(32, 2), 1)
    assert not np.array_equal(drawn(picture(found)), drawn(picture(replace(found, rate=None))))


def test_a_long_map_keeps_the_strongest_of_each_stretch() -> None:
    values = np.zeros(9000, np.float32)
    values[4321], values[17] = -5, 2
    short = strongest_of(values, 900)
    assert (short[432], short[1], np.abs(short).sum()) == (-5, 2, 7)
    np.testing.assert_array_equal(strongest_of(values[:20], 900), values[:20])


def test_slices_are_those_where_the_map_is_large() -> None:
    values = np.zeros((10, 4, 4), np.float32)
    values[1, 2, 2], values[7, 0, 1], values[8, 1, 1] = 3, -9, 1
    assert slices_of([values], 2) == [1, 7]
    assert slices_of([values, -values], 2) == [1, 7]
    found = explain.gradient(network("volume"), numbers(*SHAPES["volume"]), 1)
    assert strongest_slice(found) == found.values.sum((1, 2)).argmax()


def test_frames_keep_their_colours() -> None:
    found = explain.gradient(network("volume"), numbers(*SHAPES["volume"]), 1)
    frames = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3)).astype(np.uint8)
    clip = replace(found, image=frames)
    np.testing.assert_array_equal(seen_of(clip), frames)
    assert picture(clip).startswith(b"\x89PNG")
    grey = seen_of(found)
    assert (grey.shape, grey.min(), grey.max()) == ((8, 6, 6), 0, 255)
