"""Weights that come with fovea: networks trained by its own recipes, usable without any download.

The folder ``packaged`` holds, for each, a model file of float16, ``NETWORK-DATA.safetensors``, and a card for people,
``NETWORK-DATA.md``. What is known about them stands in the model file; ``examples/packaged_weights.py`` makes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fovea.graph.serialize import read_metadata
from fovea.models.published import published_for

__all__ = ["FOLDER", "Packaged", "default_weights", "packaged", "packaged_for"]

FOLDER = Path(__file__).with_suffix("")
"""Where the files lie."""


@dataclass(frozen=True)
class Packaged:
    """Weights of one network that were trained on one data set: ``weights=name``, or ``NETWORK:NAME`` as a MODEL.

    ``about``: the model file's provenance, with how it was trained and, under "packaged", what its card says.
    """

    network: str
    name: str
    file: Path
    about: Mapping[str, Any]

    @property
    def card(self) -> Path:
        """The card: data, recipe, accuracy, licence, and the commands that make the file again."""
        return self.file.with_suffix(".md")

    @property
    def accuracy(self) -> float:
        """The share of the test images that this file names rightly."""
        return float(self._said["test"]["accuracy"])

    @property
    def samples(self) -> int:
        """How many test images that is of."""
        return int(self._said["test"]["n"])

    @property
    def data(self) -> str:
        """What it was trained on, in words."""
        return str(self._said["data"])

    @property
    def licence(self) -> str:
        """Of the weights."""
        return str(self._said["licence"])

    @property
    def commands(self) -> tuple[str, ...]:
        """The command lines that make and measure the file."""
        return tuple(self._said["commands"])

    @property
    def megabytes(self) -> float:
        """Size of the file."""
        return self.file.stat().st_size / 1e6

    @property
    def _said(self) -> Mapping[str, Any]:
        said: Mapping[str, Any] = self.about["packaged"]
        return said


@cache
def packaged() -> tuple[Packaged, ...]:
    """All of them, by network and name."""
    return tuple(_read(file) for file in sorted(FOLDER.glob("*.safetensors")))


def packaged_for(network: str) -> dict[str, Packaged]:
    """Those of one network, by name; none for most."""
    return {one.name: one for one in packaged() if one.network == network}


def default_weights(network: str) -> str | None:
    """What to give as ``weights=`` to start a network from what others learned.

    The first that come with fovea; else "torchvision", which are downloaded once, where it publishes some; else None.
    """
    return next(iter(packaged_for(network)), "torchvision" if published_for(network) else None)


def _read(file: Path) -> Packaged:
    network, _, name = file.stem.partition("-")
    return Packaged(network, name, file, read_metadata(file)["provenance"])
