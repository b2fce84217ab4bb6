"""Augmentation: a pure function of (sample, key), whatever batch the sample is in; and each step does what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fovea import random
from fovea.data.augment import (
    STEPS,
    AlternatingFlip,
    Augment,
    ColorJitter,
    FlipAxes,
    HorizontalFlip,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    Rotation,
    ShiftCrop,
    SignalGain,
    SignalNoise,
)
from fovea.data.augment.randaugment import OPERATIONS
from fovea.data.mix import CutMix, MixUp, one_hot, symmetric_beta
from fovea.errors import ConfigError, DataError

RNG = np.random.default_rng(2)
COUNT = 37
KEYS = random.fold_in(random.key(3, "test"), np.arange(COUNT))
SHAPES = {
    "image": (COUNT, 9, 11, 3),
    "signal": (COUNT, 50, 2),
    "volume": (COUNT, 4, 5, 6, 1),
    "clip": (COUNT, 3, 8, 8, 3),
}


def samples(kind: str, channels: int | None = None) -> np.ndarray:
    shape = SHAPES[kind] if channels is None else (*SHAPES[kind][:-1], channels)
    if kind in ("image", "clip"):
        return RNG.integers(0, 256, shape, dtype=np.uint8)
    return RNG.normal(0, 1, shape).astype(np.float32)


CASES = [(name, kind) for name, step in STEPS.items() for kind in step.kinds]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_splitting_a_batch_changes_no_bit(name: str, kind: str) -> None:
    augment = Augment((STEPS[name](),))
    for channels in (None, 1):
        inputs = samples(kind, channels)
        before = inputs.copy()
        whole = augment(inputs, KEYS, KEYS)
        assert whole.shape == inputs.shape
        assert whole.dtype == inputs.dtype
        assert np.array_equal(inputs, before), "the input is left alone"
        pieces = [augment(inputs[a:b], KEYS[a:b], KEYS[a:b]) for a, b in ((0, 1), (1, 8), (8, 8), (8, 24), (24, COUNT))]
        assert np.array_equal(np.concatenate(pieces), whole)
        order = np.random.default_rng(0).permutation(COUNT)
        assert np.array_equal(augment(inputs[order], KEYS[order], KEYS[order]), whole[order])
        keys = random.fold_in(KEYS, 9)
        other = augment(inputs, keys, keys)
        assert not np.array_equal(other, whole), "another key, another result"


def test_flip() -> None:
    images = samples("image")
    assert np.array_equal(HorizontalFlip(p=1.0)(images, KEYS), images[:, :, ::-1])
    assert np.array_equal(HorizontalFlip(p=0.0)(images, KEYS), images)
    half = HorizontalFlip()(images, KEYS)
    turned = [not np.array_equal(a, b) for a, b in zip(half, images, strict=True)]
    assert 8 < sum(turned) < 29
    assert all(np.array_equal(half[row], images[row, :, ::-1]) for row in np.flatnonzero(turned))


def test_an_alternating_flip_shows_both_sides_in_two_epochs() -> None:
    images = samples("image")
    augment = Augment((ShiftCrop(0), AlternatingFlip()))
    even, odd, again = (augment.at(epoch)(images, random.fold_in(KEYS, epoch), KEYS) for epoch in (0, 1, 2))
    turned = np.array([not np.array_equal(a, b) for a, b in zip(even, images, strict=True)])
    assert 8 < turned.sum() < 29
    assert np.array_equal(even[turned], images[turned, :, ::-1])
    assert np.array_equal(odd[turned], images[turned])
    assert np.array_equal(odd[~turned], images[~turned, :, ::-1])
    assert np.array_equal(again, even), "whatever the keys of the epoch are"
    with pytest.raises(ConfigError, match="alternating_flip needs keys that last over epochs"):
        augment(images, KEYS)


def test_a_clip_is_flipped_as_one() -> None:
    clip = samples("clip")
    flipped = Augment((HorizontalFlip(),))(clip, KEYS)
    for row in range(COUNT):
        options = [np.array_equal(flipped[row], clip[row]), np.array_equal(flipped[row], clip[row, :, :, ::-1])]
        assert any(options)


@pytest.mark.parametrize(("mode", "numpy_mode"), [("zero", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("kind", ["image", "signal", "volume"])
def test_shift_crop_is_a_window_of_the_padded_input(kind: str, mode: str, numpy_mode: str) -> None:
    inputs = samples(kind)
    pad = 2
    axes = inputs.ndim - 2
    output = ShiftCrop(pad, mode)(inputs, KEYS)
    padded = np.pad(inputs, [(0, 0), *[(pad, pad)] * axes, (0, 0)], mode=numpy_mode)  # type: ignore[call-overload]
    offsets = random.integers(KEYS, axes, 0, 2 * pad + 1)
    assert len(np.unique(offsets)) == 2 * pad + 1, "every offset occurs"
    for row in range(COUNT):
        window = tuple(slice(start, start + side) for start, side in zip(offsets[row], inputs.shape[1:-1], strict=True))
        assert np.array_equal(output[row], padded[row][window])


def test_shift_crop_reflects_images_that_are_smaller_than_the_padding() -> None:
    tiny = samples("image")[:, :1, :2]
    output = ShiftCrop(5)(tiny, KEYS)
    assert all(set(np.unique(output[row])) <= set(np.unique(tiny[row])) for row in range(COUNT))


def test_resized_crop_of_everything_is_the_image() -> None:
    images = samples("image")
    assert np.array_equal(RandomResizedCrop(scale=(1.0, 1.0), ratio=(11 / 9, 11 / 9))(images, KEYS), images)
    crops = RandomResizedCrop()(images, KEYS)
    assert all(
        crop.min() >= image.min() and crop.max() <= image.max() for crop, image in zip(crops, images, strict=True)
    )


def test_rotation() -> None:
    images = samples("image")
    assert np.array_equal(Rotation(0)(images, KEYS), images)
    disc = np.zeros((COUNT, 21, 21, 1), np.uint8)
    rows, columns = np.mgrid[-10:11, -10:11]
    disc[:, rows**2 + columns**2 <= 36] = 200
    turned = Rotation(180)(disc, KEYS)
    assert np.abs(turned.astype(int).sum((1, 2, 3)) - disc[0].astype(int).sum()).max() < 0.05 * disc[0].sum()


def test_color_jitter() -> None:
    images = samples("image")
    assert np.array_equal(ColorJitter(0, 0, 0)(images, KEYS), images)
    grey = np.full((COUNT, 4, 4, 3), 100, np.uint8)
    changed = ColorJitter(0.5, 0.5, 0.5)(grey, KEYS)
    assert (changed[..., 0] == changed[..., 1]).all(), "grey stays grey"
    assert changed.min() >= 49
    assert changed.max() <= 151
    brightness = 1 + (random.uniform(KEYS, 3)[:, 0] * 2 - 1) * np.float32(0.5)
    assert np.abs(changed[:, 0, 0, 0] - brightness * 100).max() <= 0.51
    faded = ColorJitter(0, 0, 1.0)(images, KEYS)
    assert np.abs(faded.astype(float).mean((1, 2)) - images.mean((1, 2))).max() > 1


def test_erasing_covers_a_box() -> None:
    images = np.full((COUNT, 20, 30, 3), 255, np.uint8)
    output = RandomErasing(p=1.0, area=(0.1, 0.2))(images, KEYS)
    for row in range(COUNT):
        covered = (output[row] != 255).any(axis=2)
        assert 0.05 * 600 <= covered.sum() <= 0.3 * 600
        lines, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        box = output[row, lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1]
        assert (box == box[0, 0]).all(), "one colour in one box"
    assert np.array_equal(RandomErasing(p=0)(images, KEYS), images)


def test_randaugment_uses_every_operation() -> None:
    images = RNG.integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)
    keys = random.fold_in(random.key(0, "many"), np.arange(400))
    drawn = random.integers(keys, 1, 0, len(OPERATIONS))
    assert len(np.unique(drawn)) == len(OPERATIONS)
    output = RandAugment(count=1, magnitude=15)(images, keys)
    identity = list(OPERATIONS).index("identity")
    assert np.array_equal(output[drawn[:, 0] == identity], images[drawn[:, 0] == identity])
    translate = list(OPERATIONS).index("translate_x")
    assert not np.array_equal(output[drawn[:, 0] == translate], images[drawn[:, 0] == translate])


def test_signal_steps() -> None:
    signals = samples("signal")
    gained = SignalGain(2.0, 2.0)(signals, KEYS)
    assert np.array_equal(gained, signals * 2)
    noisy = SignalNoise(0.1)(signals, KEYS)
    assert 0.05 < (noisy - signals).std() / signals.std() < 0.2
    assert not SignalNoise(0.1)(np.zeros_like(signals), KEYS).any()


def test_flip_axes_turns_each_axis_by_itself() -> None:
    volume = samples("volume")
    output = FlipAxes(p=1.0)(volume, KEYS)
    assert np.array_equal(output, volume[:, ::-1, ::-1, ::-1])


def test_standard_and_names() -> None:
    assert Augment.standard("image", (32, 32, 3)).names == "shift_crop,flip"
    assert Augment.standard("image", (128, 128, 3)).names == "resized_crop,flip"
    assert Augment.standard("image", (28, 28, 1)).names == "shift_crop", "digits are not mirrored"
    for kind, shape in SHAPES.items():
        inputs = samples(kind)
        assert Augment.standard(kind, shape[1:])(inputs, KEYS).shape == inputs.shape
    assert Augment.from_names("standard, randaugment", "image", (32, 32, 3)).names == "shift_crop,flip,randaugment"
    assert Augment.from_names("none", "image", (32, 32, 3)) == Augment()
    with pytest.raises(ConfigError, match="'blur' is not one of standard, none, flip"):
        Augment.from_names("blur", "image", (32, 32, 3))
    with pytest.raises(ConfigError, match="'flip' is for images and clips; these are signals"):
        Augment.from_names("flip", "signal", (100, 1))


def test_json_both_ways() -> None:
    augment = Augment(tuple(step() for step in STEPS.values()))
    assert Augment.from_dict(json.loads(json.dumps(augment.to_dict()))) == augment


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "expected an object with a list of steps"),
        ({"steps": [{"name": "explode"}]}, "is no step; known names are flip"),
        ({"steps": [{"name": "flip", "q": 1}]}, "has no q; it has p"),
        ({"steps": [{"name": "flip", "p": 2}]}, "p must be a number from 0 to 1"),
        ({"steps": [{"name": "shift_crop", "pad": 1.5}]}, "pad must be an integer"),
        ({"steps": [{"name": "shift_crop", "mode": "wrap"}]}, "mode must be 'reflect' or 'zero'"),
        ({"steps": [{"name": "resized_crop", "scale": [0.9, 0.1]}]}, "scale must rise"),
        ({"steps": [{"name": "resized_crop", "scale": 0.9}]}, "scale must be two numbers"),
        ({"steps": [{"name": "randaugment", "count": True}]}, "count must be an integer"),
    ],
)
def test_bad_records(record, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augment.from_dict(record)


def test_pictures_only_where_pictures_are_needed() -> None:
    with pytest.raises(DataError, match="needs uint8 N,H,W,C images with 1 or 3 channels"):
        Rotation()(np.zeros((1, 4, 4, 5), np.uint8), KEYS[:1])


@pytest.mark.parametrize("mix", [MixUp(), MixUp(1.0), CutMix(), CutMix(0.5)])
@pytest.mark.parametrize("kind", ["image", "signal", "volume", "clip"])
def test_mixing_keeps_the_proportions(mix, kind: str) -> None:
    inputs, partners = np.zeros_like(samples(kind)), np.full_like(samples(kind), 100)
    first, second = one_hot(np.zeros(COUNT, int), 3), one_hot(np.ones(COUNT, int), 3)
    mixed, targets = mix(inputs, first, partners, second, KEYS)
    assert mixed.dtype == inputs.dtype
    assert targets.dtype == np.float32
    assert np.allclose(targets.sum(1), 1)
    share = mixed.astype(np.float64).reshape(COUNT, -1).mean(1) / 100
    assert np.allclose(share, targets[:, 1], atol=0.006), "targets hold as much of the partner as the input does"
    parts = [mix(inputs[a:b], first[a:b], partners[a:b], second[a:b], KEYS[a:b]) for a, b in ((0, 5), (5, COUNT))]
    assert np.array_equal(np.concatenate([part[0] for part in parts]), mixed)
    assert np.array_equal(np.concatenate([part[1] for part in parts]), targets)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_beta_draws_have_its_moments(alpha: float) -> None:
    draws = symmetric_beta(random.fold_in(random.key(1, "beta"), np.arange(20000)), alpha).astype(np.float64)
    assert draws.min() >= 0
    assert draws.max() <= 1
    assert abs(draws.mean() - 0.5) < 0.015
    assert abs(draws.var() - 1 / (4 * (2 * alpha + 1))) < 0.006
    fourth = ((draws - 0.5) ** 4).mean()  # Beta(a, a): 3 / (16 (2 a + 1) (2 a + 3))
    assert abs(fourth - 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3))) < 0.003


def test_mix_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="alpha must be a number"):
        MixUp(alpha=0)
