"""Which model to take when the user names none."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.errors import ConfigError

__all__ = ["default_for"]

ENOUGH = 20_000
"""Samples from which ResNet-20 pays for its cost on 32x32 colour images."""


def default_for(kind: str, input_shape: Sequence[int | None], num_samples: int, task: str = "classification") -> str:
    """The name of the model to train on data of a kind ("image", "signal", "volume", "clip") when none was asked for.

    Images with boxes get detector_nano. Signals get conv1d, volumes and clips conv3d. Other images get small_cnn, whose
    depth follows their size; colour images of 24 to 64 pixels get resnet20 once there are 20,000 of them. Raises
    ConfigError for an unknown kind.
    """
    if task == "detection":
        return "detector_nano"
    if kind == "signal":
        return "conv1d"
    if kind in ("volume", "clip"):
        return "conv3d"
    if kind != "image":
        raise ConfigError(
            "models", f"expected kind as image, signal, volume or clip, got {kind!r}; name a model instead"
        )
    sizes = [size for size in input_shape[:-1] if size is not None]
    colour = input_shape[-1] == 3
    if colour and sizes and min(sizes) >= 24 and max(sizes) <= 64 and num_samples >= ENOUGH:
        return "resnet20"
    return "small_cnn"
