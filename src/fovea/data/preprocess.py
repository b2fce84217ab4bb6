"""Preprocessing: how a sample becomes network input. One frozen record serves training and serving alike.

The spatial half runs on uint8 (resize, crop, pad; for signals and volumes: crop, pad, standardise each sample). The
pixel half (scale, channel order, mean, std) is the op ``Normalize`` inside the graph, and
:meth:`Preprocessing.apply_pixels` is the same formula in NumPy. The record travels in the model file as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fovea.data import spatial
from fovea.data.decode import MAX_PIXELS
from fovea.errors import DataError

__all__ = ["KINDS", "SPATIAL_AXES", "Preprocessing", "pixel_statistics"]

Array = npt.NDArray[Any]
Kind = Literal["image", "signal", "volume", "clip"]
KINDS = ("image", "signal", "volume", "clip")
_SIZE_AXES = {
    "image": "(height, width)",
    "signal": "(length,)",
    "volume": "(depth, height, width)",
    "clip": "(frames, height, width)",
}
SPATIAL_AXES = {"image": 2, "signal": 1, "volume": 3, "clip": 3}
"""Axes of a sample without its channels, by kind."""
_CHOICES = {
    "kind": KINDS,
    "resize": ("shorter-side", "stretch", "letterbox", "none"),
    "interpolation": tuple(spatial.FILTERS),
    "order": ("rgb", "bgr"),
}
_LARGEST = 1 << 16  # a side longer than this is a mistake or an attack
_WHERE = "preprocessing"


@dataclass(frozen=True)
class Preprocessing:
    """How samples become network input.

    ``size``: spatial size of the network's input, ``(H, W)`` for images, ``(L,)`` signals, ``(D, H, W)`` volumes,
    ``(T, H, W)`` clips; None leaves samples as they come. ``resize``: ``"shorter-side"`` scales until the shorter side
    is ``resize_to`` (None: until ``size`` is just covered) and cuts the centre; ``"stretch"`` ignores the aspect ratio;
    ``"letterbox"`` fits the whole image and pads with grey ``fill``; ``"none"`` only cuts or pads the centre.
    ``antialias`` False samples at points, as OpenCV does. ``per_sample`` standardises each signal or volume to mean
    0 and variance 1. Signals keep their beginning: longer ones are cut, shorter ones end in zeros; ``rate`` is how many
    samples a second the model knows (None: not known), and a wav file of another rate is refused.

    The pixel half is ``(x[..., order] * scale - mean) / std``, ``mean`` and ``std`` in the channel order after
    ``order``.

    >>> Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3).sample_shape
    (32, 32, 3)
    """

    kind: str = "image"
    size: tuple[int, ...] | None = None
    channels: int = 3
    resize: str = "shorter-side"
    resize_to: int | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    fill: int = 114
    per_sample: bool = False
    rate: int | None = None
    scale: float = 1.0 / 255.0
    order: str = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise DataError(_WHERE, f"{name}={getattr(self, name)!r} is not one of {', '.join(choices)}")
        self._check_numbers()
        for name in ("mean", "std"):
            given = getattr(self, name)
            given = (given,) if _is_number(given) else given
            if not isinstance(given, (tuple, list, np.ndarray)) or not all(map(_is_number, given)):
                raise DataError(_WHERE, f"{name} must be a number or one a channel, got {given!r}")
            values = tuple(float(value) for value in given)
            if len(values) == 1:
                values *= self.channels
            if len(values) != self.channels or not all(math.isfinite(value) for value in values):
                raise DataError(
                    _WHERE, f"{name} needs {self.channels} finite numbers, one a channel, got {getattr(self, name)!r}"
                )
            object.__setattr__(self, name, values)
        if min(self.std) <= 0:
            raise DataError(_WHERE, f"std must be positive, got {self.std}")

    def _check_numbers(self) -> None:
        if not _is_int(self.channels) or not 1 <= self.channels <= 4096:
            raise DataError(_WHERE, f"channels must be an integer from 1 to 4096, got {self.channels!r}")
        if self.size is not None:
            size = tuple(self.size) if isinstance(self.size, (tuple, list)) else ()
            whole = all(_is_int(side) and 1 <= side <= _LARGEST for side in size)
            if len(size) != SPATIAL_AXES[self.kind] or not whole:
                raise DataError(
                    _WHERE, f"size of kind {self.kind!r} must be {_SIZE_AXES[self.kind]}, got {self.size!r}"
                )
            object.__setattr__(self, "size", tuple(int(side) for side in size))
        if self.resize_to is not None:
            smallest = max(self.size[-2:]) if self.size is not None else 1
            if not _is_int(self.resize_to) or not smallest <= self.resize_to <= _LARGEST:
                raise DataError(
                    _WHERE, f"resize_to must be an integer from {smallest} to {_LARGEST}, got {self.resize_to!r}"
                )
        if not _is_int(self.fill) or not 0 <= self.fill <= 255:
            raise DataError(_WHERE, f"fill must be an integer from 0 to 255, got {self.fill!r}")
        if not isinstance(self.scale, (int, float)) or not math.isfinite(self.scale) or self.scale == 0:
            raise DataError(_WHERE, f"scale must be a finite number other than 0, got {self.scale!r}")
        if self.rate is not None and (self.kind != "signal" or not _is_int(self.rate) or not 1 <= self.rate <= 1 << 30):
            raise DataError(_WHERE, f"rate must be samples per second of a signal, got {self.rate!r} for {self.kind}s")
        for name in ("antialias", "per_sample"):
            if not isinstance(getattr(self, name), bool):
                raise DataError(_WHERE, f"{name} must be true or false, got {getattr(self, name)!r}")
        if self.order == "bgr" and self.channels != 3:
            raise DataError(_WHERE, f'order="bgr" needs 3 channels, got {self.channels}')

    @property
    def sample_shape(self) -> tuple[int | None, ...]:
        """Shape of one sample, channels last; None where the size is open."""
        size: tuple[int | None, ...] = self.size if self.size is not None else (None,) * SPATIAL_AXES[self.kind]
        return (*size, self.channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What :meth:`apply_spatial` returns: uint8 for images and clips, float32 for signals and volumes."""
        return np.dtype(np.uint8 if self.kind in ("image", "clip") else np.float32)

    def spatial_half(self) -> Preprocessing:
        """This record without its pixel half: two records with equal spatial halves decode to the same arrays."""
        return replace(self, scale=1.0, order="rgb", mean=(0.0,), std=(1.0,))

    def apply_spatial(self, samples: Array | Sequence[Array]) -> Array:
        """The spatial half of a batch: ``N,*size,C``.

        ``samples`` is one array ``N,*spatial,C`` or a sequence of ``*spatial,C`` arrays of unequal size. Grey becomes
        RGB by repetition, RGB becomes grey by luma. Raises DataError for a wrong dtype or shape.
        """
        if isinstance(samples, np.ndarray) and self._fits(samples):
            return samples
        done = [self.apply_to_sample(sample) for sample in samples]
        if not done:
            return np.empty((0, *(side or 1 for side in self.sample_shape)), self.dtype)
        if any(sample.shape != done[0].shape for sample in done):
            raise DataError(_WHERE, "samples of unequal size need a size to be brought to; give size=")
        return np.stack(done)

    def _fits(self, samples: Array) -> bool:
        return (
            samples.ndim == SPATIAL_AXES[self.kind] + 2
            and samples.dtype == self.dtype
            and samples.shape[-1] == self.channels
            and (self.size is None or samples.shape[1:-1] == self.size)
            and not self.per_sample
            and (self.resize_to is None or self.resize != "shorter-side" or min(samples.shape[-3:-1]) == self.resize_to)
        )

    def apply_to_sample(self, sample: Array) -> Array:
        """The spatial half of one ``*spatial,C`` sample."""
        sample = np.asarray(sample)
        expected = f"{self.kind} of shape {_SIZE_AXES[self.kind][:-1].rstrip(',')}, channels)"
        if sample.ndim != SPATIAL_AXES[self.kind] + 1 or 0 in sample.shape:
            raise DataError(_WHERE, f"expected one {expected}, got shape {sample.shape}")
        if self.kind in ("image", "clip"):
            if sample.dtype != np.uint8:
                raise DataError(
                    _WHERE, f"expected a uint8 {expected}, got {sample.dtype}; network input goes to the model directly"
                )
            sample = spatial.to_channels(sample, self.channels)
            return self._clip(sample) if self.kind == "clip" else self._image(sample)
        return self._numbers(sample)

    def placement(self, height: int, width: int) -> spatial.Placement:
        """Where an image of this size lands in the network's input; its ``to_source`` takes boxes back."""
        size = (self.size[0], self.size[1]) if self.size is not None else None
        return spatial.place(height, width, size, self.resize, self.resize_to)

    def _image(self, image: Array) -> Array:
        plan = self.placement(image.shape[0], image.shape[1])
        if plan.height * plan.width > MAX_PIXELS:  # one row of pixels can ask for gigabytes
            raise DataError(
                _WHERE,
                f"an image of {image.shape[0]}x{image.shape[1]} would be resized to {plan.height}x{plan.width}, "
                f"more than {MAX_PIXELS:,} pixels; crop it first",
            )
        return spatial.transform(image, plan, self.interpolation, self.antialias, self.fill)

    def _clip(self, frames: Array) -> Array:
        if self.size is None:
            return np.stack([self._image_of(frame, None) for frame in frames])
        chosen = np.round(np.linspace(0, len(frames) - 1, self.size[0])).astype(np.int64)  # evenly spaced in time
        return np.stack([self._image_of(frames[index], (self.size[1], self.size[2])) for index in chosen])

    def _image_of(self, frame: Array, size: tuple[int, int] | None) -> Array:
        return replace(self, kind="image", size=size)._image(frame)

    def _numbers(self, sample: Array) -> Array:
        if sample.dtype.kind not in "uif":
            raise DataError(_WHERE, f"expected numbers in a {self.kind}, got dtype {sample.dtype}")
        if sample.shape[-1] != self.channels:
            if self.channels != 1 and sample.shape[-1] != 1:
                raise DataError(_WHERE, f"a {self.kind} has {sample.shape[-1]} channels, {self.channels} are expected")
            sample = sample.mean(axis=-1, keepdims=True).repeat(self.channels, axis=-1)
        values = sample.astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError(_WHERE, f"a {self.kind} holds values that are infinite or not a number")
        if self.per_sample:
            exact = values.astype(np.float64)
            values = ((exact - exact.mean()) / max(float(exact.std()), 1e-6)).astype(np.float32)
        if self.size is None:
            return values
        return spatial.fit(values, self.size, centre=self.kind == "volume")

    def apply_pixels(self, batch: Array) -> npt.NDArray[np.float32]:
        """The pixel half in NumPy: ``(x[..., order] * scale - mean) / std``, float32. The oracle of ``Normalize``."""
        values = np.asarray(batch, np.float32)
        if self.order == "bgr":
            values = values[..., ::-1]
        scaled = values * np.float32(self.scale)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return ((scaled - mean) / std).astype(np.float32, copy=False)

    def apply_pixels_adjoint(self, gradient: Array) -> npt.NDArray[np.float32]:
        """The gradient of network input brought to pixels: the transpose of the linear part of ``apply_pixels``."""
        scaled = np.asarray(gradient, np.float32) * (np.float32(self.scale) / np.array(self.std, np.float32))
        return np.ascontiguousarray(scaled[..., ::-1] if self.order == "bgr" else scaled, np.float32)

    def normalize(self) -> dict[str, Any]:
        """The fields of the op ``Normalize``."""
        return {"mean": self.mean, "std": self.std, "scale": self.scale, "order": self.order}

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Preprocessing:
        """From JSON, every field validated. Raises DataError."""
        known = {field.name for field in fields(cls)}
        if not isinstance(record, Mapping):
            raise DataError(_WHERE, f"expected an object, got {type(record).__name__}")
        unknown = sorted(str(name) for name in record if name not in known)
        if unknown:
            raise DataError(_WHERE, f"has unknown fields {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        values = dict(record)
        for name in ("size", "mean", "std"):
            if name in values and values[name] is not None:
                if (
                    not isinstance(values[name], (list, tuple))
                    or len(values[name]) > 4096
                    or not all(map(_is_number, values[name]))
                ):
                    raise DataError(_WHERE, f"{name} must be a list of numbers, got {str(values[name])[:80]}")
                values[name] = tuple(values[name])
        try:
            return cls(**values)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(_WHERE, f"has a field of a wrong type: {error}") from None


def pixel_statistics(inputs: Array, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of ``scale * inputs``, ``N,*spatial,C``; constant channels get std 1.

    uint8 sums are exact integers, so the result does not depend on how the work is cut.
    """
    channels = inputs.shape[-1]
    integer = inputs.dtype == np.uint8
    total, squares = np.zeros(channels, np.float64), np.zeros(channels, np.float64)
    rows = max(1, (1 << 22) // max(1, int(np.prod(inputs.shape[1:]))))
    for start in range(0, len(inputs), rows):
        part = inputs[start : start + rows].reshape(min(rows, len(inputs) - start), -1)
        wide = part.astype(np.uint16) if integer else part.astype(np.float64)
        total += part.sum(axis=0, dtype=np.uint64 if integer else np.float64).reshape(-1, channels).sum(axis=0)
        squares += (
            (wide * wide).sum(axis=0, dtype=np.uint64 if integer else np.float64).reshape(-1, channels).sum(axis=0)
        )
    count = max(1, inputs.size // channels)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean * mean, 0.0)) * abs(scale)
    std = np.where(deviation > 1e-6, deviation, 1.0)
    return tuple(round(float(value), 6) for value in mean * scale), tuple(round(float(value), 6) for value in std)


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_int(value) or isinstance(value, (float, np.floating))
